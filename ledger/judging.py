"""Judges what became of a batch: every attempt ever signed for it, and its record, as the nodes of the cluster show them.

It must never say of an attempt that it cannot land, or of a number that it is taken, unless the finalized chain proves it: that
would pay twice. What it relies on:

- The order of reads: finality of all nodes first, then the statuses, then the record. Each read is at least as fresh as what
  those before it called final.
- A node that does not know an attempt proves that it cannot land only if its own finalized height is past the attempt's last
  valid block, its answer is as of a slot at or above the highest finalized slot that any node has named, it keeps the history
  back to the attempt, and no other node knows the attempt: none, that is, whose own answers are not behind that slot, and no
  node shows it as final. What is not final in a slot that the denying node has finalized is none of the chain's.
- Such a proof is asked of two nodes where two or more are configured, and so is every other verdict that lets a batch be signed
  anew or numbered anew: of two nodes at least one is honest if at most one lies, and the word of an honest one is a proof by
  itself. A record with the batch's own root is believed of one node, unless two others that agree contradict it.
- A node that lies upward, naming a finalized slot or height that is not: its height counts for its own word alone, so it expires
  nothing by itself. A slot that is further than `MAX_LEAD_SLOTS` beyond what every other node names is no measure of theirs; one
  that is less far beyond is reached by the slots that honest nodes answer about attempts as of, which are so much ahead of their
  own finality. So it fools nobody and holds nobody up, unless two do it together. Of two nodes that are further apart nobody can
  tell which errs: each must prove by its own finality, which one that lags does once it gets there.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog
from solders.pubkey import Pubkey

from ledger.failures import Failure, Fault
from ledger.layout import batch_address
from ledger.nodes import QUORUM, Defect, Nodes, joined
from ledger.program_errors import ProgramError
from ledger.rpc import (
    HISTORY_NOT_AVAILABLE,
    MAX_HISTORY_PER_REQUEST,
    ConfirmedAt,
    EpochInfo,
    RequestRefused,
    RpcClient,
    Seen,
    SignatureStatus,
    Transaction,
    TransactionError,
)
from ledger.statuses import has_failed, has_landed, is_expired
from ledger.transactions import SETTLE_POSITION, settled_by
from settlement.batches import Landing, OnChainBatch, SignedAttempt, Standing, Statement, Verdict
from settlement.errors import (
    BatchNumberTaken,
    CroupierError,
    JournalConflict,
    LedgerMisconfigured,
    LedgerUnavailable,
    SettlementRefused,
)

_log = structlog.get_logger(__name__)

MAX_LEAD_SLOTS: Final = 24
"""A node's finalized slot that is further beyond every other node's does not measure them.

Less than finality trails behind what nodes answer as of: 32 blocks behind statuses, about 30 behind simulations at `confirmed`.
"""

BLOCKHASH_BLOCKS: Final = 150
"""For so many blocks a blockhash is good (solana-sdk `MAX_PROCESSING_AGE`)."""
MAX_UNFINAL_BLOCKS: Final = 32
"""So many blocks finality trails behind the newest blockhash."""
MAX_VALID_BLOCKS_AHEAD: Final = 1_500
"""An attempt that is said to be valid for longer (10 minutes of 400 ms blocks) beyond what is final is not signed."""
MAX_SLOTS_PER_BLOCK: Final = 2
"""More slots than these pass per block nowhere for long: how far back in slots a node's history must go is estimated by it."""

MAX_HISTORY_PAGES: Final = 10
"""How far the history of a record's address is searched for a rival's transaction; anybody may mention an address."""

NUMBER_SETTLED: Final = (ProgramError.BATCH_EXISTS, ProgramError.BATCH_NUMBER_TAKEN)
"""By these bets or by others: which, only the record at the configured commitment can say."""

ReadRecord = Callable[[RpcClient, ConfirmedAt], Awaitable[Seen[OnChainBatch | None]]]
"""Reads the record of the batch that is judged from one node."""

Refuse = Callable[[Failure], SettlementRefused]
"""What the program's refusal of the batch that is judged means."""


@dataclass(frozen=True)
class _Sighting:
    """An attempt and what a node says of it, as of the node's slot."""

    attempt: SignedAttempt
    status: SignatureStatus | None
    slot: int

    @property
    def has_landed(self) -> bool:
        """Whether it has succeeded for good."""
        return has_landed(self.status, "finalized")


