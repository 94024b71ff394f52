"""The doors of a lane, seen from outside: starts the Batcher where it is missing, and turns its refusals into domain errors."""

import asyncio
import random
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from uuid import uuid4

from pydantic_core import to_json
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import (
    Priority,
    QueryRejectCondition,
    RawValue,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from client.answers import MAY_PASS, temporal_errors
from client.updates import execute_update
from settlement.bets import MAX_PLAYER_KEY_CHARS, Bet, excerpt, lane_of
from settlement.errors import BetRejected, LaneSaturated, LaneUnavailable, TemporalRefused
from settlement.intake import Answer, BetOutcome
from settlement.limits import MAX_BET_BYTES
from settlement.receipts import Receipt
from workflows import names
from workflows.batcher import Batcher, BatcherInput, BatcherSettings, BatcherStatus
from workflows.bet import BetWorkflow
from workflows.settlement import ClosedBatch

Result = TypeVar("Result")

MAX_SENDS: Final = 10
"""After so many sends of one update that the Batcher did not take, the caller is told."""

FIRST_WAIT_SECONDS: Final = 0.05
LONGEST_WAIT_SECONDS: Final = 2.0
"""Waits between sends double from the first to the longest, with jitter."""

SENT_AGAIN: Final = MAY_PASS | {RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.INTERNAL, RPCStatusCode.UNKNOWN}
"""What a send may fail with and be repeated, the outcome unknown. The last two stand for a connection that broke off."""

CONTINUES_AS_NEW: Final = "workflow is closing"
"""Part of what the server says of an update that meets a Batcher just as it continues as new; the status is that of a full one."""

TRACKED_PRIORITY: Final = Priority(priority_key=5)
"""The lowest: where tasks pile up, the many workflows of tracked bets stand behind those of lanes and batches, which they wait for."""


class TemporalIntake:
    """Fulfils `settlement.ports.Intake`, and gives clients the other doors too."""

    def __init__(self, client: Client, settings: BatcherSettings) -> None:
        self._client = client
        self._settings = settings

    async def ensure_batcher(self, lane: int) -> None:
        """Starts the lane's Batcher if none runs, and gives it the current settings either way."""
        await self._signal_with_start(lane, Batcher.configure.__name__, self._settings)

    async def restart_batcher(self, lane: int) -> bool:
        """Starts the lane's Batcher if the latest run of it has ended; whether it did."""
        batcher_id = names.batcher_id(lane)
        with temporal_errors(batcher_id, TemporalRefused):
            try:
                latest = await self._batcher(lane).describe()
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return False  # It holds nothing that anybody waits for; the next placement starts it.
                raise
            if latest.status is WorkflowExecutionStatus.RUNNING:
                return False
            try:
                await self._client.start_workflow(
                    Batcher.run,
                    BatcherInput(lane=lane, settings=self._settings),
                    id=batcher_id,
                    task_queue=names.SETTLEMENT_QUEUE,
                    id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                    static_summary=f"lane {lane}: started again by the reconciliation",
                )
            except WorkflowAlreadyStartedError:
                return False
        return True

    async def is_run(self, lane: int, run_id: str) -> bool:
        """Whether this run of the lane's Batcher is the one that runs now."""
        with temporal_errors(names.batcher_id(lane), TemporalRefused):
            try:
                latest = await self._batcher(lane).describe()
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return False
                raise
        return latest.run_id == run_id and latest.status is WorkflowExecutionStatus.RUNNING

    async def tell_closed(self, lane: int, batch_id: str) -> bool:
        """Tells the lane's Batcher that a batch is done; whether there was one to tell."""
        batcher_id = names.batcher_id(lane)
        with temporal_errors(batcher_id, TemporalRefused):
            try:
                await self._batcher(lane).signal(Batcher.settlement_closed, ClosedBatch(batch_id=batch_id))
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return False
                raise
        return True

    async def status(self, lane: int) -> BatcherStatus:
        """What the lane's Batcher holds now. Raises `WorkflowQueryRejectedError` if it has ended."""
        return await self._batcher(lane).query(Batcher.status, reject_condition=QueryRejectCondition.NOT_OPEN)

    async def place(self, bet: Bet, *, tracked: bool) -> BetOutcome:
        """Places one bet by update. Raises `LaneSaturated`, `LaneUnavailable`."""
        lane = lane_of(bet.player, self._settings.lanes)
        if tracked:
            return await self._update(lane, names.PLACE_TRACKED_BET, bet, BetOutcome)
        return (await self.place_many(lane, [bet]))[0]

    async def place_many(self, lane: int, bets: Sequence[Any]) -> list[BetOutcome]:
        """Places up to `MAX_BETS_PER_UPDATE` bets, as JSON values, by one update.

        Raises `LaneSaturated`, `LaneUnavailable`.
        """
        return await self.place_written(lane, [written(bet) for bet in bets])

    async def place_written(self, lane: int, bets: Sequence[bytes]) -> list[BetOutcome]:
        """As `place_many`, for what `written` gives: a client of many bets keeps them so, which is small."""
        outcomes = await self._update(lane, names.PLACE_BETS, _json(b"[%b]" % b",".join(bets)), list[BetOutcome])
        if len(outcomes) != len(bets):
            raise TemporalRefused(
                f"{names.batcher_id(lane)} answered {len(bets)} bets with {len(outcomes)} outcomes: is its worker of this release?"
            )
        return outcomes

    async def signal(self, bet: Any) -> None:
        """Sends anything as a bet by signal, which starts a Batcher that is not there. What comes of it stands in the journal.

        Raises `LaneUnavailable`.
        """
        lane, payload = self.lane_for(bet), _json(written(bet))
        with _refusals(f"lane {lane}"):
            try:
                await self._batcher(lane).signal(names.PLACE_BET, payload)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                await self._signal_with_start(lane, names.PLACE_BET, payload)

    def lane_for(self, bet: Any) -> int:
        """The lane of anything given as a bet. What names no player belongs to lane 0, whose Batcher records the reason."""
        player = player_of(bet)
        try:
            return 0 if player is None else lane_of(player, self._settings.lanes)
        except ValueError:
            return 0

    async def track(self, bet: Bet) -> WorkflowHandle[Any, Receipt]:
        """Places a bet by a workflow of its own, whose result is the receipt.

        If that workflow exists already, the bet goes through the fast door as well, which tells the same bet from another one
        with its id and records a conflict. Raises `BetRejected` then. A lane knows recent ids only, so an old workflow may yet be
        another bet's: its receipt names its bet. Raises `LaneSaturated`, `LaneUnavailable`.
        """
        workflow_id = names.bet_workflow_id(bet.bet_id)
        try:
            with _refusals(workflow_id):
                return await self._client.start_workflow(
                    names.BET_WORKFLOW,
                    bet,
                    result_type=Receipt,
                    id=workflow_id,
                    task_queue=names.SETTLEMENT_QUEUE,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    static_summary=f"{bet.player}: {bet.stake} lamports",
                    priority=TRACKED_PRIORITY,
                )
        except WorkflowAlreadyStartedError:
            outcome = await self.place(bet, tracked=False)
            if outcome.answer is Answer.REJECTED:
                raise BetRejected(str(outcome.reason), outcome.detail, outcome.bet_id) from None
            return self._client.get_workflow_handle_for(BetWorkflow.run, workflow_id)

    def _batcher(self, lane: int) -> WorkflowHandle[Batcher, None]:
        return self._client.get_workflow_handle_for(Batcher.run, names.batcher_id(lane))

    async def _signal_with_start(self, lane: int, signal: str, argument: Any) -> None:
        await self._client.start_workflow(
            Batcher.run,
            BatcherInput(lane=lane, settings=self._settings),
            id=names.batcher_id(lane),
            task_queue=names.SETTLEMENT_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            start_signal=signal,
            start_signal_args=[argument],
            static_summary=f"lane {lane}",
        )

    async def _update_with_start(
        self, lane: int, update: str, argument: Any, result: type[Result], update_id: str
    ) -> Result:
        start = WithStartWorkflowOperation(
            Batcher.run,
            BatcherInput(lane=lane, settings=self._settings),
            id=names.batcher_id(lane),
            task_queue=names.SETTLEMENT_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            static_summary=f"lane {lane}",
        )
        return await self._client.execute_update_with_start_workflow(  # pyright: ignore[reportUnknownMemberType] - generic in the SDK
            update, argument, start_workflow_operation=start, result_type=result, id=update_id
        )

    async def _update(self, lane: int, update: str, argument: Any, result: type[Result]) -> Result:
        """Sends until the Batcher has answered: a bet that it took without our hearing of it is a duplicate the next time.

        Starting the Batcher with every update would cost Temporal more, so that is done only where one is missing.
        """
        batcher_id, update_id = names.batcher_id(lane), str(uuid4())
        wait = FIRST_WAIT_SECONDS
        tasks_fail = f"see why the workflow tasks of {batcher_id} fail in Temporal's Web UI"
        why, missing = tasks_fail, False
        for _ in range(MAX_SENDS):
            try:
                if missing:
                    missing = False
                    return await self._update_with_start(lane, update, argument, result, update_id)
                return await execute_update(self._client, batcher_id, update, argument, result, update_id)
            except WorkflowUpdateFailedError as error:
                if not isinstance(error.cause, ApplicationError):
                    raise
                if error.cause.type == LaneSaturated.__name__:
                    raise LaneSaturated(error.cause.message) from error
                if error.cause.type != LaneUnavailable.__name__:
                    raise
                why = error.cause.message
            except WorkflowUpdateRPCTimeoutOrCancelledError as error:
                # The SDK raises it in place of a cancellation, too.
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise asyncio.CancelledError from error
            except RPCError as error:
                closing = CONTINUES_AS_NEW in error.message
                if error.status is RPCStatusCode.RESOURCE_EXHAUSTED and not closing:
                    raise LaneSaturated(f"lane {lane} has too many updates in flight: send again later") from error
                missing = error.status is RPCStatusCode.NOT_FOUND
                if not missing and not closing and error.status not in SENT_AGAIN:
                    raise
                # The server drops the updates of a workflow task that fails, as it does by design where a signal comes in while
                # the Batcher continues as new.
                dropped = error.status is RPCStatusCode.FAILED_PRECONDITION
                why = tasks_fail if dropped else f"see whether Temporal answers ({error.message})"
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)
        raise LaneUnavailable(
            f"lane {lane} took no update in {MAX_SENDS} sends: send again later, which is harmless; if it lasts: {why}"
        )


