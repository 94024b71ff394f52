"""Sends a workflow update and hears every refusal at once.

The SDK's own call waits for up to ten seconds where the server has no room, once or twice a second at most, before it says so: too
slow for back-pressure, and beyond the caller's say. It must never report a result that the workflow has not given.
"""

from typing import Any, TypeVar

from temporalio.api.common.v1 import Payloads, WorkflowExecution
from temporalio.api.enums.v1 import UpdateWorkflowExecutionLifecycleStage
from temporalio.api.update.v1 import Input, Meta, Outcome, Request, WaitPolicy
from temporalio.api.workflowservice.v1 import UpdateWorkflowExecutionRequest
from temporalio.client import Client, WorkflowUpdateFailedError

Result = TypeVar("Result")


async def execute_update(
    client: Client, workflow_id: str, update: str, argument: Any, result: type[Result], update_id: str
) -> Result:
    """The workflow's answer. An update that is sent again under its id to the same run is answered once.

    Raises `RPCError` as soon as the server refuses, whatever the status, and `WorkflowUpdateFailedError` with what the workflow says.
    """
    request = UpdateWorkflowExecutionRequest(
        namespace=client.namespace,
        workflow_execution=WorkflowExecution(workflow_id=workflow_id),
        request=Request(
            meta=Meta(update_id=update_id, identity=client.identity),
            input=Input(name=update, args=Payloads(payloads=await client.data_converter.encode([argument]))),
        ),
        wait_policy=WaitPolicy(
            lifecycle_stage=UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED
        ),
    )
    outcome = await _outcome(client, request)
    if outcome.HasField("failure"):
        raise WorkflowUpdateFailedError(await client.data_converter.decode_failure(outcome.failure))
    (answer,) = await client.data_converter.decode(outcome.success.payloads, [result])
    return answer


async def _outcome(client: Client, request: UpdateWorkflowExecutionRequest) -> Outcome:
    while True:
        # The server holds the call for some seconds while nothing is decided.
        response = await client.workflow_service.update_workflow_execution(request, retry=False)
        if response.HasField("outcome"):
            return response.outcome