@dataclass(frozen=True)
class _Testimony:
    """What one node says. `finalized` is what it has named first; `measure`: the slot that its answers on attempts must reach."""

    node: RpcClient
    finalized: EpochInfo
    measure: int
    sightings: tuple[_Sighting, ...]
    searches_history: bool
    record: Seen[OnChainBatch | None]

    @property
    def lag(self) -> str | None:
        """How its answers fall behind what was called final before, if they do."""
        # A record is read as of the node's own finality, which trails a few slots behind that of others.
        answers = [(self.record.slot, self.finalized.absolute_slot), *((s.slot, self.measure) for s in self.sightings)]
        for slot, least in answers:
            if slot < least:
                return (
                    f"{self.node.name} answers as of slot {slot}, behind slot {least} that was called finalized before"
                )
        return None

    def sees_no_life(self, sighting: _Sighting) -> bool:
        """Whether by its word the attempt can have no effect any more, and has had none."""
        last_valid = sighting.attempt.last_valid_block_height
        finalized = self.finalized.model_copy(update={"absolute_slot": self.measure})
        return has_failed(sighting.status) or is_expired(sighting.status, sighting.slot, last_valid, finalized)

    def failure_of(self, attempt: SignedAttempt) -> TransactionError | None:
        """Why it has failed for good, if the node says so."""
        statuses = (sighting.status for sighting in self.sightings if sighting.attempt == attempt)
        return next((status.err for status in statuses if status is not None and has_failed(status)), None)

    def denies(self, signature: str, slot: int) -> bool:
        """Whether it does not know a transaction of a slot that it has finalized itself."""
        return self.finalized.absolute_slot >= slot and any(
            sighting.status is None and sighting.attempt.signature == signature for sighting in self.sightings
        )

    @property
    def history_needed_from(self) -> int:
        """The slot from which on it must keep history, so that not knowing an attempt says something."""
        unknown = [sighting.attempt for sighting in self.sightings if sighting.status is None]
        oldest = min(attempt.last_valid_block_height for attempt in unknown) - BLOCKHASH_BLOCKS
        blocks_since = self.finalized.block_height - oldest
        return max(self.finalized.absolute_slot - MAX_SLOTS_PER_BLOCK * blocks_since, 0)


