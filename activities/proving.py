"""Proves a statement. Needs nothing but the prover: no journal, no ledger."""

from temporalio import activity

from activities.errors import application_errors
from activities.heartbeats import heartbeating
from settlement.batches import Proof, Statement
from settlement.ports import Prover


class Proving:
    """The CPU-bound activity, on a task queue and workers of its own."""

    def __init__(self, prover: Prover) -> None:
        self._prover = prover

    @activity.defn
    async def prove_batch(self, statement: Statement) -> Proof:
        """A verified proof. Idempotent: proofs are randomised, but each one proves the same statement."""
        with application_errors():
            async with heartbeating():
                return await self._prover.prove(statement)
