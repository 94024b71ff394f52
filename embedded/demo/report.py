"""The demo's result, as JSON for machines and as tables for people."""

from typing import Final

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from settlement.bets import RejectionReason

SHOWN_SIGNATURE_CHARS: Final = 44
"""Signatures have up to 88; the JSON report has them whole."""

SHOWN_AMOUNT_CHARS: Final = len("100,000,000,000")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class DemoBatch(_Frozen):
    """One batch of the run. `status` is the journal's, which the reconciliation has compared with the chain."""

    number: int
    batch_id: str
    status: str
    bets: int
    players: int
    circuit: int | None
    proof_milliseconds: int | None
    compute_units: int | None
    signature: str | None
    slot: int | None


class DemoBalance(_Frozen):
    """Lamports above rent, read from the chain. `expected`: `before` and the nets of what was placed and must settle."""

    player: str
    before: int
    after: int
    expected: int


class DemoReport(_Frozen):
    """What the demo did and found. `agreed`: nothing stands in `differences`."""

    seed: int
    bets: int
    accepted: int
    settled: int
    duplicates: int
    rejected: dict[RejectionReason, int]
    batches: list[DemoBatch]
    balances: list[DemoBalance]
    house: DemoBalance
    receipts_verified: int
    differences: list[str]
    agreed: bool
    web_ui: str
    rpc_url: str
    seconds: float


def show(report: DemoReport, console: Console) -> None:
    """Prints the report."""
    batches = Table(title="Batches", title_justify="left")
    for column in ("number", "bets", "players", "proof ms", "compute units", "slot"):
        batches.add_column(column, justify="right", no_wrap=True, min_width=len(column))
    batches.add_column("signature", overflow="ellipsis", no_wrap=True, max_width=SHOWN_SIGNATURE_CHARS)
    for batch in report.batches:
        figures = (batch.bets, batch.players, batch.proof_milliseconds, batch.compute_units, batch.slot)
        batches.add_row(
            str(batch.number), *("–" if figure is None else f"{figure:,}" for figure in figures), batch.signature
        )
    console.print(batches)

    balances = Table(title="Balances in lamports", title_justify="left")
    balances.add_column("account", overflow="ellipsis", no_wrap=True)
    for column in ("before", "after", "expected"):
        balances.add_column(column, justify="right", no_wrap=True, min_width=SHOWN_AMOUNT_CHARS)
    balances.add_column("")
    for balance in (*report.balances, report.house):
        mark = "[green]✓[/]" if balance.after == balance.expected else "[red]✗[/]"
        amounts = (balance.before, balance.after, balance.expected)
        balances.add_row(balance.player, *(f"{amount:,}" for amount in amounts), mark)
    console.print(balances)

    rejected = ", ".join(f"{count} {reason.value}" for reason, count in report.rejected.items()) or "none"
    console.print(
        f"{report.bets} bets sent: {report.accepted} accepted, {report.settled} settled, {report.duplicates} duplicates; "
        f"rejected: {rejected}; {report.receipts_verified} receipts verified against the roots on chain"
    )
    for difference in report.differences:
        console.print(f"[red]✗ {difference}[/]")
    verdict = (
        "[green]Chain, journal and what was placed agree to the lamport.[/]"
        if report.agreed
        else f"[red]{len(report.differences)} differences.[/]"
    )
    console.print(f"{verdict} {report.seconds:.1f} s. Web UI {report.web_ui}, ledger {report.rpc_url}")