class _Hearing:
    """All nodes' testimonies on one batch, and why the others give none."""

    def __init__(
        self, nodes: Nodes, testimonies: Sequence[_Testimony], silent: Mapping[RpcClient, CroupierError]
    ) -> None:
        self._nodes = nodes
        self.testimonies = testimonies
        self.silence = [str(error) for error in silent.values()]
        self.required = min(QUORUM, len(nodes.nodes))
        self._known = [
            (testimony.node, sighting.attempt.signature, sighting.status)
            for testimony in testimonies
            for sighting in testimony.sightings
            # One that has stood still in a fork would hold the batch up for ever by what it saw there.
            if sighting.status is not None and (testimony.lag is None or _is_final(sighting.status))
        ]

    async def dead_by_quorum(self, attempts: Sequence[SignedAttempt]) -> Sequence[_Testimony]:
        """Those by whose word none of `attempts` can land any more: enough of them, or none if one may still land.

        Raises `LedgerUnavailable` if too few of the nodes can be believed.
        """
        required = self.required if attempts else 1  # what was never signed needs no proof
        agreeing: list[_Testimony] = []
        reasons = list(self.silence)
        may_land = False
        for testimony in self.testimonies:
            about = replace(testimony, sightings=tuple(s for s in testimony.sightings if s.attempt in attempts))
            if not all(about.sees_no_life(sighting) for sighting in about.sightings):
                may_land = True
            elif (reason := await self._unfitness(about)) is not None:
                reasons.append(reason)
            else:
                agreeing.append(testimony)
        if len(agreeing) >= required:
            return agreeing
        if may_land:
            return ()
        what = f"that no attempt of the batch can land any more is said by {_names(agreeing)} alone"
        raise self.too_few(what, required, reasons)

    def outvotes(self, record: OnChainBatch) -> bool:
        """Whether a quorum of fit nodes agree on another record, or none, as of a slot at which they would have this one too."""
        shown = [t.record.value for t in self.testimonies if t.lag is None and t.record.slot >= record.slot]
        roots = Counter(other.bets_root if other else None for other in shown)
        del roots[record.bets_root]
        return max(roots.values(), default=0) >= QUORUM

    def too_few(self, what: str, required: int, reasons: Iterable[str]) -> LedgerUnavailable:
        """What to raise where a verdict lacks fit nodes."""
        why = "; ".join(reasons)
        if required == 1:
            return LedgerUnavailable(why)
        return LedgerUnavailable(f"{what}, which {required} nodes must say: {why}")

    async def _unfitness(self, testimony: _Testimony) -> str | None:
        """Why the node's word that all is dead must not be taken."""
        if (lag := testimony.lag) is not None:
            return lag
        for teller, signature, status in self._known:
            is_undone = not _is_final(status) and testimony.finalized.absolute_slot >= status.slot
            if not is_undone and any(
                s.status is None and s.attempt.signature == signature for s in testimony.sightings
            ):
                return f"{testimony.node.name} denies attempt {signature}, which {teller.name} knows"
        if all(sighting.status is not None for sighting in testimony.sightings):
            return None
        reason = await self._lack_of_history(testimony)
        self._nodes.note(testimony.node, Defect.WITHOUT_HISTORY, reason)
        return reason

    async def _lack_of_history(self, testimony: _Testimony) -> str | None:
        node, needed = testimony.node, testimony.history_needed_from
        remedy = "a node is needed that keeps it"
        if not testimony.searches_history:
            return f"{node.name} keeps no history of transactions: {remedy}"
        try:
            kept_from = await node.first_available_block()
        except (LedgerUnavailable, LedgerMisconfigured, RequestRefused) as error:
            return f"{node.name} does not say how far back its history goes: {error}"
        if kept_from > needed:
            return (
                f"{node.name} keeps history from slot {kept_from} on, and what became of the attempts may be as old as slot"
                f" {needed}: {remedy}"
            )
        return None


