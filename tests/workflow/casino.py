"""Croupier's workflows and activities on the time-skipping server: the journal is real, chain and prover are fakes.

Time stands still (it runs at the pace of the wall clock) unless a test lets it pass; then the server skips whatever time nothing
happens in.
"""

import asyncio
import sqlite3
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import base58
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.proving import Proving
from client.intake import TemporalIntake
from client.predecessors import TemporalPredecessors
from client.settlements import TemporalSettlements
from embedded.site import TEMPORAL_OPTIONS
from journal.adapter import SqlJournal
from settlement.batches import BatchSummary, BetRecord, BetStatus, Statement, batch_id
from settlement.bets import Bet, Rejection
from settlement.errors import LaneSaturated
from settlement.intake import BetOutcome
from settlement.lifecycle import BatchStatus
from settlement.netting import net_by_player
from settlement.reconciliation import ReconciliationReport
from tests.workflow.fakes import FakeLedger, FakePredecessors, FakeProver
from worker import WORKFLOWS, patient, settlement_activities
from workflows import names, visibility
from workflows.batcher import Batcher, BatcherSettings, BatcherStatus
from workflows.reconciliation import Reconciliation, ReconciliationInput
from workflows.settlement import Settlement, SettlementInput, SettlementResult, SettlementStatus

LANE: Final = 0
PLAYERS: Final = [base58.b58encode(bytes([number]) * 32).decode() for number in range(1, 41)]
STRANGER: Final = base58.b58encode(b"\xfe" * 32).decode()
"""Has no vault."""

TEST_SERVER: Final = Path(sys.executable).parent / "temporal-test-server"
DEVELOPMENT_SERVER: Final = Path(sys.executable).parent / "temporal"
PATIENCE_SECONDS: Final = 60.0
"""How long, by the wall clock, a condition may take to come true."""

POLL_SECONDS: Final = 0.01
QUERY_TIMEOUT: Final = timedelta(seconds=2)
SHORTEST_SKIP: Final = timedelta(milliseconds=700)
LONGEST_SKIP: Final = timedelta(minutes=10)
"""They double, as pauses of workflows do from a second on: from half a second, each would end just when a workflow tries again."""

WORK_PER_SKIP: Final = 1_000
MOST_WORK: Final = timedelta(milliseconds=100)
"""How much shorter than what is skipped the time between two skips is, and how long at most."""


SETTINGS: Final = BatcherSettings(window_seconds=60.0, max_bets=8, max_players=16, max_in_flight=8)

_INDEXED: Final = {int: IndexedValueType.INDEXED_VALUE_TYPE_INT, str: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD}

T = TypeVar("T")


def bet(bet_id: str, player: int | str = 0, stake: int = 100, *, won: bool = False) -> Bet:
    """A loss (or win) of `stake` lamports by the player of that number, or key."""
    key = player if isinstance(player, str) else PLAYERS[player]
    return Bet(bet_id=bet_id, player=key, stake=stake, guess="heads", outcome="heads" if won else "tails")


def some_bets(count: int, prefix: str = "bet", players: int = 4) -> list[Bet]:
    """Bets of 100, 101, … lamports by the first players in turn, every third of them won."""
    return [bet(f"{prefix}-{n}", player=n % players, stake=100 + n, won=n % 3 == 0) for n in range(count)]


def as_json(bets: Sequence[Bet]) -> list[Any]:
    """Bets as clients send them."""
    return [bet.model_dump(mode="json", exclude_none=True) for bet in bets]


class UnlistedSettlements(TemporalSettlements):
    """On the test server, which has no listing: so no workflow is found by its batch's number."""

    async def numbered(self, lane: int, number: int) -> list[str]:  # noqa: ARG002
        return []


