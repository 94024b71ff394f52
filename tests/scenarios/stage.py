"""Everything that a scenario needs, all of it real: journal, chain, node, prover, Temporal, workflows, activities.

Each stage is a world of its own: a namespace, a copy of one provisioned chain on a node of its own, a journal, and workers that
are built anew whenever one has died.
"""

import asyncio
import itertools
import shutil
import sqlite3
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from aiohttp import ClientSession
from pydantic import AnyUrl
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from sqlalchemy import event
from sqlalchemy.pool import ConnectionPoolEntry
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

import composition
from activities.proving import Proving
from client.intake import TemporalIntake
from client.predecessors import TemporalPredecessors
from client.settlements import TemporalSettlements
from journal.adapter import SqlJournal
from journal.database import Database
from ledger import instructions, layout
from ledger.adapter import SolanaLedger
from ledger.keys import load_keypair
from ledger.landing import Job, Lander
from ledger.provisioning import Provisioner
from ledger.rpc import RpcClient
from localnet.server import serve
from operations.provisioning import LAMPORTS_PER_SOL, provision, register_search_attributes
from prover.groth16 import Groth16Prover
from settings import Commitment, Settings
from settlement.batches import (
    BatchSummary,
    BetRecord,
    BetStatus,
    OnChainBatch,
    Proof,
    SignedAttempt,
    Statement,
    batch_id,
    statement_for,
)
from settlement.bets import Bet
from settlement.errors import BatchUnknown, CroupierError
from settlement.intake import BetOutcome
from settlement.lifecycle import BatchStatus
from settlement.ports import Journal, Ledger
from settlement.reconciliation import ReconciliationReport
from settlement.shapes import SHAPES
from tests.scenarios.mortal import PATIENCE_SECONDS, Life, Script, Unheard, When, mortal
from tests.scenarios.processes import TemporalServer, killed_worker
from tests.workflow.casino import DEVELOPMENT_SERVER
from worker import WORKFLOWS, Queues, settlement_activities
from workflows import names, visibility
from workflows.batcher import Batcher, BatcherStatus
from workflows.reconciliation import Reconciliation, ReconciliationInput
from workflows.settlement import Settlement, SettlementInput, SettlementResult, SettlementStatus

LANE: Final = 0
CHAIN: Final = "ledger.db"
JOURNAL: Final = "journal.db"
"""A stage's files."""

SHAPE: Final = SHAPES[0]
"""The smallest: what is settled here is few bets."""

HOUSE_LAMPORTS: Final = 20 * LAMPORTS_PER_SOL
DEPOSIT_LAMPORTS: Final = LAMPORTS_PER_SOL
PLAYER_KEYS: Final = [Keypair.from_seed(bytes([number]) * 32) for number in range(1, 7)]
PLAYERS: Final = [str(key.pubkey()) for key in PLAYER_KEYS]
"""Have vaults with deposits."""

STRANGER: Final = str(Keypair.from_seed(bytes([99]) * 32).pubkey())
"""Has none."""

STAGES: Final = 100
"""Namespaces that the server has from its start."""

SLOT_SECONDS: Final = 0.06
"""Final after 2 s, in scenarios that wait for dead workers' heartbeats anyway."""

SHORT_SLOT_SECONDS: Final = 0.01
"""Expired, finally, after 1.8 s; a second of such slots takes as much computing as six of the others."""

LONG_SLOT_SECONDS: Final = 0.25
"""Final after 8 s: so long a fork can undo it; and for 37 s it can land, while a dead worker's heartbeat is waited for."""

TEMPLATE_SLOT_SECONDS: Final = 0.005
WINDOW_SECONDS: Final = 0.1
POLL_SECONDS: Final = 0.1
HEALTHY: Final[tuple[str, ...]] = ("query_only = OFF", "max_page_count = 1073741823")
"""Of SQLite's pragmas; both values are its defaults."""

CIRCUIT_KEYS: Final = Path(__file__).parents[2] / "var" / "circuits"
"""The repository's own development keys, made if there are none."""

T = TypeVar("T")


