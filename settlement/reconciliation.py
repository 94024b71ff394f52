"""What a comparison of journal and chain finds. The chain is the truth, the journal is the record."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict

from settlement.batches import BatchSummary, BetRecord, BetStatus, Movement, OnChainBatch, statement_for
from settlement.netting import house_delta, net_by_player


class FindingKind(StrEnum):
    """How journal and chain can differ, and what a batch or a lane can wait for in vain."""

    NOT_ON_CHAIN = "not_on_chain"
    NOT_IN_JOURNAL = "not_in_journal"
    SETTLED_UNRECORDED = "settled_unrecorded"
    TRANSACTION_UNKNOWN = "transaction_unknown"
    TRANSACTION_DIFFERS = "transaction_differs"
    CIRCUIT_DIFFERS = "circuit_differs"
    ROOT_DIFFERS = "root_differs"
    COUNTS_DIFFER = "counts_differ"
    HOUSE_DELTA_DIFFERS = "house_delta_differs"
    BALANCE_DIFFERS = "balance_differs"
    JOURNAL_INCONSISTENT = "journal_inconsistent"
    RESTARTED = "restarted"
    SLOT_FREED = "slot_freed"
    LOST_BATCH = "lost_batch"
    NOT_RESTARTED = "not_restarted"


MAX_REASON_CHARS: Final = 500
"""Of what another system says so much is shown in a finding."""

IN_BATCH: Final = " in "
"""Between what is meant and its batch, in a finding's subject."""

REPAIRS: Final = frozenset({FindingKind.RESTARTED, FindingKind.SLOT_FREED})


class Finding(BaseModel):
    """One difference. `subject` names the batch, or what of it; `journal` and `chain` show both sides for a person to read."""

    model_config = ConfigDict(frozen=True)

    kind: FindingKind
    subject: str
    journal: str
    chain: str

    @property
    def batch(self) -> str:
        """The batch in question, by its id, if there is one in the journal."""
        return self.subject.rpartition(IN_BATCH)[2]