class Judge:
    """Asks the nodes about one batch and gives the verdict. `commitment`: when the batch counts as settled."""

    def __init__(
        self,
        nodes: Nodes,
        program: Pubkey,
        statement: Statement,
        attempts: Sequence[SignedAttempt],
        commitment: ConfirmedAt,
        *,
        read_record: ReadRecord,
        refuse: Refuse,
    ) -> None:
        self._nodes = nodes
        self._program = program
        self._statement = statement
        self._attempts = attempts
        self._commitment: ConfirmedAt = commitment
        self._read_record = read_record
        self._refuse = refuse

    async def verdict(self) -> Verdict:
        """Settled, Pending or None live.

        A finalized failure is raised only if it is the newest attempt's and that attempt was for this very statement; others
        count as dead, for the caller has dealt with them. Raises `BatchNumberTaken`, `VaultUncovered`, `HouseUncovered` or
        `SettlementRefused` only if no attempt can land any more; `LedgerUnavailable`, saying of which node and why, where too few
        can be believed; `JournalConflict` if one of the attempts has settled this number with other bets than the statement's.
        """
        hearing = await self._hear()
        shown = [testimony for testimony in hearing.testimonies if self._shows_record(testimony, hearing)]
        self._require_one_record(shown)
        foreign = [testimony for testimony in shown if not self._is_own(testimony.record.value)]
        # What is final is so as of any slot; what is only confirmed may have been undone in the slots that a node lags behind.
        own = [t for t in shown if t not in foreign and (self._commitment == "finalized" or t.lag is None)]
        if own:
            return await self._settled(own[0], hearing)
        for testimony in foreign:
            _require_foreign(testimony.record.value, self._attempts)
        self._require_record_of_landed(hearing)
        if foreign:
            return await self._judge_taken_number(foreign, hearing)
        agreeing = await hearing.dead_by_quorum(self._attempts)
        if not agreeing:
            return Verdict(standing=Standing.PENDING)
        self._raise_failure_of_newest(agreeing)
        return Verdict(standing=Standing.NONE_LIVE)

    async def _hear(self) -> _Hearing:
        """The order matters: each of these reads must be at least as fresh as those before it."""
        finalized, silent = await self._nodes.everywhere(lambda node: node.epoch_info("finalized"))
        statuses, silent_on_attempts = await self._nodes.everywhere(self._statuses, among=finalized)
        records, silent_on_record = await self._nodes.everywhere(self._record, among=statuses)
        silent |= silent_on_attempts | silent_on_record
        if not records:
            raise joined(silent.values())
        common = measure([finalized[node].absolute_slot for node in records])
        testimonies = [
            _Testimony(
                node,
                finalized[node],
                # Its own word it must bear out in any case.
                max(common, finalized[node].absolute_slot),
                *statuses[node],
                records[node],
            )
            for node in records
        ]
        self._note_lags(testimonies, common)
        self._note_denials(testimonies)
        return _Hearing(self._nodes, testimonies, silent)

    async def _statuses(self, node: RpcClient) -> tuple[tuple[_Sighting, ...], bool]:
        """What the node knows of the attempts, and whether it has searched its history."""
        if not self._attempts:
            return (), True
        signatures = [attempt.signature for attempt in self._attempts]
        searches_history = True
        try:
            statuses = await node.signature_statuses(signatures)
        except RequestRefused as refusal:
            if refusal.code != HISTORY_NOT_AVAILABLE:
                raise
            # What it knows of the last minutes may still tell how the batch has landed.
            searches_history = False
            statuses = await node.signature_statuses(signatures, search_history=False)
        sightings = (
            _Sighting(a, status.value, status.slot) for a, status in zip(self._attempts, statuses, strict=True)
        )
        return tuple(sightings), searches_history

    async def _record(self, node: RpcClient) -> Seen[OnChainBatch | None]:
        return await self._read_record(node, self._commitment)

    def _is_own(self, record: OnChainBatch | None) -> bool:
        return record is not None and record.bets_root == self._statement.bets_root

    def _shows_record(self, testimony: _Testimony, hearing: _Hearing) -> bool:
        """Whether it shows a record that counts: one that is outvoted would let a lone node settle a batch or hold it up."""
        record = testimony.record.value
        if record is None:
            return False
        outvoted = hearing.outvotes(record)
        detail = (
            f"{testimony.node.name} shows another record of batch {record.number} of lane {record.lane} than others"
        )
        self._nodes.note(testimony.node, Defect.OUTVOTED, detail if outvoted else None)
        return not outvoted

    def _require_one_record(self, shown: Sequence[_Testimony]) -> None:
        roots = {testimony.record.value.bets_root: testimony for testimony in shown if testimony.record.value}
        if len(roots) > 1:
            raise LedgerUnavailable(
                f"{_names(roots.values())} show different records of batch {self._statement.number} of lane"
                f" {self._statement.lane}: one of them lies, or sees a fork"
            )

    def _require_record_of_landed(self, hearing: _Hearing) -> None:
        for testimony in hearing.testimonies:
            landed = next((sighting for sighting in testimony.sightings if sighting.has_landed), None)
            if landed is not None:
                raise LedgerUnavailable(
                    f"{testimony.node.name} says that attempt {landed.attempt.signature} has landed, but shows no record of"
                    f" batch {self._statement.number} of lane {self._statement.lane} with its bets root"
                )

    async def _judge_taken_number(self, foreign: Sequence[_Testimony], hearing: _Hearing) -> Verdict:
        """The record has another root, so no attempt for this number can land as long as the record stays."""
        under_other_numbers = [attempt for attempt in self._attempts if attempt.number != self._statement.number]
        if under_other_numbers and not await hearing.dead_by_quorum(under_other_numbers):
            return Verdict(standing=Standing.PENDING)
        record = foreign[0].record.value
        assert record is not None
        final = [testimony for testimony in foreign if await self._is_final(testimony.node, record)]
        others = [testimony for testimony in hearing.testimonies if testimony not in final]
        if len(final) >= hearing.required:
            raise number_taken(record)
        if not final or any(testimony.record.slot < record.slot for testimony in others):
            return Verdict(standing=Standing.PENDING)
        what = f"that batch number {record.number} of lane {record.lane} is taken is said by {_names(final)} alone"
        denials = [f"{testimony.node.name} shows no such record" for testimony in others]
        raise hearing.too_few(what, hearing.required, [*denials, *hearing.silence])

    async def _is_final(self, node: RpcClient, record: OnChainBatch) -> bool:
        if self._commitment == "finalized":
            return True
        final = (await self._read_record(node, "finalized")).value
        return final is not None and final.bets_root == record.bets_root

    def _raise_failure_of_newest(self, agreeing: Sequence[_Testimony]) -> None:
        """Raises what the program has said of the newest attempt, if that concerns this statement and it alone.

        Nobody among those who agree denies what another one shows, so all of them show its failure, or none.
        """
        newest = max(self._attempts, key=lambda attempt: attempt.attempt, default=None)
        if newest is None or settled_by(newest) != (self._statement.number, self._statement.bets_root):
            return
        errors = [error for testimony in agreeing if (error := testimony.failure_of(newest)) is not None]
        if not errors or any(error != errors[0] for error in errors):
            return
        failure = Failure.of(errors[0], [SETTLE_POSITION])
        if failure.fault is Fault.SETTLEMENT and failure.program_error not in NUMBER_SETTLED:
            raise self._refuse(failure)

    # How a settled batch has landed.

    async def _settled(self, shown: _Testimony, hearing: _Hearing) -> Verdict:
        record = shown.record.value
        assert record is not None
        landing = await self._landing(record, [shown, *(t for t in hearing.testimonies if t is not shown)])
        return Verdict(standing=Standing.SETTLED, landing=landing, final=await self._is_final(shown.node, record))

    async def _landing(self, record: OnChainBatch, testimonies: Sequence[_Testimony]) -> Landing:
        """Only one transaction of a fork can have made the record: one of the attempts, or a rival's."""
        signature = next(
            (
                sighting.attempt.signature
                for testimony in testimonies
                for sighting in testimony.sightings
                if sighting.attempt.number == record.number
                and sighting.status is not None
                and sighting.status.err is None
                and sighting.status.slot == record.slot
            ),
            None,
        )
        nodes = [testimony.node for testimony in testimonies]
        if signature is not None:
            transaction = await self._transaction(signature, nodes)
        else:
            signature, transaction = await self._rival(record, nodes)
        meta = transaction.meta if transaction else None
        return Landing(
            signature=signature,
            slot=record.slot,
            compute_units=meta.compute_units_consumed if meta else None,
            fee_lamports=meta.fee if meta else None,
        )

    async def _transaction(self, signature: str, nodes: Sequence[RpcClient]) -> Transaction | None:
        """None where no node keeps the history of it, or tells: what it cost is worth no delay of what is settled.

        Only those are asked that have answered just now.
        """
        for node in nodes:
            try:
                if (transaction := await node.transaction(signature, self._commitment)) is not None:
                    return transaction
            except (LedgerUnavailable, LedgerMisconfigured, RequestRefused) as error:
                _log.warning("transaction not shown", node=node.name, signature=signature, why=str(error))
        return None

    async def _rival(self, record: OnChainBatch, nodes: Sequence[RpcClient]) -> tuple[str, Transaction | None]:
        """The transaction that made the record, from the history of the record's address on the first node that has it."""
        reasons = ""
        for node in nodes:
            try:
                if (rival := await self._rival_on(node, record)) is not None:
                    return rival
            except (LedgerUnavailable, LedgerMisconfigured, RequestRefused) as error:
                reasons += f"; {error}"
        raise LedgerUnavailable(
            f"batch {record.number} of lane {record.lane} is settled, but {', '.join(node.name for node in nodes)} does not"
            f" know by which transaction: a node is needed that keeps the history of slot {record.slot}{reasons}"
        )

    async def _rival_on(self, node: RpcClient, record: OnChainBatch) -> tuple[str, Transaction | None] | None:
        """Anybody may name the record's address in a transaction; only the authority's can both succeed and call the program."""
        address = batch_address(self._program, record.lane, record.number)
        candidates: list[str] = []
        before: str | None = None
        for _ in range(MAX_HISTORY_PAGES):
            page = await node.signatures_for(address, self._commitment, before)
            candidates += [info.signature for info in page if info.err is None and info.slot == record.slot]
            if len(page) < MAX_HISTORY_PER_REQUEST or page[-1].slot < record.slot:
                break
            before = page[-1].signature
        if len(candidates) == 1:
            return candidates[0], await self._transaction(candidates[0], [node])
        for signature in candidates:
            transaction = await node.transaction(signature, self._commitment)
            if transaction is not None and str(self._program) in transaction.programs:
                return signature, transaction
        return None

    # Who errs.

    def _note_lags(self, testimonies: Sequence[_Testimony], common: int) -> None:
        for testimony in testimonies:
            claim, name = testimony.finalized.absolute_slot, testimony.node.name
            lag = testimony.lag
            if lag is None and claim < common - MAX_LEAD_SLOTS:
                lag = f"{name} calls slot {claim} finalized, and another node slot {common}"
            self._nodes.note(testimony.node, Defect.BEHIND, lag)
            lead = f"{name} calls slot {claim} finalized, no other node one beyond {common}: it errs, or they lag"
            self._nodes.note(testimony.node, Defect.AHEAD, lead if claim > common + MAX_LEAD_SLOTS else None)

    def _note_denials(self, testimonies: Sequence[_Testimony]) -> None:
        """Notes who does not know what another node shows as final in a slot that both have finalized."""
        shown = {
            sighting.attempt.signature: (testimony.node, sighting.status.slot)
            for testimony in testimonies
            for sighting in testimony.sightings
            if sighting.status is not None and (sighting.has_landed or has_failed(sighting.status))
        }
        if not shown:
            return
        for testimony in testimonies:
            denied = next(
                (
                    f"{testimony.node.name} does not know attempt {signature}, which {teller.name} shows in slot {slot}"
                    for signature, (teller, slot) in shown.items()
                    if testimony.denies(signature, slot)
                ),
                None,
            )
            self._nodes.note(testimony.node, Defect.DENIES, denied)


