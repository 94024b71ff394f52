"""The worker: polls the `settlement` queue (workflows and I/O), the `proving` queue (proofs), or both, until it is told to stop."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import structlog
import typer
import uvloop
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

import composition
from activities.circuits import CircuitReading
from activities.claiming import Claiming
from activities.parking import ParkingPlace
from activities.placing import Placing
from activities.proving import Proving
from activities.receipts import Receipts
from activities.reconciling import Reconciling
from activities.recording import Recording
from activities.recovering import Recovering
from activities.submitting import Submitting
from activities.taking_over import TakingOver
from client.circuits import registered_circuits
from client.connection import TemporalUnreachable, connect, end_process
from client.intake import TemporalIntake
from client.predecessors import TemporalPredecessors
from client.settlements import TemporalSettlements
from settings import InvalidSetting, Settings, load_settings
from settlement.circuits import CircuitKey, RegisteredCircuits, require_registered, require_unforgeable
from settlement.errors import CroupierError
from settlement.ports import Intake, Journal, Ledger, Predecessors, Prover, Settlements
from workflows import names
from workflows.batcher import Batcher
from workflows.bet import BetWorkflow
from workflows.circuits import CircuitsWorkflow
from workflows.reconciliation import Reconciliation, ReconciliationInput
from workflows.settlement import Settlement

if TYPE_CHECKING:
    from prover.groth16 import Groth16Prover

WORKFLOWS: Final = [Batcher, Settlement, BetWorkflow, Reconciliation, CircuitsWorkflow]
RUNNER: Final = UnsandboxedWorkflowRunner()
"""A sandbox costs CPU time at every step, and would have to let our own modules through as they are in any case: else it makes all their
models anew for every batch. `tests/workflow` runs them in the sandbox, where what is not deterministic is refused."""

WORKFLOW_STEP_PATIENCE: Final = timedelta(seconds=10)
"""How long one step of a workflow may take: as long as Temporal waits for its task. The SDK's own 2 seconds are less than a worker on a
busy machine needs for the thousands of signals that a flooded lane gets at once, and a workflow that it has given up stays in its way."""

MAX_CONCURRENT_ACTIVITIES: Final = 100
"""Of I/O, per worker; further tasks wait at the server."""

PROOFS_AHEAD: Final = 1
"""Taken up beside those that are being made, so that no core waits for Temporal between two."""

LANES_STARTED_AT_ONCE: Final = 16

SHUTDOWN_GRACE: Final = timedelta(seconds=5)
"""How long running activities may go on after a stop is asked for; what is not done then is tried again elsewhere."""

logger = structlog.get_logger(__name__)


class Queues(StrEnum):
    """Which task queues a worker polls."""

    SETTLEMENT = "settlement"
    PROVING = "proving"
    BOTH = "both"


async def run(settings: Settings, queues: Queues) -> None:
    """Runs workers until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    client = await connect(settings.metrics_address)
    async with AsyncExitStack() as stack:
        prover, journal, ledger = None, None, None
        if queues is not Queues.SETTLEMENT:
            prover = await stack.enter_async_context(composition.open_prover(settings))
        if queues is not Queues.PROVING:
            journal = await stack.enter_async_context(composition.open_journal(settings))
            ledger = await stack.enter_async_context(composition.open_ledger(settings))
        if prover is not None:
            # Before any work is taken up: settlement work, too, ends in proofs.
            circuits = ledger.circuits if ledger is not None else partial(_circuits_by_temporal, client)
            if not await _done_before(stop, require_chain_keys(prover, circuits, settings)):
                return
        if journal is not None and ledger is not None:
            await stack.enter_async_context(await _settlement_worker(client, settings, journal, ledger))
        if prover is not None:
            await stack.enter_async_context(_proving_worker(client, settings, prover))
        logger.info("worker_ready", queues=queues.value, lanes=settings.lanes, nodes=composition.node_names(settings))
        print("worker ready", flush=True)
        await stop.wait()
    logger.info("worker_stopped")


