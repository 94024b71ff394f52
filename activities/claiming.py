"""Claims a batch: its bets in the journal, its number, its players' cover on chain, and the statement to prove."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict
from temporalio import activity

from activities.errors import application_errors
from activities.heartbeats import heartbeating
from activities.recording import transition
from settlement.batches import (
    BetStatus,
    Claim,
    ClaimedBatch,
    DuplicateBet,
    Landing,
    RefusedBet,
    Standing,
    Statement,
    Vault,
    statement_for,
)
from settlement.bets import Bet, RejectionReason
from settlement.errors import BatchNumberTaken, JournalUnavailable, LedgerUnavailable, SettlementRefused
from settlement.lifecycle import BatchStatus
from settlement.netting import losses_to_drop, net_by_player
from settlement.ports import Journal, Ledger

PREDECESSOR_SECONDS: Final = 5.0
"""How long one try of a claim waits for batches cut before to be claimed; mostly they are, at that very moment."""

POLL_SECONDS: Final = 0.1


class ClaimRequest(BaseModel):
    """Which batch to claim.

    `pending_detail`: why it is Pending (again). `taken`: a number of this batch that the chain turned out to have given away.
    `after`: batches cut before this one, which must be claimed first, for they may hold what covers its losses.
    """

    model_config = ConfigDict(frozen=True)

    batch_id: str
    lane: int
    bets: tuple[Bet, ...]
    pending_detail: str
    taken: int | None
    after: tuple[str, ...] = ()


class ClaimOutcome(BaseModel):
    """What stands after a claim.

    `settling`: how many bets are left to settle. `sequence`: the batch's latest transition in the journal. With a `statement` the
    batch is Proving, with a `landing` it is Confirmed already. With neither, it has to wait for something (`waiting_for` says what,
    for people; `number` is None if it is not claimed yet), or no bet is left to settle.
    """

    model_config = ConfigDict(frozen=True)

    number: int | None
    sequence: int
    settling: int
    refused: tuple[RefusedBet, ...] = ()
    duplicates: tuple[DuplicateBet, ...] = ()
    landing: Landing | None = None
    statement: Statement | None = None
    waiting_for: str = ""


class Claiming:
    """Activities that decide, with journal and chain, which bets a batch settles."""

    def __init__(self, journal: Journal, ledger: Ledger) -> None:
        self._journal = journal
        self._ledger = ledger

    @activity.defn
    async def claim_batch(self, request: ClaimRequest) -> ClaimOutcome:
        """Claims the batch, or brings an earlier claim of it up to date with what journal and chain say now.

        Idempotent: the journal answers a repeated claim from what it holds, and a bet is ejected only when nothing that would
        settle it can land any more.
        """
        with application_errors():
            async with heartbeating():
                return await self._claim_batch(request)

    async def _claim_batch(self, request: ClaimRequest) -> ClaimOutcome:
        unclaimed = await self._unclaimed(request.after)
        if unclaimed:
            return ClaimOutcome(
                number=None, sequence=0, settling=len(request.bets), waiting_for=f"{unclaimed} to be claimed"
            )
        batch = await self._journal.claim(
            Claim(
                batch_id=request.batch_id,
                lane=request.lane,
                bets=request.bets,
                transition=transition(0, BatchStatus.PENDING, request.pending_detail),
            )
        )
        if batch.status is BatchStatus.CONFIRMED:
            summary = await self._journal.batch(batch.batch_id)
            return _outcome(batch, landing=summary.landing if summary else None)
        house = await self._ledger.house(request.lane)
        if request.taken is not None:
            batch = await self._renumber(batch, request.taken, house.highest_batch)
        vaults = await self._vaults(batch)
        batch = await self._eject_without_vault(batch, vaults)

        uncovered = _uncovered(batch.bets, vaults)
        if uncovered or batch.number <= house.highest_batch:
            waiting = await self._journal.players_waiting(batch.lane, batch.number, sorted(uncovered))
            if waiting:
                return _outcome(batch, waiting_for=f"earlier batches of {', '.join(waiting)} to become final")
            # What an earlier batch has paid meanwhile counts: the balances are read after it is known to be final.
            vaults = await self._vaults(batch)
            uncovered = _uncovered(batch.bets, vaults)
            try:
                standing = await self._standing(batch, vaults)
            except BatchNumberTaken:
                batch = await self._renumber(batch, batch.number, house.highest_batch)
                standing = Standing.NONE_LIVE
            if uncovered and standing is Standing.PENDING:
                return _outcome(batch, waiting_for="its signed attempts to land or to expire")
            if standing is Standing.NONE_LIVE:
                batch = await self._eject(batch, [bet for bets in uncovered.values() for bet in bets])

        if not batch.bets:
            return _outcome(batch)
        proving = transition(batch.sequence + 1, BatchStatus.PROVING)
        await self._journal.record_transition(batch.batch_id, proving)
        # From here on no older try can eject; one that did so a moment ago has left this try with bets that do not stand.
        standing = [record.status for record in await self._journal.bets_of(batch.batch_id)].count(BetStatus.CLAIMED)
        if standing != len(batch.bets):
            raise JournalUnavailable(
                f"another try of batch {batch.batch_id} has ejected bets at the same moment: again"
            )
        batch = batch.model_copy(update={"sequence": proving.sequence})
        return _outcome(batch, statement=_statement(batch, vaults))

    async def _unclaimed(self, after: Sequence[str]) -> str | None:
        """The first batch of `after` that the journal does not know, once it has been given some time."""
        deadline = asyncio.get_running_loop().time() + PREDECESSOR_SECONDS
        for batch_id in after:
            while await self._journal.batch(batch_id) is None:
                if asyncio.get_running_loop().time() > deadline:
                    return batch_id
                await asyncio.sleep(POLL_SECONDS)
        return None

    async def _vaults(self, batch: ClaimedBatch) -> dict[str, Vault]:
        return await self._ledger.vaults(batch.lane, sorted({bet.player for bet in batch.bets}))

    async def _eject_without_vault(self, batch: ClaimedBatch, vaults: Mapping[str, Vault]) -> ClaimedBatch:
        refused = [_without_vault(bet) for bet in batch.bets if bet.player not in vaults]
        if refused and await self._journal.attempts(batch.batch_id):
            # It was proven and signed with that vault, and vaults are never closed: this node does not know them yet.
            raise LedgerUnavailable(f"the node does not show a vault that batch {batch.batch_id} was signed with")
        return await self._eject(batch, refused)

    async def _renumber(self, batch: ClaimedBatch, taken: int, above: int) -> ClaimedBatch:
        number = await self._journal.renumber(batch.batch_id, taken, above)
        return batch.model_copy(update={"number": number})

    async def _eject(self, batch: ClaimedBatch, refused: Sequence[RefusedBet]) -> ClaimedBatch:
        if not refused:
            return batch
        await self._journal.eject(batch.batch_id, refused, batch.sequence)
        ejected = {bet.bet_id for bet in refused}
        return batch.model_copy(
            update={
                "bets": tuple(bet for bet in batch.bets if bet.bet_id not in ejected),
                "refused": (*batch.refused, *refused),
            }
        )

    async def _standing(self, batch: ClaimedBatch, vaults: Mapping[str, Vault]) -> Standing:
        """Whether an earlier run of this batch has settled it, or may still: the journal may be older than the chain."""
        if not batch.bets:
            return Standing.NONE_LIVE
        attempts = await self._journal.attempts(batch.batch_id)
        try:
            return (await self._ledger.judge(_statement(batch, vaults), attempts)).standing
        except BatchNumberTaken:
            raise
        except SettlementRefused:
            return Standing.NONE_LIVE


def _statement(batch: ClaimedBatch, vaults: Mapping[str, Vault]) -> Statement:
    return statement_for(batch.lane, batch.number, batch.bets, {p: vault.index for p, vault in vaults.items()})


def _outcome(
    batch: ClaimedBatch,
    *,
    statement: Statement | None = None,
    landing: Landing | None = None,
    waiting_for: str = "",
) -> ClaimOutcome:
    return ClaimOutcome(
        number=batch.number,
        sequence=batch.sequence,
        settling=len(batch.bets),
        refused=batch.refused,
        duplicates=batch.duplicates,
        statement=statement,
        landing=landing,
        waiting_for=waiting_for,
    )


def _without_vault(bet: Bet) -> RefusedBet:
    return RefusedBet(
        bet_id=bet.bet_id, reason=RejectionReason.NO_VAULT, detail=f"player {bet.player} has no vault on this lane"
    )


def _uncovered(bets: Sequence[Bet], vaults: Mapping[str, Vault]) -> dict[str, list[RefusedBet]]:
    """For each player whose vault cannot cover his net, the bets to refuse."""
    uncovered: dict[str, list[RefusedBet]] = {}
    for player, net in net_by_player(bets).items():
        available = vaults[player].available
        if available + net < 0:
            uncovered[player] = [
                RefusedBet(
                    bet_id=bet.bet_id,
                    reason=RejectionReason.UNCOVERED,
                    detail=f"a loss of {bet.stake} lamports is not covered: the vault of {player} holds {available}",
                )
                for bet in losses_to_drop([bet for bet in bets if bet.player == player], available)
            ]
    return uncovered