class ReconciliationReport(BaseModel):
    """One run over one lane. `open_batches`: how many of the journal's batches are not final yet and so were not compared.

    `batches`: how many could be compared or are open, None in reports from before that was counted; a scheduled run compares some.
    `further`: how many findings more the journal has of this run, where these are an extract.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    lane: int
    at: AwareDatetime
    batches_compared: int
    players_compared: int
    open_batches: int
    findings: tuple[Finding, ...]
    further: int = 0
    batches: int | None = None

    @property
    def extent(self) -> str:
        """How much was compared, and of how much."""
        of_all = "" if self.batches is None else f" of {self.batches:,}"
        return f"{self.batches_compared:,}{of_all} batches and {self.players_compared:,} players"

    @property
    def agreed(self) -> bool:
        """Whether journal and chain tell the same wherever they were compared, and nothing had to be repaired."""
        return not self.findings and not self.further

    def extract(self, room: int) -> "ReconciliationReport":
        """The report with only so many of its findings as take up to `room` bytes as JSON, the first ones; the others are counted."""
        for count, finding in enumerate(self.findings):
            room -= len(finding.model_dump_json().encode()) + len(",")
            if room < 0:
                further = self.further + len(self.findings) - count
                return self.model_copy(update={"findings": self.findings[:count], "further": further})
        return self

    @property
    def repairs(self) -> tuple[Finding, ...]:
        """What was found and repaired at once: if that was all, a later run agrees."""
        return tuple(finding for finding in self.findings if finding.kind in REPAIRS)

    @property
    def differences(self) -> tuple[Finding, ...]:
        """What a person must look at."""
        return tuple(finding for finding in self.findings if finding.kind not in REPAIRS)


class SettledBatch(BaseModel):
    """Both sides of a batch that the journal calls Confirmed.

    `record`, `movement`: what the chain holds, or None; `vault_indices`: by player, from the chain.
    """

    model_config = ConfigDict(frozen=True)

    summary: BatchSummary
    bets: tuple[BetRecord, ...]
    record: OnChainBatch | None
    movement: Movement | None
    vault_indices: Mapping[str, int]


def compare_batch(batch: SettledBatch) -> Iterator[Finding]:
    """Differences between the journal's batch, recomputed from its bets, and the chain's."""
    summary, record, movement = batch.summary, batch.record, batch.movement

    def finding(kind: FindingKind, journal: object, chain: object, subject: str = summary.batch_id) -> Finding:
        return Finding(kind=kind, subject=subject, journal=str(journal), chain=str(chain))

    bets = [record.bet for record in batch.bets if record.status is BetStatus.SETTLED]
    claimed = sum(record.status is BetStatus.CLAIMED for record in batch.bets)
    if claimed:
        yield finding(FindingKind.JOURNAL_INCONSISTENT, f"Confirmed, with {claimed} bets still claimed", "-")
    without_vault = sorted({bet.player for bet in bets} - batch.vault_indices.keys())
    if without_vault or not bets:
        yield finding(FindingKind.JOURNAL_INCONSISTENT, f"{len(bets)} bets", f"no vault for {without_vault}")
        return
    if record is None:
        yield finding(FindingKind.NOT_ON_CHAIN, f"Confirmed as number {summary.number}", "no record of that number")
        return

    try:
        statement = statement_for(summary.lane, summary.number, bets, dict(batch.vault_indices))
    except ValueError as error:
        yield finding(FindingKind.JOURNAL_INCONSISTENT, f"bets that cannot be one batch: {error}", "-")
        return
    circuits = {statement.shape.circuit_id, summary.circuit_id} - {None}
    if circuits != {record.circuit_id}:
        # Its key may be one by which anything can be proven: then the nets need not follow from the bets.
        of_the_bets = f"circuit {statement.shape.circuit_id} ({statement.shape.name}), recorded {summary.circuit_id}"
        yield finding(FindingKind.CIRCUIT_DIFFERS, of_the_bets, f"circuit {record.circuit_id}")
    roots = {f"{root:064x}" for root in (statement.bets_root, summary.bets_root) if root is not None}
    if roots != {f"{record.bets_root:064x}"}:
        yield finding(FindingKind.ROOT_DIFFERS, " / ".join(sorted(roots)), f"{record.bets_root:064x}")
    journal_counts = (len(bets), len(statement.slots))
    if journal_counts != (record.bet_count, record.player_count):
        yield finding(FindingKind.COUNTS_DIFFER, journal_counts, (record.bet_count, record.player_count))
    nets = net_by_player(bets)
    if house_delta(nets.values()) != record.house_delta:
        yield finding(FindingKind.HOUSE_DELTA_DIFFERS, house_delta(nets.values()), record.house_delta)

    signature = summary.landing.signature if summary.landing else "none"
    if movement is None:
        yield finding(FindingKind.TRANSACTION_UNKNOWN, signature, "no finalized transaction of that signature")
        return
    if not movement.succeeded or summary.landing is None or movement.slot != summary.landing.slot:
        outcome = "succeeded" if movement.succeeded else "failed"
        yield finding(FindingKind.TRANSACTION_DIFFERS, summary.landing, f"{outcome} in slot {movement.slot}")
    if movement.house_delta != house_delta(nets.values()):
        yield finding(
            FindingKind.BALANCE_DIFFERS,
            house_delta(nets.values()),
            movement.house_delta,
            f"house{IN_BATCH}{summary.batch_id}",
        )
    for player in sorted(nets.keys() | movement.net_by_player.keys()):
        journal_net, chain_net = nets.get(player, 0), movement.net_by_player.get(player, 0)
        if journal_net != chain_net:
            yield finding(FindingKind.BALANCE_DIFFERS, journal_net, chain_net, f"{player}{IN_BATCH}{summary.batch_id}")


def compare_open_batch(
    summary: BatchSummary, bets: tuple[BetRecord, ...], record: OnChainBatch | None
) -> Iterator[Finding]:
    """Differences about a batch that the journal does not call Confirmed. One that is on its way is none."""
    settled = sum(bet.status is BetStatus.SETTLED for bet in bets)
    if settled:
        yield Finding(
            kind=FindingKind.JOURNAL_INCONSISTENT,
            subject=summary.batch_id,
            journal=f"{summary.status}, with {settled} bets settled",
            chain="-",
        )
    if record is not None and not summary.under_way:
        yield Finding(
            kind=FindingKind.SETTLED_UNRECORDED,
            subject=summary.batch_id,
            journal=f"{summary.status} as number {summary.number}",
            chain=f"a record by circuit {record.circuit_id} with root {record.bets_root:064x}",
        )


def unreadable(summary: BatchSummary, why: str) -> Finding:
    """A batch whose bets the journal does not hold in a form that can be compared."""
    return Finding(
        kind=FindingKind.JOURNAL_INCONSISTENT, subject=summary.batch_id, journal=why, chain=f"number {summary.number}"
    )


def restarted(workflow_id: str, journal: str, elsewhere: str) -> Finding:
    """A batch that nobody worked on, or a lane's Batcher that had ended: the workflow was started again."""
    return Finding(kind=FindingKind.RESTARTED, subject=workflow_id, journal=journal, chain=elsewhere)


def not_restarted(workflow_id: str, why: str) -> Finding:
    """A workflow that does not run and should, and could not be started: the next run tries again."""
    return Finding(
        kind=FindingKind.NOT_RESTARTED,
        subject=workflow_id,
        journal="its workflow does not run",
        chain=why[:MAX_REASON_CHARS],
    )


def slot_freed(lane: int, batch_id: str) -> Finding:
    """A batch that is done, and for which its lane still held a slot."""
    return Finding(
        kind=FindingKind.SLOT_FREED, subject=batch_id, journal="done", chain=f"was still in flight for lane {lane}"
    )


def lost_batch(lane: int, batch_id: str) -> Finding:
    """A batch that its lane has cut, and that neither the journal nor Temporal knows."""
    return Finding(
        kind=FindingKind.LOST_BATCH,
        subject=batch_id,
        journal="no such batch",
        chain=f"in flight for lane {lane}, and Temporal has forgotten its bets: have bets without a receipt sent again",
    )


def not_in_journal(record: OnChainBatch) -> Finding:
    """A batch that only the chain knows."""
    return Finding(
        kind=FindingKind.NOT_IN_JOURNAL,
        subject=f"lane {record.lane}, number {record.number}",
        journal="no batch of that number",
        chain=f"{record.bet_count} bets by circuit {record.circuit_id}, root {record.bets_root:064x}",
    )
