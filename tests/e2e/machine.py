"""A running stack as tests see it: commands as in another terminal, its processes to kill and bring back, and what must hold after."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from solders.keypair import Keypair
from solders.pubkey import Pubkey

import composition
from client.intake import TemporalIntake
from client.placing import Placer
from embedded import processes
from embedded.processes import Child
from embedded.site import HOST, ROOT, Site
from embedded.stack import BANKROLL_LAMPORTS, Stack, running_stack
from journal.adapter import SqlJournal
from ledger import layout
from ledger.adapter import SolanaLedger
from ledger.keys import load_keypair
from ledger.provisioning import Provisioner
from ledger.rpc import RpcClient
from localnet.server import serve
from operations.provisioning import provision
from operations.reconciling import reconcile
from settings import load_settings
from settlement.batches import BatchSummary, BetRecord, BetStatus
from settlement.bets import Bet
from settlement.intake import BetOutcome
from settlement.netting import net_by_player
from tests.e2e.forks import run_forked

T = TypeVar("T")

LANE: Final = 0
PLAYERS: Final = 6
DEPOSIT_LAMPORTS: Final = 1_000_000_000
STAKE_LAMPORTS: Final = 1_000
PATIENCE_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.02
COMMAND_SECONDS: Final = 60.0
READY_LINES: Final = {"worker": "worker ready", "ledger": "ready at"}
PROVISIONING_SLOT_SECONDS: Final = 0.01
USUAL_PORTS: Final = (7233, 8233, 8899)
OUR_VARIABLES: Final = ("CROUPIER_", "TEMPORAL_")


@dataclass(frozen=True)
class Finished:
    """A command that has run to its end."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Balances:
    """Lamports above rent, from the chain."""

    house: int
    players: dict[str, int]


async def eventually(what: str, look: Callable[[], Awaitable[T | None]], seconds: float = PATIENCE_SECONDS) -> T:
    """The first answer of `look` that is neither None nor False. Fails if there is none within the time."""
    started_at = time.monotonic()
    while time.monotonic() - started_at < seconds:
        if answer := await look():
            return answer
        await asyncio.sleep(POLL_SECONDS)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


def clean_environment(**variables: str) -> dict[str, str]:
    """This process's environment without what steers Croupier or Temporal, and with `variables`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OUR_VARIABLES)}
    return {**inherited, "COLUMNS": "200", **variables}


async def run(command: Sequence[str | Path], variables: dict[str, str], seconds: float = COMMAND_SECONDS) -> Finished:
    """Runs a command in the repository with a clean environment and `variables`. It may take so many seconds."""
    program, *arguments = map(str, command)
    try:
        if program == sys.executable and arguments[0].endswith(".py"):
            return Finished(*await run_forked(arguments, ROOT, clean_environment(**variables), seconds))
        return await _run(command, clean_environment(**variables), seconds)
    except TimeoutError:
        raise AssertionError(f"{command} did not end within {seconds:.0f} s") from None


async def _run(command: Sequence[str | Path], variables: dict[str, str], seconds: float) -> Finished:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=variables,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return Finished(process.returncode, out.decode(), err.decode())


@contextmanager
def environment(variables: dict[str, str]) -> Generator[None]:
    """This process with a clean environment and `variables`, and as it was after."""
    kept = dict(os.environ)
    os.environ.clear()
    os.environ.update(clean_environment(**variables))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


@contextmanager
def usual_ports_taken() -> Generator[None]:
    """Nobody else can listen on the usual ports meanwhile, so that a stack must find others."""
    with ExitStack() as exits:
        for port in USUAL_PORTS:
            taken = exits.enter_context(socket.socket())
            # Somebody's own stack may be running there, which serves as well.
            with suppress(OSError):
                taken.bind(("127.0.0.1", port))
                taken.listen()
        yield


def state_directory(parent: Path, circuit_keys: Path) -> Path:
    """A state directory that has the circuits' keys and nothing else."""
    var = parent / "var"
    shutil.copytree(circuit_keys, var / "circuits")
    return var


async def provisioned_directory(parent: Path, circuit_keys: Path, lanes: int = 1) -> Path:
    """As `state_directory`, with all that a stack would first set up there, for which each step takes it a slot or two of its own."""
    var = state_directory(parent, circuit_keys)
    site = Site.on(var)
    site.make()
    async with serve(var / "ledger.db", HOST, 0, PROVISIONING_SLOT_SECONDS) as ledger:
        variables = {"CROUPIER_VAR": str(var), "CROUPIER_RPC_URL": ledger.url, "CROUPIER_LANES": str(lanes)}
        with environment(site.environment() | variables):
            await provision(load_settings(), bankroll_lamports=BANKROLL_LAMPORTS, faucet=True, progress=_silent)
    return var


