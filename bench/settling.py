"""Waits until all bets of a run are settled, and then looks for whatever must not be: the figures of such a run would claim too much.

A bet that is not settled ends the measurement. What journal and chain do not agree on, and workflow tasks that failed, are reported.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from pydantic import BaseModel, ConfigDict

from bench import books
from bench.histories import cost_of, runs_of
from bench.site import BenchStack
from operations.reconciling import reconcile
from settlement.errors import CroupierError

PATIENCE_SECONDS: Final = 180.0
"""How long a run waits without any further bet being settled, once all are placed."""

STALL_SECONDS: Final = 900.0
"""How long it waits where not all can be placed."""

POLL_SECONDS: Final = 0.5


class NotSettled(CroupierError):
    """Not every bet of a measurement was settled, so there is nothing to report."""


class Audit(BaseModel):
    """What was looked for in a run. `workflow_runs`: whose histories were searched; `failed_workflow_tasks`: by whose and why."""

    model_config = ConfigDict(frozen=True)

    workflow_runs: int
    failed_workflow_tasks: dict[str, int]
    differences: list[str]


async def settled(running: BenchStack, bets: int, placing: asyncio.Future[None], tell: Callable[[float], None]) -> None:
    """Returns once the journal calls so many bets settled. Raises `NotSettled`, and what `placing` raises.

    As long as bets are still being placed it waits for longer: a batch may not be full yet.
    """
    done, moved_at, was_placing = 0, time.monotonic(), True
    while done < bets:
        is_placing = not placing.done()
        if not is_placing:
            placing.result()
        now = books.settled_bets(running.journal)
        if now > done or (was_placing and not is_placing):
            done, moved_at = now, time.monotonic()
        was_placing = is_placing
        tell(done / bets)
        if time.monotonic() - moved_at > (STALL_SECONDS if is_placing else PATIENCE_SECONDS):
            shown = ", ".join(f"{count:,} {status}" for status, count in books.bets_by_status(running.journal).items())
            raise NotSettled(f"of {bets:,} bets {done:,} were settled, and then no other (journal: {shown or 'none'})")
        await asyncio.sleep(POLL_SECONDS)
    await placing
    tell(1)


async def audit(running: BenchStack, bets: int) -> Audit:
    """Compares journal and chain, and searches the histories of all workflows. `bets`: how many must be settled, and no other be."""
    client = running.stack.client
    differences = [
        f"{finding.kind.value} of {finding.subject}: journal {finding.journal}, chain {finding.chain}"
        for report in await reconcile(client, running.lanes.lanes)
        for finding in report.findings
    ]
    on_chain = sum(record.bet_count for record in await running.records())
    held = books.bets_by_status(running.journal)
    if (on_chain, sum(held.values()), books.settled_bets(running.journal)) != (bets, bets, bets):
        differences.append(f"{bets:,} bets were placed; the journal holds {held}, the chain's records {on_chain:,}")
    if refused := books.rejections(running.journal):
        differences.append(f"{refused:,} bets were rejected at the door")
    total = await cost_of(client, await runs_of(client))
    return Audit(
        workflow_runs=total.workflows,
        failed_workflow_tasks=dict(total.failed_tasks),
        differences=differences,
    )


def together(audits: list[Audit]) -> Audit:
    """Of several runs."""
    failed = Counter[str]()
    for each in audits:
        failed.update(each.failed_workflow_tasks)
    return Audit(
        workflow_runs=sum(each.workflow_runs for each in audits),
        failed_workflow_tasks=dict(failed),
        differences=[difference for each in audits for difference in each.differences],
    )