async def _done_before(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Does `work` unless a stop is asked for meanwhile: it may have to wait for minutes."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
        return False
    await working
    return True


def settlement_activities(
    journal: Journal, ledger: Ledger, intake: Intake, predecessors: Predecessors, settlements: Settlements
) -> list[Callable[..., Any]]:
    """All activities of the `settlement` queue."""
    taking_over, parking = TakingOver(journal, predecessors, settlements), ParkingPlace(journal)
    claiming, recording, submitting = Claiming(journal, ledger), Recording(journal), Submitting(journal, ledger, intake)
    return [
        claiming.claim_batch,
        recording.record_status,
        recording.record_rejections,
        parking.park_bets,
        parking.read_parked_bets,
        parking.unpark_bets,
        submitting.sign_settlement,
        submitting.confirm_settlement,
        Receipts(journal, ledger).read_receipt,
        Placing(intake).place_bet,
        taking_over.take_over,
        taking_over.unheard_signals,
        taking_over.overflow,
        taking_over.done_of,
        Recovering(journal, ledger, settlements, intake).recover_lane,
        Reconciling(journal, ledger).reconcile_lane,
        CircuitReading(ledger).read_circuits,
    ]


async def _circuits_by_temporal(client: Client) -> RegisteredCircuits:
    """What a settlement worker says, for a worker that knows no RPC node."""

    def still_waiting(seconds: float) -> None:
        logger.warning("no_settlement_worker_answers_yet", asked="registered circuits", seconds=round(seconds))

    return await registered_circuits(client, still_waiting)


async def require_chain_keys(
    prover: "Groth16Prover", circuits: Callable[[], Awaitable[RegisteredCircuits]], settings: Settings
) -> None:
    """Raises `KeyRefused` unless the chain has the prover's keys, which `circuits` tells, and they may be used there.

    Keys that the prover loads later are held against what the chain has then.
    """

    async def require(keys: Sequence[CircuitKey]) -> None:
        for key in keys:
            note = {"zkey": key.zkey_sha256} if key.zkey_sha256 else {}
            log = logger.warning if key.origin.is_forgeable else logger.info
            log("circuit_key", shape=key.shape.name, origin=key.origin.remark, verifying_key=key.sha256, **note)
        registered = await circuits()
        for key in keys:
            require_registered(key, registered)
        require_unforgeable(
            keys,
            place=registered.place,
            local=registered.local,
            accept_forgeable=settings.accept_forgeable_development_keys,
        )

    await prover.require(require)


def _proving_worker(client: Client, settings: Settings, prover: Prover) -> Worker:
    return Worker(
        client,
        task_queue=names.PROVING_QUEUE,
        activities=[Proving(prover).prove_batch],
        max_concurrent_activities=settings.proving_threads + PROOFS_AHEAD,
        graceful_shutdown_timeout=SHUTDOWN_GRACE,
    )


async def _settlement_worker(client: Client, settings: Settings, journal: Journal, ledger: Ledger) -> Worker:
    intake = TemporalIntake(client, composition.batcher_settings(settings))
    worker = Worker(
        client,
        task_queue=names.SETTLEMENT_QUEUE,
        workflows=WORKFLOWS,
        activities=settlement_activities(
            journal, ledger, intake, TemporalPredecessors(client), TemporalSettlements(client)
        ),
        workflow_runner=RUNNER,
        max_concurrent_activities=MAX_CONCURRENT_ACTIVITIES,
        graceful_shutdown_timeout=SHUTDOWN_GRACE,
    )
    await _start_lanes(settings.lanes, ledger, intake)
    await _schedule_reconciliation(client, settings)
    return patient(worker)


async def _start_lanes(lanes: int, ledger: Ledger, intake: TemporalIntake) -> None:
    turn = asyncio.Semaphore(LANES_STARTED_AT_ONCE)

    async def start(lane: int) -> None:
        async with turn:
            house = await ledger.house(lane)
            logger.info("lane", lane=lane, bankroll_lamports=house.available)
            await intake.ensure_batcher(lane)

    await asyncio.gather(*map(start, range(lanes)))


def patient(worker: Worker) -> Worker:
    """The worker, which gives each step of a workflow `WORKFLOW_STEP_PATIENCE`. The SDK has no public setting for that."""
    workflows = worker._workflow_worker  # pyright: ignore[reportPrivateUsage]
    if workflows is not None:
        workflows._deadlock_timeout_seconds = int(WORKFLOW_STEP_PATIENCE.total_seconds())  # pyright: ignore[reportPrivateUsage]
    return worker


async def _schedule_reconciliation(client: Client, settings: Settings) -> None:
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(
            Reconciliation.run,
            ReconciliationInput(lanes=settings.lanes, full=False),
            id=names.RECONCILIATION_ID,
            task_queue=names.SETTLEMENT_QUEUE,
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=settings.reconcile_every_seconds))]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP),
    )
    try:
        await client.create_schedule(names.RECONCILIATION_ID, schedule)
    except ScheduleAlreadyRunningError:

        async def replaced(_: ScheduleUpdateInput) -> ScheduleUpdate:
            return ScheduleUpdate(schedule)

        await client.get_schedule_handle(names.RECONCILIATION_ID).update(replaced)


def main(
    queues: Annotated[
        Queues, typer.Option(help="The task queues to poll; proving needs nothing but Temporal and keys.")
    ] = Queues.BOTH,
) -> None:
    """Runs Croupier's worker. Settings come from CROUPIER_… and TEMPORAL_… variables (README, Configuration)."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    exit_status = 0
    try:
        uvloop.run(run(load_settings(), queues))
    except (InvalidSetting, TemporalUnreachable, CroupierError, RPCError) as error:
        print(f"worker: {error}", file=sys.stderr)
        exit_status = 1
    end_process(exit_status)


if __name__ == "__main__":
    typer.run(main)
