"""A worker with a deliberate defect, for tests alone: what has not landed at the first look counts as never landed, by the clock, and the
batch is settled under another number. That pays twice, and a chaos run must say so.
"""

from collections.abc import Sequence

import typer

import worker
from ledger.adapter import SolanaLedger
from settlement.batches import SignedAttempt, Standing, Statement, Verdict
from settlement.errors import BatchNumberTaken

_judge = SolanaLedger.judge


async def _impatient_judge(
    self: SolanaLedger, statement: Statement, attempts: Sequence[SignedAttempt], *, at_finality: bool = False
) -> Verdict:
    verdict = await _judge(self, statement, attempts, at_finality=at_finality)
    if verdict.standing is Standing.PENDING and len(attempts) == 1:
        raise BatchNumberTaken(f"batch {statement.number} has not landed in time: under another number")
    return verdict


if __name__ == "__main__":
    SolanaLedger.judge = _impatient_judge
    typer.run(worker.main)
