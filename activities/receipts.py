"""Reads what became of a bet, with the proof that its batch's root on chain contains it."""

from temporalio import activity

from activities.errors import application_errors
from settlement.batches import BetStatus, statement_for
from settlement.errors import JournalConflict
from settlement.ports import Journal, Ledger
from settlement.receipts import Receipt, inclusion_of, rejected_receipt


class Receipts:
    """The activity behind a tracked bet's result; `starter.py status` asks the same."""

    def __init__(self, journal: Journal, ledger: Ledger) -> None:
        self._journal = journal
        self._ledger = ledger

    @activity.defn
    async def read_receipt(self, bet_id: str) -> Receipt | None:
        """The bet's receipt, or None while it is neither settled nor rejected.

        Raises `JournalConflict` if the journal's bets do not give the root that was settled.
        """
        with application_errors():
            record = await self._journal.bet(bet_id)
            if record is None or record.status is BetStatus.CLAIMED:
                return None
            if record.status is BetStatus.REJECTED:
                return rejected_receipt(record)
            batch = await self._journal.batch(record.batch_id)
            assert batch is not None, "the journal's foreign keys tie each bet to a batch"
            bets = [
                other.bet for other in await self._journal.bets_of(record.batch_id) if other.status is BetStatus.SETTLED
            ]
            vaults = await self._ledger.vaults(batch.lane, sorted({bet.player for bet in bets}))
            indices = {player: vault.index for player, vault in vaults.items()}
            statement = statement_for(batch.lane, batch.number, bets, indices)
            if statement.bets_root != batch.bets_root:
                raise JournalConflict(
                    f"the journal's bets of {batch.batch_id} do not give the root that was settled: "
                    "run `python starter.py reconcile`"
                )
            return Receipt(
                bet_id=bet_id,
                status="settled",
                bet=record.bet,
                batch_id=batch.batch_id,
                lane=batch.lane,
                number=batch.number,
                landing=batch.landing,
                bets_root=statement.bets_root,
                inclusion=inclusion_of([bet.bet_id for bet in bets].index(bet_id), bets, statement),
            )