@dataclass
class Machine:
    """One stack on directory `var`, with funded players on lane 0. `players`: their keys."""

    var: Path
    stack: Stack
    intake: TemporalIntake
    journal: SqlJournal
    ledger: SolanaLedger
    players: list[str]
    children: dict[str, Child]
    _placed: int = 0
    _revived: list[Child] = field(default_factory=list[Child])

    # Placing and looking.

    def bets(self, count: int, name: str = "bet") -> list[Bet]:
        """New bets of all players in turn, stakes all different, two thirds of them lost."""
        made: list[Bet] = []
        for _ in range(count):
            self._placed += 1
            made.append(
                Bet(
                    bet_id=f"{name}-{self._placed}",
                    player=self.players[self._placed % len(self.players)],
                    stake=STAKE_LAMPORTS + self._placed,
                    guess="heads",
                    outcome="heads" if self._placed % 3 == 0 else "tails",
                )
            )
        return made

    async def place(self, bets: Sequence[Bet]) -> list[BetOutcome]:
        """Places bets by update. The answers are in the order of the bets."""
        answers = [answer async for answer in Placer(self.intake).stream(bets)]
        answers.sort(key=lambda answer: answer.position)
        return [*answers]

    async def batch_of(self, bet: Bet) -> str:
        """The batch that has claimed a bet, once one has."""
        record = await eventually(f"{bet.bet_id} is in a batch", lambda: self.journal.bet(bet.bet_id))
        return record.batch_id

    async def batch(self, batch_id: str) -> BatchSummary:
        """A batch that is known to be in the journal."""
        batch = await self.journal.batch(batch_id)
        assert batch is not None
        return batch

    async def settled(self, bets: Sequence[Bet]) -> list[BetRecord]:
        """The bets' records, once all are settled."""
        records: list[BetRecord] = []

        # What is settled stays so. Asking for all each time would keep a core busy that the stack needs.
        async def settled() -> list[BetRecord] | None:
            while len(records) < len(bets):
                record = await self.journal.bet(bets[len(records)].bet_id)
                if record is None or record.status is not BetStatus.SETTLED:
                    return None
                records.append(record)
            return records

        return await eventually(f"{len(bets)} bets are settled", settled)

    async def balances(self) -> Balances:
        """What the chain says now."""
        vaults = await self.ledger.vaults(LANE, self.players)
        house = await self.ledger.house(LANE)
        return Balances(house.available, {player: vault.available for player, vault in vaults.items()})

    async def check_settled_once(self, bets: Sequence[Bet], before: Balances) -> None:
        """Balances have moved by exactly the nets of `bets` since `before`, each batch has its one record, and all sides agree."""
        nets = net_by_player(bets)
        assert await self.balances() == Balances(
            before.house - sum(nets.values()),
            {player: balance + nets.get(player, 0) for player, balance in before.players.items()},
        )
        records = await self.ledger.batch_records(LANE)
        for batch_id in {record.batch_id for record in await self.settled(bets)}:
            batch = await self.batch(batch_id)
            mine = [record for record in records if record.bets_root == batch.bets_root]
            assert [(record.number, record.bet_count) for record in mine] == [(batch.number, batch.bet_count)]
        [report] = await reconcile(self.stack.client, 1)
        assert report.findings == ()

    # Commands and processes.

    async def starter(self, *arguments: str) -> Finished:
        """Runs `starter.py` as from another terminal, which knows nothing but the state directory."""
        return await run([sys.executable, "starter.py", *arguments], {"CROUPIER_VAR": str(self.var)})

    async def kill(self, name: str) -> list[str]:
        """Kills one of the stack's processes with SIGKILL, and returns its command line."""
        process = self.children[name].process
        command = _command_line(process.pid)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        return command

    async def revive(self, name: str, command: Sequence[str]) -> None:
        """Starts a process that was killed by the same command line, and waits until it serves."""
        with environment({"CROUPIER_VAR": str(self.var)}):
            child = await processes.start(
                name, command, log=self.var / "log" / f"{name}-{len(self._revived)}.log", folder=ROOT
            )
        self._revived.append(child)
        self.children[name] = child
        if name in READY_LINES:
            await child.wait_for_line(READY_LINES[name], PATIENCE_SECONDS)

    async def stop_revived(self) -> None:
        """Ends what `revive` has started, the last first, as the stack does."""
        for child in reversed(self._revived):
            await processes.stop(child)


def _command_line(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")


def as_json(bet: Bet) -> dict[str, Any]:
    """A bet as a client sends it."""
    return bet.model_dump(mode="json", exclude_none=True)


def as_line(bet: Bet) -> str:
    """A bet as a line of JSON."""
    return json.dumps(as_json(bet))


@asynccontextmanager
async def running_machine(var: Path, *, slot_ms: int, window_seconds: float) -> AsyncGenerator[Machine]:
    """A stack on `var` with short slots and windows, and players with funded vaults."""
    async with AsyncExitStack() as exits:
        # The stack writes its settings into this process's environment, for its children; other tests must not see them.
        with environment({"CROUPIER_WINDOW_SECONDS": str(window_seconds), "CROUPIER_VAR": str(var)}):
            stack = await exits.enter_async_context(running_stack(var, {}, _silent, slot_ms=slot_ms))
        journal = await exits.enter_async_context(composition.open_journal(stack.settings))
        ledger = await exits.enter_async_context(composition.open_ledger(stack.settings))
        machine = Machine(
            var=var,
            stack=stack,
            intake=TemporalIntake(stack.client, composition.batcher_settings(stack.settings)),
            journal=journal,
            ledger=ledger,
            players=await _funded_players(stack),
            children={child.name: child for child in stack.children},
        )
        exits.push_async_callback(machine.stop_revived)
        yield machine


async def _funded_players(stack: Stack) -> list[str]:
    settings, program = stack.settings, composition.program_id(stack.settings)
    players = [str(Keypair().pubkey()) for _ in range(PLAYERS)]
    async with RpcClient(stack.rpc_url) as rpc:
        chain = Provisioner(
            rpc,
            load_keypair(settings.authority_keypair),
            priority_fee_micro_lamports=settings.priority_fee_micro_lamports,
        )
        await chain.ensure_vaults(program, LANE, players)
        await chain.transfer(
            {layout.vault_address(program, LANE, Pubkey.from_string(player)): DEPOSIT_LAMPORTS for player in players}
        )
    return players


def _silent(_what: str, _part: float) -> None:
    return