@contextmanager
def _refusals(receiver: str) -> Generator[None]:
    """Turns what sending again may mend into `LaneUnavailable`."""
    try:
        yield
    except RPCError as error:
        if error.status not in SENT_AGAIN:
            raise
        raise LaneUnavailable(
            f"Temporal takes nothing for {receiver}: send again later, which is harmless ({error.message})"
        ) from error


def player_of(bet: Any) -> str | None:
    """The player whom anything given as a bet names, if what it names may be a player's key."""
    if isinstance(bet, Bet):
        return bet.player
    named: Any = bet.get("player") if isinstance(bet, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return named if isinstance(named, str) and len(named) <= MAX_PLAYER_KEY_CHARS else None


def written(bet: Any) -> bytes:
    """A bet, or anything given as one, as JSON; an excerpt of what is too long to be one or is not to be written as JSON.

    An update of megabytes fails every workflow task that it comes with.
    """
    try:
        text = to_json(bet, exclude_none=isinstance(bet, Bet))
    except ValueError:
        return to_json(excerpt(str(bet).encode(errors="backslashreplace").decode()))
    return text if len(text) <= MAX_BET_BYTES else to_json(excerpt(text.decode()))


def _json(text: bytes) -> RawValue:
    """Written here once, not checked and written again by the converter; a codec that the client has still sees it."""
    return RawValue(Payload(metadata={"encoding": b"json/plain"}, data=text))
