"""Starts again what nobody works on, then compares journal and chain: over all lanes, on a schedule and on demand."""

from pydantic import BaseModel, ConfigDict
from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.reconciling import MAX_ANSWERED_BYTES, ReconcileRequest, Reconciling
    from activities.recovering import Recovering, RecoverRequest
    from settlement.reconciliation import ReconciliationReport
    from workflows import policies


class ReconciliationInput(BaseModel):
    """How many lanes to compare."""

    model_config = ConfigDict(frozen=True)

    lanes: int


@workflow.defn
class Reconciliation:
    """Workflow `reconciliation`: its result is an extract of each lane's report; the journal has them whole."""

    @workflow.run
    async def run(self, request: ReconciliationInput) -> list[ReconciliationReport]:
        reports: list[ReconciliationReport] = []
        for lane in range(request.lanes):
            repairs = await workflow.execute_activity_method(
                Recovering.recover_lane,
                RecoverRequest(lane=lane),
                start_to_close_timeout=policies.RECONCILE_TIMEOUT,
                heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
                retry_policy=policies.RETRY_UNTIL_DONE,
                summary=f"lane {lane}: what nobody works on",
            )
            report = await workflow.execute_activity_method(
                Reconciling.reconcile_lane,
                ReconcileRequest(
                    run_id=f"{workflow.info().run_id}/{lane}",
                    lane=lane,
                    room=MAX_ANSWERED_BYTES // request.lanes,
                    found_before=tuple(repairs),
                ),
                start_to_close_timeout=policies.RECONCILE_TIMEOUT,
                heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
                retry_policy=policies.RETRY_UNTIL_DONE,
                summary=f"lane {lane}",
            )
            reports.append(report)
            workflow.set_current_details("\n".join(f"- {_line(report)}" for report in reports))
        return reports


def _line(report: ReconciliationReport) -> str:
    more = f", {report.further} findings more" if report.further else ""
    found = f"**{len(report.differences)} differences, {len(report.repairs)} repaired{more}**"
    verdict = "agreed" if report.agreed else found
    return f"lane {report.lane}: {verdict}, {report.batches_compared} batches and {report.players_compared} players compared"
