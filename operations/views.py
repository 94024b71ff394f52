"""Bets, batches, lanes and balances as tables for people, or as JSON for machines. Shows what was read, and claims no more."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from client.intake import TemporalIntake
from journal.adapter import SqlJournal
from ledger.reading import ProgramReader
from operations.lanes import lane_status
from operations.provisioning import Provisioned
from settlement.batches import BatchSummary
from settlement.bets import Rejection, RejectionReason
from settlement.errors import BetRejected, CroupierError, LaneSilent
from settlement.intake import BetOutcome
from settlement.lifecycle import BatchStatus
from settlement.receipts import Receipt, contradictions, read_receipt
from settlement.reconciliation import ReconciliationReport
from workflows.batcher import BatcherStatus

SHOWN_BATCHES: Final = 10
SHOWN_REJECTIONS: Final = 10
SHOWN_REPORTS: Final = 1


class NotFound(CroupierError):
    """Nothing of that name is known."""


class BetView(BaseModel):
    """All that journal and chain know of a bet id.

    `state`: rejected without a receipt means at a door; it may have been sent again since. `holds`: whether the receipt leads to
    the root on chain, None if it names none. `rejections`: the latest of what was rejected under this id.
    """

    model_config = ConfigDict(frozen=True)

    bet_id: str
    state: Literal["queued", "claimed", "settled", "rejected"]
    batch_id: str | None
    receipt: Receipt | None
    holds: bool | None
    rejections: tuple[Rejection, ...]


def show_provisioned(console: Console, provisioned: Provisioned) -> None:
    """What a worker needs to be told, and which keys were registered."""
    console.print(f"CROUPIER_PROGRAM_ID={provisioned.program_id}", highlight=False)
    console.print(f"authority {provisioned.authority}: it signs and pays, so keep lamports on it", highlight=False)
    for key in provisioned.circuits:
        console.print(
            f"circuit {key.shape.name}: verifying key {key.sha256} ({key.origin.remark})",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def show_rejected(console: Console, rejected: BetOutcome | Rejection | BetRejected, where: str = "") -> None:
    """A bet that was not taken in, and why."""
    console.print(
        f"{where}rejected {rejected.bet_id or '(no id)'}: {rejected.reason}: {rejected.detail}",
        markup=False,
        soft_wrap=True,
    )


async def show_lanes(console: Console, intake: TemporalIntake, lanes: int, journal: SqlJournal, as_json: bool) -> int:
    """How the lanes stand, the latest batches and rejections. Raises `LaneSilent` after showing what the journal has."""
    statuses: list[BatcherStatus] = []
    silence: LaneSilent | None = None
    for lane in range(lanes):
        try:
            statuses.append(await lane_status(intake, lane))
        except LaneSilent as error:
            silence = error
            break
    if as_json:
        if silence is not None:
            raise silence
        console.print_json("[" + ",".join(status.model_dump_json() for status in statuses) + "]")
        return 0
    table = Table(title="Lanes", title_justify="left")
    for column in ("lane", "queued", "in flight", "accepted", "duplicates", "rejected", "batches", ""):
        table.add_column(column, justify="right")
    for status in statuses:
        counters = status.counters
        figures = (status.lane, status.queued, len(status.in_flight), counters.accepted, counters.duplicates)
        figures = (*figures, counters.rejected, counters.batches)
        table.add_row(*(f"{figure:,}" for figure in figures), "paused" if status.paused else "")
    console.print(table)
    for status in statuses:
        if status.trouble:
            console.print(f"lane {status.lane}: {status.trouble}", markup=False, highlight=False, soft_wrap=True)
    table = Table(title="Latest batches", title_justify="left")
    for column in ("number", "lane", "status", "bets", "players", "batch id"):
        table.add_column(column)
    for batch in await journal.recent_batches(SHOWN_BATCHES):
        table.add_row(
            str(batch.number),
            str(batch.lane),
            # A failed one waits for a person, or had no bet left to settle.
            f"{batch.status}: {batch.transitions[-1].detail}" if batch.status is BatchStatus.FAILED else batch.status,
            str(batch.bet_count),
            str(batch.player_count),
            batch.batch_id,
        )
    console.print(table)
    for report in await journal.latest_reconciliations(SHOWN_REPORTS):
        show_reconciliation(console, report)
    for rejection in await journal.rejections(SHOWN_REJECTIONS):
        console.print(
            f"rejected {rejection.bet_id or '(no id)'}: {rejection.reason}: {rejection.detail}",
            markup=False,
            highlight=False,
        )
    if silence is not None:
        raise silence
    return 0


async def show_batch(console: Console, batch: BatchSummary, journal: SqlJournal, as_json: bool) -> int:
    """A batch with its transitions and bets, as the journal holds it."""
    if as_json:
        console.print_json(batch.model_dump_json())
        return 0
    console.print(
        f"[bold]{batch.status}[/] lane {batch.lane}, number {batch.number}, house {batch.house_delta:+,} lamports"
    )
    for step in batch.transitions:
        console.print(f"  {step.at:%Y-%m-%d %H:%M:%S.%f} {step.status} {step.detail}", markup=False, highlight=False)
    for slot in await journal.slots(batch.batch_id):
        console.print(f"  {slot.player} (vault {slot.vault_index}): {slot.net:+,} lamports", highlight=False)
    table = Table(title="Bets", title_justify="left")
    for column in ("bet", "player", "net in lamports", "status"):
        table.add_column(column)
    for record in await journal.bets_of(batch.batch_id):
        table.add_row(
            record.bet.bet_id,
            record.bet.player,
            f"{record.bet.delta:+,}",
            " ".join(filter(None, (record.status, record.reason, record.detail))),
        )
    console.print(table)
    return 0


async def show_bet(console: Console, bet_id: str, journal: SqlJournal, reader: ProgramReader, as_json: bool) -> int:
    """A bet's receipt, held against the record on chain, or where the bet is."""
    view = await _bet_view(bet_id, journal, reader)
    if as_json:
        console.print_json(view.model_dump_json())
    elif view.receipt is not None:
        show_receipt(console, view.receipt, view.holds)
    elif view.batch_id is not None:
        console.print(f"{bet_id}: in batch {view.batch_id}, not final yet", highlight=False)
    else:
        if view.state == "queued":
            console.print(f"{bet_id}: queued, in no batch yet", highlight=False)
        for rejection in view.rejections:
            show_rejected(console, rejection)
    return 1 if view.holds is False else 0


