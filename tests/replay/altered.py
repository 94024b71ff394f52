"""The workflows, each with one step more than when the histories were recorded: what no release may do to workflows that run.

And a lane that does the same as it did, and shows how long it takes its history to be.
"""

from typing import ClassVar

from temporalio import workflow
from temporalio.common import RawValue

with workflow.unsafe.imports_passed_through():
    from settlement.circuits import RegisteredCircuits
    from settlement.receipts import Receipt
    from settlement.reconciliation import ReconciliationReport
    from workflows import names
    from workflows.batcher import Batcher, BatcherInput
    from workflows.bet import BetWorkflow
    from workflows.circuits import CircuitsWorkflow
    from workflows.payloads import NOTHING
    from workflows.reconciliation import Reconciliation, ReconciliationInput
    from workflows.run_length import RunLength
    from workflows.settlement import Settlement, SettlementInput, SettlementResult


@workflow.defn(name="Batcher")
class AlteredBatcher(Batcher):
    """Waits a second before its first bet."""

    @workflow.init
    def __init__(self, request: BatcherInput) -> None:
        super().__init__(request)

    @workflow.run
    async def run(self, request: BatcherInput) -> None:
        await workflow.sleep(1)
        await super().run(request)


@workflow.defn(name="Settlement")
class AlteredSettlement(Settlement):
    """Waits a second after all is done."""

    @workflow.init
    def __init__(self, request: SettlementInput) -> None:
        super().__init__(request)

    @workflow.run
    async def run(self, request: SettlementInput) -> SettlementResult:
        result = await super().run(request)
        await workflow.sleep(1)
        return result


@workflow.defn(name=names.BET_WORKFLOW)
class AlteredBet(BetWorkflow):
    """Waits a second before it returns."""

    @workflow.init
    def __init__(self, payload: RawValue = NOTHING) -> None:
        super().__init__(payload)

    @workflow.run
    async def run(self, payload: RawValue = NOTHING) -> Receipt:
        receipt = await super().run(payload)
        await workflow.sleep(1)
        return receipt


@workflow.defn(name="Reconciliation")
class AlteredReconciliation(Reconciliation):
    """Compares the lanes twice."""

    @workflow.run
    async def run(self, request: ReconciliationInput) -> list[ReconciliationReport]:
        await super().run(request)
        return await super().run(request)


@workflow.defn(name=names.CIRCUITS_WORKFLOW)
class AlteredCircuits(CircuitsWorkflow):
    """Asks twice."""

    @workflow.run
    async def run(self) -> RegisteredCircuits:
        await super().run()
        return await super().run()


@workflow.defn(name="Batcher")
class MeasuredBatcher(Batcher):
    """`lengths`: of each lane that was replayed, as it has counted. Replay it without a sandbox, which would have a list of its own."""

    lengths: ClassVar[list[RunLength]] = []

    @workflow.init
    def __init__(self, request: BatcherInput) -> None:
        super().__init__(request)
        self.lengths.append(self._length)

    @workflow.run
    async def run(self, request: BatcherInput) -> None:
        await super().run(request)
