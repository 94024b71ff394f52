"""Starts again what nobody works on, then compares journal and chain: over all lanes, on a schedule and on demand."""

import asyncio
from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel, ConfigDict
from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.reconciling import MAX_ANSWERED_BYTES, ReconcileRequest, Reconciling
    from activities.recovering import Recovering, RecoverRequest
    from settlement.reconciliation import ReconciliationReport
    from workflows import policies


class ReconciliationInput(BaseModel):
    """How many lanes to compare. `full`: all batches that there are, not only what is new and some of the older ones."""

    model_config = ConfigDict(frozen=True)

    lanes: int
    full: bool = True


LANES_AT_ONCE: Final = 4
"""A lane takes its time for every batch it has ever had; all at once would take the workers from the settlements."""


@workflow.defn
class Reconciliation:
    """Workflow `reconciliation`, or `reconciliation-full` for a person. Its result: an extract of each report; the journal has it whole."""

    @workflow.init
    def __init__(self, request: ReconciliationInput) -> None:
        self._request = request
        self._reports: dict[int, ReconciliationReport] = {}

    @workflow.run
    async def run(self, request: ReconciliationInput) -> list[ReconciliationReport]:
        lanes = iter(range(request.lanes))
        await asyncio.gather(*(self._reconcile(lanes) for _ in range(min(LANES_AT_ONCE, request.lanes))))
        return self._in_order()

    async def _reconcile(self, lanes: Iterator[int]) -> None:
        """One of `lanes` after the other until none is left, which others take from, too."""
        for lane in lanes:
            repairs = await workflow.execute_activity_method(
                Recovering.recover_lane,
                RecoverRequest(lane=lane),
                start_to_close_timeout=policies.RECONCILE_TIMEOUT,
                heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
                retry_policy=policies.RETRY_UNTIL_DONE,
                summary=f"lane {lane}: what nobody works on",
            )
            self._reports[lane] = await workflow.execute_activity_method(
                Reconciling.reconcile_lane,
                ReconcileRequest(
                    run_id=f"{workflow.info().run_id}/{lane}",
                    lane=lane,
                    room=MAX_ANSWERED_BYTES // self._request.lanes,
                    found_before=tuple(repairs),
                    full=self._request.full,
                ),
                start_to_close_timeout=policies.RECONCILE_TIMEOUT,
                heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
                retry_policy=policies.RETRY_UNTIL_DONE,
                summary=f"lane {lane}",
            )
            workflow.set_current_details("\n".join(f"- {_line(report)}" for report in self._in_order()))

    def _in_order(self) -> list[ReconciliationReport]:
        return [self._reports[lane] for lane in sorted(self._reports)]


def _line(report: ReconciliationReport) -> str:
    more = f", {report.further} findings more" if report.further else ""
    found = f"**{len(report.differences)} differences, {len(report.repairs)} repaired{more}**"
    verdict = "agreed" if report.agreed else found
    return f"lane {report.lane}: {verdict}, {report.extent} compared"
