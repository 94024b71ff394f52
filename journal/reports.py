"""Writes what belongs to no batch: refusals at the door, and what reconciliation found. The first word on either stays."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from journal.tables import findings, reconciliations, rejections
from journal.writing import insert_if_new, insert_new
from settlement.bets import Rejection
from settlement.reconciliation import ReconciliationReport


async def record_rejections(connection: AsyncConnection, refused: Sequence[Rejection]) -> None:
    """See `Journal.record_rejections`."""
    # In the order of their keys: two such writes then wait for each other one way only.
    ordered = sorted(refused, key=lambda rejection: rejection.rejection_id)
    await insert_new(connection, rejections, [rejection.model_dump() for rejection in ordered])


async def record_reconciliation(connection: AsyncConnection, report: ReconciliationReport) -> None:
    """See `Journal.record_reconciliation`. A run has one report for each lane."""
    inserted = await connection.execute(
        insert_if_new(connection, reconciliations).returning(reconciliations.c.run_id),
        report.model_dump(exclude={"findings", "further"}),
    )
    if inserted.scalar_one_or_none() is None or not report.findings:
        return
    await connection.execute(
        findings.insert(),
        [
            {"run_id": report.run_id, "lane": report.lane, "position": position, **finding.model_dump()}
            for position, finding in enumerate(report.findings)
        ],
    )