def measure(finalized_slots: Sequence[int]) -> int:
    """The slot that every node's answers on attempts must reach: the highest that a node calls finalized.

    One that is more than `MAX_LEAD_SLOTS` beyond all others (which nothing but its own word bears out) does not count.
    """
    highest, *others = sorted(finalized_slots, reverse=True)
    return others[0] if others and highest - others[0] > MAX_LEAD_SLOTS else highest


def last_valid_height(named: int, finalized_heights: Sequence[int]) -> int:
    """Up to which height an attempt may land whose node says `named`, by what several nodes call final just after.

    Too low, and a live attempt would be proven dead; so it is never below what the blockhash may be good for by the highest
    finality. Too high, and the batch waits for longer, so a claim from too far above is not taken. Raises `LedgerUnavailable`.
    """
    most = measure(finalized_heights) + MAX_VALID_BLOCKS_AHEAD
    believed = [height for height in finalized_heights if height <= most]
    if len(believed) < min(QUORUM, len(finalized_heights)):
        raise LedgerUnavailable(
            f"the nodes call heights {', '.join(map(str, sorted(finalized_heights)))} finalized: they are too far apart to tell up"
            " to which one an attempt may land"
        )
    if named > most:
        raise LedgerUnavailable(f"a blockhash is said to be good up to height {named}, and no two nodes are near it")
    return max(named, max(believed) + BLOCKHASH_BLOCKS + MAX_UNFINAL_BLOCKS)


def _is_final(status: SignatureStatus) -> bool:
    return status.confirmation_status == "finalized"


def _require_foreign(record: OnChainBatch | None, attempts: Sequence[SignedAttempt]) -> None:
    """Raises `JournalConflict` if one of the batch's own attempts made a record that is not the statement's."""
    assert record is not None
    own = next((a for a in attempts if settled_by(a) == (record.number, record.bets_root)), None)
    if own is not None:
        # No refusal, which a caller may answer with another number: that would pay these bets twice.
        raise JournalConflict(
            f"attempt {own.signature} of this batch has settled number {record.number} of lane {record.lane} with other"
            f" bets than are to be settled now (root {record.bets_root:064x}): compare journal and chain by hand"
        )


def number_taken(record: OnChainBatch) -> BatchNumberTaken:
    """The refusal that only another number mends."""
    return BatchNumberTaken(
        f"batch number {record.number} of lane {record.lane} was taken in slot {record.slot} by a batch with root"
        f" {record.bets_root:064x}"
    )


def _names(testimonies: Iterable[_Testimony]) -> str:
    return ", ".join(testimony.node.name for testimony in testimonies) or "no node"
