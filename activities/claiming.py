"""Claims a batch: its bets in the journal, its number, its players' cover on chain, and the statement to prove."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Final
from weakref import WeakValueDictionary

from pydantic import BaseModel, ConfigDict
from temporalio import activity

from activities.errors import application_errors
from activities.heartbeats import heartbeating
from activities.recording import transition
from settlement.batches import (
    Claim,
    ClaimedBatch,
    DuplicateBet,
    Landing,
    RefusedBet,
    SignedAttempt,
    Standing,
    Statement,
    Vault,
    statement_for,
)
from settlement.bets import Bet, RejectionReason
from settlement.errors import (
    BatchNumberTaken,
    BatchUnknown,
    JournalBehind,
    JournalConflict,
    JournalUnavailable,
    LedgerUnavailable,
    NumberInUse,
    SettlementRefused,
)
from settlement.lifecycle import BatchStatus
from settlement.netting import losses_to_drop, net_by_player
from settlement.ports import Journal, Ledger

PREDECESSOR_SECONDS: Final = 2.0
"""How long one try of a claim waits for batches cut before to be claimed; mostly they are, at that very moment."""

POLL_SECONDS: Final = 0.5
"""How often the journal is asked for what other workers have claimed meanwhile."""

BATCHES_PER_PAGE: Final = 1_000
"""How many of the journal's batches are read at once where they are held against the chain's numbers."""

SHOWN_BETS: Final = 5
"""So many bets are named where a person must look after them."""


class Signed(BaseModel):
    """What a workflow remembers of its batch's attempts that may still land: they all settle `statement`."""

    model_config = ConfigDict(frozen=True)

    statement: Statement
    attempts: tuple[SignedAttempt, ...]


class ClaimRequest(BaseModel):
    """Which batch to claim.

    `pending_detail`: why it is Pending (again). `taken`: a number of this batch that the chain turned out to have given away.
    `after`: batches cut before this one, which must be claimed first, for they may hold what covers its losses.
    `revived`: what was signed for it before this run may be unknown. `own_bets`: it settles what the journal holds of it, and `bets`
    is what that was, once known.
    `number`, `refused`, `duplicates`, `signed`: what earlier claims and signatures have come to, should the journal have lost it.
    """

    model_config = ConfigDict(frozen=True)

    batch_id: str
    lane: int
    bets: tuple[Bet, ...]
    pending_detail: str
    taken: int | None
    after: tuple[str, ...] = ()
    revived: bool = False
    own_bets: bool = False
    number: int | None = None
    refused: tuple[RefusedBet, ...] = ()
    duplicates: tuple[DuplicateBet, ...] = ()
    signed: Signed | None = None