async def eventually(what: str, look: Callable[[], Awaitable[T | None]], seconds: float = PATIENCE_SECONDS) -> T:
    """The first answer of `look` that is neither None nor False. Fails if there is none within the time."""
    deadline = time.monotonic() + seconds
    while not (answer := await look()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(POLL_SECONDS)
    return answer


def bet(bet_id: str, player: int | str, stake: int, *, won: bool = False) -> Bet:
    """A loss (or win) of `stake` lamports by the player of that number, or key."""
    key = player if isinstance(player, str) else PLAYERS[player]
    return Bet(bet_id=bet_id, player=key, stake=stake, guess="heads", outcome="heads" if won else "tails")


def usual_bets() -> list[Bet]:
    """One batch: of three players, one of whom both wins and loses; the house loses. No two sums of stakes are equal."""
    return [
        bet("bet-1", 0, 1_000),
        bet("bet-2", 1, 50_000_000, won=True),
        bet("bet-3", 0, 300_000, won=True),
        bet("bet-4", 2, 4_000_000),
    ]


class Prover:
    """The real prover and its real key. What is proven is kept, since many scenarios settle the same batch as number 1."""

    def __init__(self, groth16: Groth16Prover) -> None:
        self._groth16 = groth16
        self._proofs: dict[int, Proof] = {}

    async def prove(self, statement: Statement) -> Proof:
        if statement.public_input not in self._proofs:
            self._proofs[statement.public_input] = await self._groth16.prove(statement)
        return self._proofs[statement.public_input]


@dataclass
class Theatre:
    """What all stages share. `chain`, `journal`: files to copy; `settings`: of the run that has provisioned them."""

    folder: Path
    temporal: WorkflowEnvironment
    chain: Path
    journal: Path
    settings: Settings
    prover: Prover
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def free_namespace(self) -> str:
        """One that nothing was done in yet."""
        number = next(self._numbers)
        assert number < STAGES
        return _namespace(number)

    @asynccontextmanager
    async def stage(
        self,
        name: str,
        *,
        slot_seconds: float = SLOT_SECONDS,
        further_nodes: int = 0,
        own_temporal: bool = False,
        hires: bool = True,
        **settings: Any,
    ) -> AsyncGenerator["Stage"]:
        """A world of its own.

        `further_nodes`: of the same chain, which the workers know too; `own_temporal`: a server of its own; `hires`: a worker is at
        work from the beginning; `settings`: other than the usual ones.
        """
        namespace = self.free_namespace()
        folder = self.folder / namespace
        folder.mkdir()
        shutil.copy(self.chain, folder / CHAIN)
        shutil.copy(self.journal, folder / JOURNAL)
        async with AsyncExitStack() as exits:
            node = await exits.enter_async_context(
                serve(folder / CHAIN, "127.0.0.1", 0, slot_seconds, with_faults=True)
            )
            settings |= {"rpc_url": node.url, "journal_url": f"sqlite:///{folder / JOURNAL}"}
            if further_nodes:
                further = [f"{node.url}/nodes/{at}" for at in range(1, further_nodes + 1)]
                settings |= {"further_rpc_urls": ",".join(further)}
            stage = Stage(
                name=name,
                theatre=self,
                folder=folder,
                temporal=self.temporal.client.service_client.config.target_host,
                namespace=namespace,
                url=node.url,
                settings=Settings.model_validate(self.settings.model_dump() | settings),
            )
            if own_temporal:
                await stage.use(await _own_temporal(folder, exits))
            async with stage:
                if hires:
                    stage.hire()
                yield stage


@dataclass(frozen=True)
class Moved:
    """Lamports by which balances differ from what was paid in."""

    house: int
    players: dict[str, int]


class Stage:
    """One scenario's world. Enter it to have a worker at work; `script` says what befalls that."""

    def __init__(
        self,
        *,
        name: str,
        theatre: Theatre,
        folder: Path,
        temporal: str,
        namespace: str,
        url: str,
        settings: Settings,
    ) -> None:
        self.name = name
        self.theatre = theatre
        self.folder = folder
        self.temporal = temporal
        self.namespace = namespace
        self.url = url
        self.settings = settings
        self.script = Script()
        self.program = composition.program_id(settings)
        self.authority = load_keypair(settings.authority_keypair)
        self.lives: list[Life] = []
        self.defects: list[Callable[[SolanaLedger], None]] = []
        """Done to each worker's ledger before it is used."""
        self.journal_pragmas: tuple[str, ...] = HEALTHY
        """What SQLite is told before each transaction of a worker's."""
        self.own_temporal: TemporalServer | None = None
        self._paid_in: dict[Pubkey, int] = {}
        self._exits = AsyncExitStack()
        self._workers: list[asyncio.Task[None]] = []

    async def use(self, server: TemporalServer) -> None:
        """Before it is entered: takes another server than the theatre's."""
        self.own_temporal, self.temporal, self.namespace = server, server.address, "default"

    # Workers.

    async def __aenter__(self) -> "Stage":
        self.client = await self.connected()
        self.intake = TemporalIntake(self.client, composition.batcher_settings(self.settings))
        self.journal: SqlJournal = await self._exits.enter_async_context(composition.open_journal(self.settings))
        self.rpc = await self._exits.enter_async_context(RpcClient(self.url))
        self.ledger: SolanaLedger = await self._exits.enter_async_context(composition.open_ledger(self.settings))
        self.lander = Lander(self.rpc, self.authority, priority_fee_micro_lamports=0)
        self.treasurer = Provisioner(self.rpc, self.authority, priority_fee_micro_lamports=0)
        accounts = [self.house, *(self.vault(player) for player in PLAYERS)]
        self._paid_in = dict(zip(accounts, await self.treasurer.balances(accounts), strict=True))
        await self.intake.ensure_batcher(LANE)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.dismiss()
        await self._exits.aclose()

    def hire(self, namespace: str | None = None, *, settles: bool = True, proves: bool = True) -> None:
        """Puts a worker to work, and another in its place whenever it dies or is cut off."""
        self._workers.append(asyncio.create_task(self._working(namespace or self.namespace, settles, proves)))

    def killed_worker(
        self, queues: Queues, when: When, step: str
    ) -> AbstractAsyncContextManager[Callable[[], Awaitable[None]]]:
        """A worker process that kills itself there; see `processes.killed_worker`."""
        return killed_worker(
            settings=self.settings,
            folder=self.folder,
            temporal=self.temporal,
            namespace=self.namespace,
            queues=queues,
            when=when,
            step=step,
        )

    async def open_branch(self) -> Client:
        """A second world of Temporal's, with a worker, that knows nothing of the first but shares its journal and its chain."""
        namespace = self.theatre.free_namespace()
        self.hire(namespace)
        return await self.connected(namespace)

    async def dismiss(self) -> None:
        """Stops all workers."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._workers.clear()

    async def connected(self, namespace: str | None = None) -> Client:
        """A new client of the stage's Temporal server."""
        return await Client.connect(
            self.temporal, namespace=namespace or self.namespace, data_converter=pydantic_data_converter
        )

    async def _working(self, namespace: str, settles: bool, proves: bool) -> None:
        while True:
            life = Life()
            try:
                client = await self.connected(namespace)
                async with self._adapters(life) as adapters, AsyncExitStack() as working:
                    if settles:
                        await working.enter_async_context(self._settling(client, life, *adapters))
                    if proves:
                        await working.enter_async_context(self._proving(client, life))
                    self.lives.append(life)
                    await life.unheard.wait()
            except (CroupierError, RuntimeError):
                # As a worker that does not come up, or loses Temporal: whoever supervises it starts it again.
                await asyncio.sleep(POLL_SECONDS)

    @asynccontextmanager
    async def _adapters(self, life: Life) -> AsyncGenerator[tuple[Journal, Ledger]]:
        """Fresh ones. Those of a worker that was merely cut off stay open: it may go on with what it was doing."""
        async with AsyncExitStack() as exits:
            database = Database(self.settings.journal_url)
            exits.push_async_callback(database.close)
            event.listen(database.engine.sync_engine, "checkout", self._tell_sqlite)
            ledger = await exits.enter_async_context(composition.open_ledger(self.settings))
            for defect in self.defects:
                defect(ledger)
            yield (
                mortal(SqlJournal(database), "journal", self.script, life),
                mortal(ledger, "ledger", self.script, life),
            )
            if life.unheard.is_set() and not life.dead:
                await self._exits.enter_async_context(exits.pop_all())

    def _tell_sqlite(self, connection: Any, _record: ConnectionPoolEntry, _proxy: object) -> None:
        cursor = connection.cursor()
        for pragma in self.journal_pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def _settling(self, client: Client, life: Life, journal: Journal, ledger: Ledger) -> Worker:
        intake = TemporalIntake(client, composition.batcher_settings(self.settings))
        return Worker(
            client,
            task_queue=names.SETTLEMENT_QUEUE,
            workflows=WORKFLOWS,
            activities=settlement_activities(
                journal, ledger, intake, TemporalPredecessors(client), TemporalSettlements(client)
            ),
            interceptors=[Unheard(life)],
            # Of the sandbox, which takes long to set up, nothing is asked here.
            workflow_runner=UnsandboxedWorkflowRunner(),
        )

    def _proving(self, client: Client, life: Life) -> Worker:
        prover = mortal(self.theatre.prover, "prover", self.script, life)
        return Worker(
            client,
            task_queue=names.PROVING_QUEUE,
            activities=[Proving(prover).prove_batch],
            interceptors=[Unheard(life)],
        )

    # Placing and watching.

    async def place(self, bets: Sequence[Bet]) -> list[BetOutcome]:
        """Places bets by update; those of one call come into one batch."""
        return await self.intake.place_many(LANE, [as_json(bet) for bet in bets])

    async def start_batch(
        self, bets: Sequence[Bet], client: Client | None = None, **request: Any
    ) -> WorkflowHandle[Any, SettlementResult]:
        """Starts a Settlement without a Batcher, on another server if `client` is one of that."""
        return await (client or self.client).start_workflow(
            Settlement.run,
            SettlementInput(lane=LANE, bets=tuple(bets), **request),
            id=batch_id(LANE, bets),
            task_queue=names.SETTLEMENT_QUEUE,
        )

    def batch_workflow(self, bets: Sequence[Bet]) -> WorkflowHandle[Any, SettlementResult]:
        return self.client.get_workflow_handle_for(Settlement.run, batch_id(LANE, bets))

    async def attempts(self, bets: Sequence[Bet]) -> list[SignedAttempt]:
        """Those that the journal holds of the batch of these bets."""
        try:
            return await self.journal.attempts(batch_id(LANE, bets))
        except BatchUnknown:
            return []

    async def batch_status(self, bets: Sequence[Bet]) -> SettlementStatus:
        return await self.batch_workflow(bets).query(Settlement.status)

    @property
    def batcher(self) -> WorkflowHandle[Any, None]:
        return self.client.get_workflow_handle_for(Batcher.run, names.batcher_id(LANE))

    async def reconcile(self) -> list[ReconciliationReport]:
        """Runs the reconciliation, which repairs and then compares."""
        return await self.client.execute_workflow(
            Reconciliation.run,
            ReconciliationInput(lanes=1),
            id=names.RECONCILIATION_ID,
            task_queue=names.SETTLEMENT_QUEUE,
        )

    async def reaches_anywhere(self, bets: Sequence[Bet], status: BatchStatus) -> None:
        """Returns once the workflow of the batch of these bets says so, whether or not the journal knows it."""

        async def look() -> bool:
            try:
                return (await self.batch_status(bets)).status is status
            except RPCError:
                return False

        await eventually(f"the batch is {status}", look)

    async def reaches(self, bets: Sequence[Bet], status: BatchStatus) -> BatchSummary:
        """The journal's batch of exactly these bets, once it has this status there."""

        async def look() -> BatchSummary | None:
            batch = await self.journal.batch(batch_id(LANE, bets))
            return batch if batch is not None and batch.status is status else None

        return await eventually(f"the batch is {status}", look)

    async def complains(self, bets: Sequence[Bet], text: str) -> bool:
        """Whether something of the batch of these bets is being tried again for a reason that says so."""
        workflow = self.batch_workflow(bets)
        description = (await workflow.describe()).raw_description
        if any(text in pending.last_failure.message for pending in description.pending_activities):
            return True
        return text in (await workflow.query(Settlement.status)).waiting_for

    async def passes(self, step: str, since: int) -> None:
        """Returns once a worker's call of `step` has had its effect, after so many others on either side."""

        async def look() -> bool:
            return f"after {step}" in self.script.passed[since:]

        await eventually(f"{step} is done", look)

    async def decided(self, bets: Sequence[Bet]) -> list[BetRecord]:
        """The bets' records in the journal, once all are settled or rejected."""

        async def look() -> list[BetRecord] | None:
            found: list[BetRecord] = []
            for bet in bets:
                record = await self.journal.bet(bet.bet_id)
                if record is None or record.status is BetStatus.CLAIMED:
                    return None
                found.append(record)
            return found

        return await eventually(f"{len(bets)} bets are decided", look)

    async def idle(self) -> BatcherStatus:
        """The lane's Batcher, once it has nothing queued and nothing in flight."""

        async def look() -> BatcherStatus | None:
            status = await self.batcher.query(Batcher.status)
            return None if status.queued or status.in_flight else status

        return await eventually("the lane is idle", look)

    # The journal.

    def copy_journal(self) -> Path:
        """A copy of the journal as it is now."""
        copy = self.folder / "copy.db"
        _copy_database(self.folder / JOURNAL, copy)
        return copy

    def restore_journal(self, copy: Path) -> None:
        """Puts an older copy in its place."""
        _copy_database(copy, self.folder / JOURNAL)

    # The chain.

    def vault(self, player: int | str) -> Pubkey:
        key = player if isinstance(player, str) else PLAYERS[player]
        return layout.vault_address(self.program, LANE, Pubkey.from_string(key))

    @property
    def house(self) -> Pubkey:
        return layout.house_address(self.program, LANE)

    async def deposit(self, account: Pubkey, lamports: int) -> None:
        """Pays into a vault or the house."""
        await self.treasurer.transfer({account: lamports})
        self._paid_in[account] += lamports

    async def withdraw(self, player: int, lamports: int) -> None:
        """Draws from a player's vault, as the player may at any time with the authority's leave."""
        key = PLAYER_KEYS[player]
        withdrawal = instructions.withdraw(self.program, self.authority.pubkey(), LANE, key.pubkey(), lamports)
        await self.lander.land([Job("withdrawing", [withdrawal], [key])])
        self._paid_in[self.vault(player)] -= lamports

    async def withdraw_bankroll(self, lamports: int) -> None:
        """Draws from the house, as the operator may."""
        withdrawal = instructions.withdraw_bankroll(self.program, self.authority.pubkey(), LANE, lamports)
        await self.lander.land([Job("withdrawing", [withdrawal])])
        self._paid_in[self.house] -= lamports

    async def moved(self) -> "Moved":
        """What settlements have moved, as of the finalized chain."""
        seen = await self.rpc.accounts_seen(list(self._paid_in), "finalized")
        moved = [
            (account.lamports if account else 0) - paid_in
            for account, paid_in in zip(seen.value, self._paid_in.values(), strict=True)
        ]
        return Moved(house=moved[0], players=dict(zip(PLAYERS, moved[1:], strict=True)))

    async def statement(self, bets: Sequence[Bet], number: int) -> Statement:
        """What settles `bets` as that number."""
        vaults = await self.ledger.vaults(LANE, sorted({bet.player for bet in bets}))
        return statement_for(LANE, number, bets, {player: vault.index for player, vault in vaults.items()})

    async def rival(self, bets: Sequence[Bet], number: int) -> SignedAttempt:
        """Settles `bets` as that number by a transaction that no journal and no history knows of; returns once that is final."""
        statement = await self.statement(bets, number)
        attempt = await self.ledger.sign(statement, await self.theatre.prover.prove(statement), 0)
        await self.ledger.broadcast(attempt)
        await eventually("the rival's record is final", lambda: self.final_record(number))
        return attempt

    async def confirmed_record(self, number: int) -> OnChainBatch | None:
        """The batch's record at `confirmed`, which a fork may yet undo."""
        async with composition.open_reader(
            self.settings.model_copy(update={"commitment": Commitment.CONFIRMED})
        ) as reader:
            return await reader.batch_record(LANE, number)

    async def fork_away(self, number: int, further: int = 0) -> list[str]:
        """Undoes the block in which the batch has landed and `further` ones before it; the signatures of what is undone."""
        record = await self.confirmed_record(number)
        assert record is not None
        await self.fault("stuck")
        slot = (await self.rpc.epoch_info("processed")).absolute_slot
        undone = await self.call("croupierFork", {"depth": slot - record.slot + further})
        await self.mend()
        return undone

    async def final_record(self, number: int) -> OnChainBatch | None:
        records = await self.ledger.batch_records(LANE)
        return next((record for record in records if record.number == number), None)

    async def fault(self, kind: str, **members: Any) -> int:
        """Injects a fault into the node; see docs/local-ledger.md."""
        return await self.call("croupierInjectFault", {"kind": kind, **members})

    async def faults_met(self, kind: str) -> int:
        """How often faults of this kind have had an effect."""
        return (await self.call("croupierFaults"))["applied"].get(kind, 0)

    async def mend(self) -> None:
        """Ends all faults."""
        await self.call("croupierClearFaults")

    async def call(self, method: str, *params: Any) -> Any:
        """A JSON-RPC request to the node as anybody may send it."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        async with ClientSession() as http, http.post(self.url, json=request) as response:
            answer = await response.json()
        assert "error" not in answer, answer["error"]
        return answer["result"]


def _copy_database(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as from_there, closing(sqlite3.connect(target)) as to_here:
        from_there.backup(to_here)


def as_json(bet: Bet) -> Any:
    """A bet as clients send it."""
    return bet.model_dump(mode="json", exclude_none=True)


def _namespace(number: int) -> str:
    return f"stage-{number}"


@asynccontextmanager
async def open_theatre(folder: Path) -> AsyncGenerator[Theatre]:
    """Provisions a chain and a journal as `starter.py provision` does, and starts Temporal's development server."""
    settings = Settings.model_validate(
        {
            "authority_keypair": folder / "authority.json",
            "program_keypair": folder / "program.json",
            "journal_url": f"sqlite:///{folder / JOURNAL}",
            "circuit_keys": CIRCUIT_KEYS,
            "max_batch_bets": SHAPE.bets,
            "max_batch_players": SHAPE.players,
            "window_seconds": WINDOW_SECONDS,
        }
    )
    async with serve(folder / CHAIN, "127.0.0.1", 0, TEMPLATE_SLOT_SECONDS) as node:
        settings = settings.model_copy(update={"rpc_url": AnyUrl(node.url)})
        provisioned = await provision(settings, bankroll_lamports=HOUSE_LAMPORTS, faucet=True, progress=_silent)
        settings = settings.model_copy(update={"program_id": str(provisioned.program_id)})
        async with RpcClient(node.url) as rpc:
            treasurer = Provisioner(rpc, load_keypair(settings.authority_keypair), priority_fee_micro_lamports=0)
            await treasurer.ensure_vaults(provisioned.program_id, LANE, PLAYERS)
            vaults = [
                layout.vault_address(provisioned.program_id, LANE, Pubkey.from_string(player)) for player in PLAYERS
            ]
            await treasurer.transfer(dict.fromkeys(vaults, DEPOSIT_LAMPORTS))
    groth16 = Groth16Prover(CIRCUIT_KEYS, [SHAPE])
    try:
        await groth16.load()
        async with await _temporal() as temporal:
            yield Theatre(folder, temporal, folder / CHAIN, folder / JOURNAL, settings, Prover(groth16))
    finally:
        groth16.close()


async def _own_temporal(folder: Path, exits: AsyncExitStack) -> TemporalServer:
    server = TemporalServer(folder)
    exits.push_async_callback(server.stop)
    await server.start()

    async def client() -> Client | None:
        try:
            return await Client.connect(server.address, data_converter=pydantic_data_converter)
        except RuntimeError:
            return None

    await register_search_attributes(await eventually("the server answers", client))
    return server


async def _temporal() -> WorkflowEnvironment:
    namespaces = [argument for number in range(STAGES) for argument in ("--namespace", _namespace(number))]
    return await WorkflowEnvironment.start_local(  # pyright: ignore[reportUnknownMemberType] - the SDK leaves it generic
        dev_server_existing_path=str(DEVELOPMENT_SERVER),
        data_converter=pydantic_data_converter,
        search_attributes=visibility.SEARCH_ATTRIBUTES,
        dev_server_extra_args=[*namespaces, "--log-level", "error"],
    )


def _silent(_what: str, _part: float) -> None:
    return
