"""Reads what became of a tracked bet."""

from temporalio import activity

from activities.errors import application_errors
from settlement.bets import Bet
from settlement.ports import Journal, Ledger
from settlement.receipts import Receipt, conflict_receipt, read_receipt


class Receipts:
    """The activity behind a tracked bet's result."""

    def __init__(self, journal: Journal, ledger: Ledger) -> None:
        self._journal = journal
        self._ledger = ledger

    @activity.defn
    async def read_receipt(self, bet: Bet) -> Receipt | None:
        """The bet's receipt, or None while it is neither settled nor rejected. See `settlement.receipts.read_receipt`."""
        with application_errors():
            record = await self._journal.bet(bet.bet_id)
            if record is not None and record.bet.digest != bet.digest:
                return conflict_receipt(bet, record)
            return await read_receipt(bet.bet_id, self._journal, self._ledger)