class ClaimOutcome(BaseModel):
    """What stands after a claim.

    `settling`: how many bets are left to settle. `sequence`: the batch's latest transition in the journal. With a `landing` the batch
    is Confirmed already, by its `statement`; with a `statement` alone it is Proving. With neither, it has to wait for something
    (`waiting_for` says what, for people; `number` is None if it is not claimed yet), or no bet is left to settle.
    `none_live`: no attempt of the request's can land any more. `own_bets`: the journal's, if they were asked for.
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
    none_live: bool = False
    own_bets: tuple[Bet, ...] = ()


class Claiming:
    """Activities that decide, with journal and chain, which bets a batch settles."""

    def __init__(self, journal: Journal, ledger: Ledger) -> None:
        self._journal = journal
        self._ledger = ledger
        self._awaited = WeakValueDictionary[str, asyncio.Event]()

    @activity.defn
    async def claim_batch(self, request: ClaimRequest) -> ClaimOutcome:
        """Claims the batch, or brings an earlier claim of it up to date with what journal and chain say now.

        Each step is one transaction of the journal's, and a try that dies after any of them leaves what the next try completes:
        - claimed: the journal answers a repeated claim from what it holds, and puts the batch back to Pending only if it is not;
        - attempts put back: by their signatures, so each once;
        - renumbered: only a batch that still has the number that was taken, so a repeat finds the new one;
        - ejected: a rejected bet stays rejected. Only what nothing can settle any more is ejected, and only by a try that has seen
          the batch's latest transition and judged all its attempts, so a stalled try cannot eject from under a later one;
        - Proving: a transition has its number, and a repeat puts the batch back to Pending first.
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
        # Before anything is decided anew: what was signed may have settled the batch, or may still.
        signed_standing = await self._standing_of_signed(request)
        batch, highest = await self._claimed(request, signed_standing)
        if (awaited := self._awaited.get(batch.batch_id)) is not None:
            awaited.set()
        if request.signed is not None:
            await self._journal.restore_attempts(batch.batch_id, request.signed.attempts)
        if batch.status is BatchStatus.CONFIRMED:
            return await self._confirmed(request, batch)
        if highest is None:
            highest = (await self._ledger.house(request.lane)).highest_batch
        if request.taken is not None:
            batch = await self._renumber(request, batch, request.taken, highest)
        vaults = await self._vaults(batch)
        if any(bet.player not in vaults for bet in batch.bets):
            vaults = await self._vaults(batch, by_quorum=True)
        batch = await self._eject_without_vault(batch, vaults)

        uncovered = _uncovered(batch.bets, vaults)
        if request.signed is not None and signed_standing is not Standing.NONE_LIVE:
            others = _settled_twice(request.signed, batch, vaults)
            if others and signed_standing is Standing.SETTLED:
                raise JournalConflict(others)
            if others:
                return _outcome(batch, waiting_for=f"its signed attempts to land or to expire: {others}")
        elif uncovered or batch.number <= highest or request.revived:
            waiting = await self._journal.players_waiting(batch.lane, batch.number, sorted(uncovered))
            if waiting:
                return _outcome(batch, waiting_for=f"earlier batches of {', '.join(waiting)} to become final")
            if uncovered:
                # What an earlier batch has paid meanwhile counts: the balances are read after it is known to be final.
                vaults = await self._vaults(batch, by_quorum=True)
                if any(bet.player not in vaults for bet in batch.bets):
                    raise LedgerUnavailable(f"the nodes contradict each other on the vaults of lane {batch.lane}")
                uncovered = _uncovered(batch.bets, vaults)
            attempts = await self._journal.attempts(batch.batch_id)
            try:
                standing = await self._standing(batch, vaults, attempts)
            except BatchNumberTaken:
                batch = await self._renumber(request, batch, batch.number, highest)
                standing = Standing.NONE_LIVE
            if uncovered and standing is Standing.PENDING:
                return _outcome(batch, waiting_for="its signed attempts to land or to expire")
            if standing is Standing.NONE_LIVE:
                refused = [bet for bets in uncovered.values() for bet in bets]
                batch = await self._eject(batch, refused, judged_attempts=len(attempts))

        none_live = signed_standing is Standing.NONE_LIVE
        if not batch.bets:
            return _outcome(batch, none_live=none_live)
        proving = transition(batch.sequence + 1, BatchStatus.PROVING)
        await self._journal.record_transition(batch.batch_id, proving)
        # From here on no older try can eject; one that did so a moment ago has left this try with bets that do not stand.
        if await self._journal.claimed_bets(batch.batch_id) != len(batch.bets):
            raise JournalUnavailable(
                f"another try of batch {batch.batch_id} has ejected bets at the same moment: again"
            )
        batch = batch.model_copy(update={"sequence": proving.sequence})
        own_bets = await self._own_bets(request)
        return _outcome(batch, statement=_statement(batch, vaults), none_live=none_live, own_bets=own_bets)

    async def _own_bets(self, request: ClaimRequest) -> tuple[Bet, ...]:
        records = await self._journal.bets_of(request.batch_id) if request.own_bets else []
        return tuple(record.bet for record in records)

    async def _confirmed(self, request: ClaimRequest, batch: ClaimedBatch) -> ClaimOutcome:
        """What was settled, for whoever has to ask whether a fork can still undo it; of the chain nothing is asked here."""
        summary = await self._journal.batch(batch.batch_id)
        if summary is None or summary.landing is None:
            raise JournalUnavailable(f"the journal has just lost batch {batch.batch_id}: again")
        indices = {slot.player: slot.vault_index for slot in await self._journal.slots(batch.batch_id)}
        is_whole = batch.bets and indices.keys() == {bet.player for bet in batch.bets}
        statement = statement_for(batch.lane, batch.number, batch.bets, indices) if is_whole else None
        if statement is None or statement.bets_root != summary.bets_root:
            raise JournalConflict(
                f"the bets that the journal calls settled in batch {batch.batch_id} are not those of its recorded root: compare journal"
                " and chain by hand (`python starter.py reconcile`)"
            )
        own_bets = await self._own_bets(request)
        return _outcome(batch, statement=statement, landing=summary.landing, own_bets=own_bets)

    async def _claimed(self, request: ClaimRequest, signed_standing: Standing) -> tuple[ClaimedBatch, int | None]:
        """The batch as the journal holds it now, or takes it; and the lane's highest number on chain, if that was asked for."""
        try:
            return await self._claimed_as(request, request.number)
        except NumberInUse:
            # Another number only if nothing of it was settled under the one that it had, and nothing can be any more.
            if request.number is None or signed_standing is not Standing.NONE_LIVE:
                raise
            if request.revived and not await self._is_settled_by_another(request.lane, request.number):
                raise
            return await self._claimed_as(request, None)

    async def _claimed_as(self, request: ClaimRequest, number: int | None) -> tuple[ClaimedBatch, int | None]:
        pending = transition(0, BatchStatus.PENDING, request.pending_detail)
        if request.own_bets:
            try:
                resumed = await self._journal.resume(request.batch_id, request.lane, pending, number, request.refused)
                return _with_others(resumed, request), None
            except BatchUnknown:
                if not request.bets or request.number is None:
                    raise
        claim = Claim(
            batch_id=request.batch_id,
            lane=request.lane,
            bets=request.bets,
            transition=pending,
            number=number,
            refused=request.refused,
            duplicates=request.duplicates,
        )
        return await self._claimed_anew(claim) if number is None else (await self._journal.claim(claim), None)

    async def _is_settled_by_another(self, lane: int, number: int) -> bool:
        """Whether the final record of a number that another batch has in the journal is that one's: no other can land there then."""
        for summary in await self._journal.batches(lane, number - 1, 1):
            if (summary.number, summary.status) == (number, BatchStatus.CONFIRMED):
                records = await self._ledger.batch_records(lane)
                return any((record.number, record.bets_root) == (number, summary.bets_root) for record in records)
        return False

    async def _claimed_anew(self, claim: Claim) -> tuple[ClaimedBatch, int | None]:
        """Claims what the journal may not know yet, and so may have to get a new number. Not behind the chain's back."""
        if await self._journal.batch(claim.batch_id) is not None:
            return await self._journal.claim(claim), None
        highest = (await self._ledger.house(claim.lane)).highest_batch
        claim = claim.model_copy(update={"highest_on_chain": highest})
        try:
            return await self._journal.claim(claim), highest
        except JournalBehind as behind:
            await self._require_complete(claim.lane, behind.complete_up_to, highest)
            return await self._journal.claim(claim.model_copy(update={"complete_up_to": highest})), highest

    async def _require_complete(self, lane: int, above: int, highest: int) -> None:
        """Raises `JournalBehind` unless the journal holds every batch numbered above `above` that is on chain.

        The highest comes first: once its record counts as settled, so do those of all that landed before it.
        """
        known: set[int] = set()
        after = above
        while page := await self._journal.batches(lane, after, BATCHES_PER_PAGE):
            known |= {summary.number for summary in page}
            after = page[-1].number
        if highest in known and await self._ledger.batch_record(lane, highest) is None:
            raise LedgerUnavailable(f"batch {highest} of lane {lane} is on chain, but not final yet")
        for number in range(highest, above, -1):
            if number not in known and (number == highest or await self._ledger.batch_record(lane, number) is not None):
                raise JournalBehind(
                    f"the chain holds batch {number} of lane {lane}, the journal does not: it is an older copy, and a new batch might"
                    " settle bets again. `python starter.py reconcile` puts back what it finds in Temporal; else restore a newer"
                    " copy of the journal",
                    above,
                )

    async def _standing_of_signed(self, request: ClaimRequest) -> Standing:
        """What became of the attempts that the workflow remembers, whatever the journal holds."""
        if request.signed is None:
            return Standing.NONE_LIVE
        try:
            return (await self._ledger.judge(request.signed.statement, request.signed.attempts)).standing
        except SettlementRefused:
            return Standing.NONE_LIVE

    async def _unclaimed(self, after: Sequence[str]) -> str | None:
        """The first batch of `after` that the journal does not know, once it has been given some time."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + PREDECESSOR_SECONDS
        while after:
            latest = after[-1]
            claimed_here = self._awaited.setdefault(latest, asyncio.Event())
            after = await self._journal.unknown(after)
            if after and clock() > deadline:
                return after[0]
            if latest in after:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(claimed_here.wait(), POLL_SECONDS)
        return None

    async def _vaults(self, batch: ClaimedBatch, *, by_quorum: bool = False) -> dict[str, Vault]:
        """`by_quorum`: a bet is refused only by what these lack."""
        return await self._ledger.vaults(batch.lane, sorted({bet.player for bet in batch.bets}), by_quorum=by_quorum)

    async def _eject_without_vault(self, batch: ClaimedBatch, vaults: Mapping[str, Vault]) -> ClaimedBatch:
        refused = [_without_vault(bet) for bet in batch.bets if bet.player not in vaults]
        if refused and await self._journal.attempts(batch.batch_id):
            # It was proven and signed with that vault, and vaults are never closed: this node does not know them yet.
            raise LedgerUnavailable(f"the node does not show a vault that batch {batch.batch_id} was signed with")
        return await self._eject(batch, refused, judged_attempts=0)

    async def _renumber(self, request: ClaimRequest, batch: ClaimedBatch, taken: int, above: int) -> ClaimedBatch:
        if request.revived and batch.number == taken:
            raise JournalConflict(
                f"the chain has settled number {taken} of lane {batch.lane} with other bets than those that stand in batch"
                f" {batch.batch_id}. It was started again, so what was signed for it before may be unknown, and another number might"
                " settle its bets twice: compare journal and chain by hand (`python starter.py reconcile`)"
            )
        number = await self._journal.renumber(batch.batch_id, taken, above, batch.sequence)
        return batch.model_copy(update={"number": number})

    async def _eject(self, batch: ClaimedBatch, refused: Sequence[RefusedBet], *, judged_attempts: int) -> ClaimedBatch:
        if not refused:
            return batch
        await self._journal.eject(batch.batch_id, refused, batch.sequence, judged_attempts)
        ejected = {bet.bet_id for bet in refused}
        return batch.model_copy(
            update={
                "bets": tuple(bet for bet in batch.bets if bet.bet_id not in ejected),
                "refused": (*batch.refused, *refused),
            }
        )

    async def _standing(
        self, batch: ClaimedBatch, vaults: Mapping[str, Vault], attempts: Sequence[SignedAttempt]
    ) -> Standing:
        """Whether an earlier run of this batch has settled it, or may still: the journal may be older than the chain."""
        if not batch.bets:
            return Standing.NONE_LIVE
        try:
            return (await self._ledger.judge(_statement(batch, vaults), attempts)).standing
        except BatchNumberTaken:
            raise
        except SettlementRefused:
            return Standing.NONE_LIVE


def _statement(batch: ClaimedBatch, vaults: Mapping[str, Vault]) -> Statement:
    return statement_for(batch.lane, batch.number, batch.bets, {p: vault.index for p, vault in vaults.items()})


def _with_others(resumed: ClaimedBatch, request: ClaimRequest) -> ClaimedBatch:
    """With what was another batch's when this one was cut: of that it has no rows, and a run after this one must know it as well."""
    conflicts = [bet for bet in request.refused if bet.reason is RejectionReason.CONFLICT]
    return resumed.model_copy(update={"refused": (*resumed.refused, *conflicts), "duplicates": request.duplicates})


