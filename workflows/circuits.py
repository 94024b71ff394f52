"""Tells a proving worker, which knows no RPC node, what the chain has registered: it must not prove under other keys."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.circuits import CircuitReading
    from settlement.circuits import RegisteredCircuits
    from workflows import names, policies


@workflow.defn(name=names.CIRCUITS_WORKFLOW)
class CircuitsWorkflow:
    """Workflow `circuits`: its result is what is on chain when it runs. Who starts it bounds how long it may take."""

    @workflow.run
    async def run(self) -> RegisteredCircuits:
        return await workflow.execute_activity_method(
            CircuitReading.read_circuits,
            start_to_close_timeout=policies.SHORT_CALL_TIMEOUT,
            retry_policy=policies.RETRY_UNTIL_DONE,
            summary="registered circuits",
        )