class Casino:
    """One lane's world. Fulfils `settlement.ports.Intake` by whatever settings the test has opened the lane with."""

    def __init__(
        self, env: WorkflowEnvironment, journal: SqlJournal, journal_path: Path, ledger: FakeLedger, prover: FakeProver
    ) -> None:
        self.env = env
        self.client: Client = env.client
        self.journal = journal
        self.journal_path = journal_path
        self.ledger = ledger
        self.prover = prover
        self.predecessors = FakePredecessors()
        self.intake = TemporalIntake(self.client, SETTINGS)

    @asynccontextmanager
    async def at_work(self, cached_workflows: int = 100) -> AsyncGenerator[None, None]:
        """Workers for all that there is to do."""
        listed = not self.env.supports_time_skipping
        settling = patient(
            Worker(
                self.client,
                task_queue=names.SETTLEMENT_QUEUE,
                workflows=WORKFLOWS,
                activities=settlement_activities(
                    self.journal,
                    self.ledger,
                    self,
                    TemporalPredecessors(self.client) if listed else self.predecessors,
                    TemporalSettlements(self.client) if listed else UnlistedSettlements(self.client),
                ),
                max_cached_workflows=cached_workflows,
            )
        )
        proving = Worker(self.client, task_queue=names.PROVING_QUEUE, activities=[Proving(self.prover).prove_batch])
        async with settling, proving:
            yield

    # Lanes and their doors.

    async def open_lane(self, lane: int = LANE, **settings: Any) -> WorkflowHandle[Any, None]:
        """Starts the lane's Batcher with `SETTINGS`, changed by `settings`, and waits until it takes bets."""
        await self.start_lane(lane, **settings)

        async def opened() -> bool:
            return (await self.status(lane)).opened

        await self.soon(opened)
        return self.batcher(lane)

    async def start_lane(self, lane: int = LANE, **settings: Any) -> None:
        """As `open_lane`, and does not wait."""
        self.intake = TemporalIntake(self.client, SETTINGS.model_copy(update=settings))
        await self.intake.ensure_batcher(lane)

    def batcher(self, lane: int = LANE) -> WorkflowHandle[Any, None]:
        return self.client.get_workflow_handle_for(Batcher.run, names.batcher_id(lane))

    async def place(self, bet: Bet, *, tracked: bool) -> BetOutcome:
        return await self.intake.place(bet, tracked=tracked)

    async def restart_batcher(self, lane: int) -> bool:
        return await self.intake.restart_batcher(lane)

    async def is_run(self, lane: int, run_id: str) -> bool:
        return await self.intake.is_run(lane, run_id)

    async def tell_closed(self, lane: int, batch_id: str) -> bool:
        return await self.intake.tell_closed(lane, batch_id)

    async def place_many(self, bets: Sequence[Bet], lane: int = LANE) -> list[BetOutcome]:
        return await self.intake.place_many(lane, as_json(bets))

    async def place_patiently(self, bets: Sequence[Bet], lane: int = LANE) -> list[BetOutcome]:
        """As `place_many`, again for as long as the lane is saturated."""

        async def answers() -> list[BetOutcome] | None:
            try:
                return await self.place_many(bets, lane)
            except LaneSaturated:
                return None

        return await self.soon(answers)

    async def signal(self, *arguments: Any, lane: int = LANE) -> None:
        """Sends anything to the lane by the signal `place_bet`; bets as clients send them."""
        sent = [as_json([argument])[0] if isinstance(argument, Bet) else argument for argument in arguments]
        await self.batcher(lane).signal(names.PLACE_BET, args=sent)

    async def update(self, *arguments: Any, lane: int = LANE) -> Any:
        """Sends anything to the lane by the update `place_bets`."""
        return await self.batcher(lane).execute_update(  # pyright: ignore[reportUnknownMemberType] - generic in the SDK
            names.PLACE_BETS, args=arguments
        )

    async def status(self, lane: int = LANE) -> BatcherStatus:

        async def answer() -> BatcherStatus | None:
            try:
                return await self.batcher(lane).query(Batcher.status, rpc_timeout=QUERY_TIMEOUT)
            except RPCError:
                # The test server forgets a query when the run that it was put to continues as new.
                return None

        return await self.soon(answer)

    async def idle(self, lane: int = LANE) -> BatcherStatus:
        """Lets time pass until the lane has nothing queued, parked or in flight."""

        async def status() -> BatcherStatus | None:
            found = await self.status(lane)
            return found if found.opened and not (found.queued or found.parked or found.in_flight) else None

        return await self.after_time(status)

    # Batches and bets.

    async def start_batch(
        self, bets: Sequence[Bet], lane: int = LANE, tracked: Sequence[str] = ()
    ) -> WorkflowHandle[Any, SettlementResult]:
        """Starts a Settlement without a Batcher."""
        return await self.client.start_workflow(
            Settlement.run,
            SettlementInput(lane=lane, bets=tuple(bets), tracked=tuple(tracked)),
            id=batch_id(lane, bets),
            task_queue=names.SETTLEMENT_QUEUE,
        )

    async def settle(self, bets: Sequence[Bet], lane: int = LANE) -> SettlementResult:
        """Runs a Settlement to its end, with as much time as that takes."""
        return await self.result(await self.start_batch(bets, lane))

    async def result(self, handle: WorkflowHandle[Any, T]) -> T:
        """What a workflow returns, with as much time as that takes.

        A handle's own `result` lets time be skipped until it is heard, by years where nothing else is to happen: the server then
        ends a lane by its run timeout.
        """

        async def is_closed() -> bool:
            described = await _if_started(handle.describe())
            return described is not None and described.status is not WorkflowExecutionStatus.RUNNING

        await self.after_time(is_closed)
        with self.env.auto_time_skipping_disabled():
            return await handle.result()

    async def batch_status(self, bets: Sequence[Bet], lane: int = LANE) -> SettlementStatus:
        handle = self.client.get_workflow_handle_for(Settlement.run, batch_id(lane, bets))
        return await handle.query(Settlement.status)

    async def reaches(self, bets: Sequence[Bet], status: BatchStatus, lane: int = LANE) -> None:
        """Waits, without letting time be skipped, until the batch of `bets` has this status."""

        async def reached() -> bool:
            answer = await _if_started(self.batch_status(bets, lane))
            return answer is not None and answer.status is status

        await self.soon(reached)

    async def being_proven(self) -> list[Statement]:
        """What waits in a prover whose gate is closed, once something does."""

        async def waiting() -> list[Statement]:
            return self.prover.waiting

        return await self.soon(waiting)

    async def batches(self, lane: int = LANE) -> list[BatchSummary]:
        """The lane's batches by number."""
        return await self.journal.batches(lane, 0, 1_000)

    async def bet_ids(self, lane: int = LANE) -> list[list[str]]:
        """The ids of each batch's bets, in order."""
        return [
            [record.bet.bet_id for record in await self.journal.bets_of(batch.batch_id)]
            for batch in await self.batches(lane)
        ]

    async def record_of(self, bet: Bet) -> BetRecord:
        record = await self.journal.bet(bet.bet_id)
        assert record is not None, f"the journal does not know {bet.bet_id}"
        return record

    async def rejections(self, count: int) -> list[Rejection]:
        """The rejections, oldest first, once there are `count`."""

        async def found() -> list[Rejection] | None:
            rejections = await self.journal.rejections(1_000)
            return rejections[::-1] if len(rejections) >= count else None

        rejections = await self.soon(found)
        assert len(rejections) == count
        return rejections

    async def reconcile(self, lanes: int = 1, *, full: bool = True) -> list[ReconciliationReport]:
        handle = await self.client.start_workflow(
            Reconciliation.run,
            ReconciliationInput(lanes=lanes, full=full),
            id=names.RECONCILIATION_ID,
            task_queue=names.SETTLEMENT_QUEUE,
        )
        return await self.result(handle)

    async def assert_settled_once(self, bets: Sequence[Bet], lane: int = LANE) -> None:
        """Every one of `bets`, and no other, has moved its lamports, once; journal and chain agree on it."""
        records = [await self.record_of(bet) for bet in bets]
        assert {record.status for record in records} == {BetStatus.SETTLED}
        nets = net_by_player(bets)
        for (of_lane, player), balance in self.ledger.balances.items():
            if of_lane == lane:
                assert balance - self.ledger.deposits[of_lane, player] == nets.get(player, 0)
        batches = [batch for batch in await self.batches(lane) if batch.status is BatchStatus.CONFIRMED]
        assert sum(batch.bet_count for batch in batches) == len(bets)
        assert len(batches) == sum(of_lane == lane for of_lane, _ in self.ledger.records)

    @asynccontextmanager
    async def locked_journal(self) -> AsyncGenerator[None, None]:
        """Lets nobody else write to the journal's file meanwhile."""
        other = sqlite3.connect(self.journal_path, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")
        finally:
            other.close()

    @contextmanager
    def broken_journal(self) -> Generator[None, None, None]:
        """Hides a table of the journal meanwhile: only a person could mend that."""
        with closing(sqlite3.connect(self.journal_path)) as connection:
            connection.execute("ALTER TABLE lanes RENAME TO hidden_lanes")
            yield
            connection.execute("ALTER TABLE hidden_lanes RENAME TO lanes")

    # Time.

    async def pass_time(self, seconds: float) -> None:
        """Lets `seconds` pass, skipping those in which nothing happens."""
        await self.env.sleep(seconds)

    async def soon(self, condition: Callable[[], Awaitable[T | None]]) -> T:
        """Waits, without letting time be skipped, for `condition` to give something true, and returns that."""
        return await self._until(condition, lambda: asyncio.sleep(POLL_SECONDS))

    async def after_time(self, condition: Callable[[], Awaitable[T | None]]) -> T:
        """Lets time pass, in growing steps, until `condition` gives something true, and returns that."""
        if not self.env.supports_time_skipping:
            return await self.soon(condition)
        step = SHORTEST_SKIP

        async def skip() -> None:
            nonlocal step
            # Beside an activity at work time goes no faster than on the wall, and the call may expire before a long step is over.
            with suppress(RPCError):
                await self.env.sleep(step)
            # Workflow tasks run out by skipped time too: what is at work needs some of the wall's to get done before the next skip.
            await asyncio.sleep(min(step / WORK_PER_SKIP, MOST_WORK).total_seconds())
            step = min(step * 2, LONGEST_SKIP)

        return await self._until(condition, skip)

    async def _until(self, condition: Callable[[], Awaitable[T | None]], wait: Callable[[], Awaitable[None]]) -> T:
        clock = asyncio.get_running_loop().time
        deadline = clock() + PATIENCE_SECONDS
        while not (found := await condition()):
            assert clock() < deadline, f"it has not come true in {PATIENCE_SECONDS} s"
            await wait()
        return found


@asynccontextmanager
async def open_casino(
    journal_path: Path,
    *,
    cached_workflows: int = 100,
    skips_time: bool = True,
    at_work: bool = True,
    ledger: FakeLedger | None = None,
) -> AsyncGenerator[Casino, None]:
    """A server, workers, and a chain on which each of `PLAYERS` has a vault on the first lanes.

    `cached_workflows`: 0 makes the worker replay a workflow's whole history at each of its tasks. `skips_time`: the test server;
    the development server does not, but lets no signal get lost while a run continues as new, as the test server does. `at_work`: whether
    workers run; else the test says when. `ledger`: the chain of a casino before, if there was one.
    """
    ledger, prover = ledger or _new_ledger(), FakeProver()
    async with (
        SqlJournal.open(f"sqlite:///{journal_path}") as journal,
        await (_test_server() if skips_time else development_server()) as env,
    ):
        casino = Casino(env, journal, journal_path, ledger, prover)
        async with casino.at_work(cached_workflows) if at_work else nullcontext():
            yield casino
        assert ledger.total == ledger.supply, "the chain has lost or found lamports"


async def _if_started(asked: Awaitable[T]) -> T | None:
    """A workflow's answer; None if there is none yet: a lane has answered for its bets before it has started their batch."""
    try:
        return await asked
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


def _new_ledger() -> FakeLedger:
    ledger = FakeLedger()
    for lane in range(2):
        ledger.fund_house(lane)
        for player in PLAYERS:
            ledger.fund_vault(lane, player)
    return ledger


async def _test_server() -> WorkflowEnvironment:
    env = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(TEST_SERVER), data_converter=pydantic_data_converter
    )
    await _add_search_attributes(env.client)
    return env


async def development_server() -> WorkflowEnvironment:
    """The server that `make up` runs too, in memory."""
    return await WorkflowEnvironment.start_local(  # pyright: ignore[reportUnknownMemberType] - the SDK leaves it generic
        dev_server_existing_path=str(DEVELOPMENT_SERVER),
        data_converter=pydantic_data_converter,
        search_attributes=visibility.SEARCH_ATTRIBUTES,
        dev_server_extra_args=list(TEMPORAL_OPTIONS),
    )


async def _add_search_attributes(client: Client) -> None:
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(
            namespace=client.namespace,
            search_attributes={key.name: _INDEXED[key.value_type] for key in visibility.SEARCH_ATTRIBUTES},
        )
    )