def _settled_twice(signed: Signed, batch: ClaimedBatch, vaults: Mapping[str, Vault]) -> str:
    """Which bets the attempts settle that are not the batch's (any more), as a text for people; empty if there are none.

    Their journal was lost and other batches have claimed them since, so that they may be settled there as well.
    """
    if batch.bets and _statement(batch, vaults).bets_root == signed.statement.bets_root:
        return ""
    named = [f"{bet.bet_id} in {bet.batch_id}" for bet in batch.duplicates[:SHOWN_BETS]]
    more = len(batch.duplicates) - len(named)
    return (
        f"attempt {signed.attempts[-1].signature} settles number {signed.statement.number} of lane {batch.lane} with"
        f" {len(signed.statement.entries)} bets, of which {len(batch.bets)} are batch {batch.batch_id}'s now. The journal was restored"
        f" from an older copy, and these were claimed by other batches since, which may settle them again:"
        f" {', '.join(named) or 'none'}{f' and {more} more' if more else ''}. Compare journal and chain by hand"
        " (`python starter.py reconcile`)"
    )


def _outcome(
    batch: ClaimedBatch,
    *,
    statement: Statement | None = None,
    landing: Landing | None = None,
    waiting_for: str = "",
    none_live: bool = False,
    own_bets: tuple[Bet, ...] = (),
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
        none_live=none_live,
        own_bets=own_bets,
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