async def _bet_view(bet_id: str, journal: SqlJournal, reader: ProgramReader) -> BetView:
    record = await journal.bet(bet_id)
    rejections = await journal.rejections(SHOWN_REJECTIONS, bet_id)
    if record is None and not rejections:
        raise NotFound(
            f"no bet or batch {bet_id} is in the journal: it may still be queued, see `python starter.py status`"
        )
    receipt = await read_receipt(bet_id, journal, reader)
    holds = None
    if receipt and receipt.inclusion and receipt.lane is not None and receipt.number is not None:
        holds = not contradictions(receipt, await reader.batch_record(receipt.lane, receipt.number))
    if receipt is not None:
        state = receipt.status
    elif record is not None:
        state = "claimed"
    else:
        # What it was in conflict with was taken in, and is not in the journal yet.
        conflict = any(rejection.reason is RejectionReason.CONFLICT for rejection in rejections)
        state = "queued" if conflict else "rejected"
    return BetView(
        bet_id=bet_id,
        state=state,
        batch_id=record.batch_id if record is not None else None,
        receipt=receipt,
        holds=holds,
        rejections=tuple(rejections),
    )


def show_receipt(console: Console, receipt: Receipt, holds: bool | None) -> None:
    """A receipt; `holds`: whether it leads to the root on chain, None if that was not asked."""
    console.print(f"{receipt.bet_id}: [bold]{receipt.status}[/]", highlight=False)
    if receipt.reason:
        console.print(f"  {receipt.reason}: {receipt.detail}", markup=False, highlight=False)
    if receipt.bet and receipt.status == "settled":
        console.print(f"  {receipt.bet.delta:+,} lamports for {receipt.bet.player}", highlight=False)
    if receipt.batch_id:
        console.print(
            f"  batch {receipt.batch_id}, lane {receipt.lane}, number {receipt.number or '–'}", highlight=False
        )
    if receipt.landing:
        console.print(f"  slot {receipt.landing.slot}, {receipt.landing.signature}", highlight=False)
    if holds is not None:
        console.print(
            "  [green]its inclusion proof leads to the bets root on chain[/]"
            if holds
            else "  [red]its inclusion proof does not lead to the bets root on chain: reconcile[/]"
        )


def show_without_receipt(console: Console, bet_id: str, workflow_id: str) -> None:
    """A bet that was taken in, but whose workflow was another bet's with this id."""
    console.print(
        f"{bet_id}: taken in, but {workflow_id} was another bet's: see `python starter.py status {bet_id}`",
        highlight=False,
        soft_wrap=True,
    )


def show_reconciliation(console: Console, report: ReconciliationReport) -> None:
    """A report with its findings."""
    found = [f"[red]{len(report.differences)} differences[/]"] if report.differences else []
    found += [f"[yellow]{len(report.repairs)} repaired: reconcile again[/]"] if report.repairs else []
    found += [f"[red]{report.further} findings more, in the journal's table `findings`[/]"] if report.further else []
    verdict = ", ".join(found) or "[green]agreed[/]"
    console.print(
        f"{report.at:%Y-%m-%d %H:%M:%S} lane {report.lane}: {verdict}; {report.extent} compared, "
        f"{report.open_batches:,} batches not final"
    )
    for repair in report.repairs:
        console.print(
            f"  {repair.kind.value} {repair.subject}: {repair.journal}, {repair.chain}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    for finding in report.differences:
        console.print(
            f"  {finding.kind.value} {finding.subject}: journal {finding.journal}, chain {finding.chain}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
