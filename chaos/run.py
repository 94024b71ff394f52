"""One run from beginning to end: a fresh stack, clients that bet, kills and faults, healing, the judge.

Everything has a deadline: what is not settled by then is the judge's to call lost. Whatever happens, no process stays behind.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict
from rich.console import Console

from chaos import site as stack
from chaos.bets import Crowd
from chaos.books import ACKNOWLEDGED, REFUSED, SENT
from chaos.checker import CannotJudge, Deposits, Verdict, read_deposits
from chaos.disturbing import Disturbing
from chaos.faults import FaultExtension
from chaos.plan import Plan, Target, make_plan
from chaos.report import Outcome, make_report
from chaos.services import State, Supervisor
from chaos.telling import EventLog, Show, Situation, shown
from chaos.watching import WATCH_SECONDS, Healing, Standing, Watch
from embedded.processes import POLL_SECONDS, ChildFailed
from embedded.site import Site, only_one_on
from ledger.keys import load_keypair
from settlement.lifecycle import BatchStatus

SECONDS_PER_MINUTE: Final = 60
PLAYERS: Final = 48
CLIENTS: Final = 4

DEPOSIT_MARGIN_LAMPORTS: Final = 10_000_000
"""Above what a player may lose. More than a vault's rent, so that a vault with its rent alone is not taken for a funded one."""

PLANNED_SHARE: Final = 0.5
MOST_DISTURBING_SHARE: Final = 0.7
"""Of a run's time: what the disturbing may take by plan, and by when it has ended however slow the machine. The rest is for healing."""

SECONDS_PER_KILL: Final = 3.5
"""Between kills on average, where there is time for it: a worker takes some seconds to serve again."""

PLACING_SHARE: Final = 0.95
"""Of the time of disturbing, over which bets are placed."""

CLEAR: Final = "croupierClearFaults"

JUDGING_SHARE: Final = 0.1
MOST_JUDGING_SECONDS: Final = 60.0
FEWEST_JUDGING_SECONDS: Final = 30.0
BLOCKHASH_BLOCKS: Final = 150
"""So many blocks after it was signed no transaction can land any more."""

TELLING_SECONDS: Final = 5.0
"""For the report."""


class Options(BaseModel):
    """What to run. `minutes`: the most that it may take in all."""

    model_config = ConfigDict(frozen=True)

    seed: int
    kills: int
    bets: int
    minutes: float

    @property
    def plan(self) -> Plan:
        """What to do to the stack, from the moment that it is ready on."""
        longest = self.minutes * SECONDS_PER_MINUTE * PLANNED_SHARE
        return make_plan(self.seed, self.kills, min(longest, self.kills * SECONDS_PER_KILL))

    @property
    def crowd(self) -> Crowd:
        return Crowd(seed=self.seed, bets=self.bets, players=PLAYERS, clients=CLIENTS)

    @property
    def judging_seconds(self) -> float:
        return min(max(self.minutes * SECONDS_PER_MINUTE * JUDGING_SHARE, FEWEST_JUDGING_SECONDS), MOST_JUDGING_SECONDS)


@dataclass(frozen=True)
class Place:
    """Where a run keeps its state, and where the proving keys are, which it shares with others. `worker`: what runs a worker."""

    var: Path
    circuit_keys: Path
    worker: Sequence[str] = stack.WORKER


async def run(options: Options, place: Place, console: Console) -> Outcome:
    """Raises `ChildFailed` or `StackBusy` if the stack does not come up. Whatever comes later stands in the outcome."""
    site = Site.on(place.var, ports_from=stack.PORTS_FROM)
    site.make()
    with only_one_on(place.var):
        stack.forget_earlier_run(site)
        log = EventLog(site.log("events"))
        with shown(console, lambda: log.seconds) as show:
            return await _Run(options, place, site, log, show).run()


class _Run:
    def __init__(self, options: Options, place: Place, site: Site, log: EventLog, show: Show) -> None:
        self._options = options
        self._worker = place.worker
        self._site = site
        self._log = log
        self._show = show
        self._plan, self._crowd = options.plan, options.crowd
        self._environment = stack.settings_of(site, place.circuit_keys)
        self._supervisor = Supervisor(site.log("events").parent)
        self._extension = FaultExtension(site.rpc_url)
        self._books = site.var / "books"
        self._watch = Watch(self._books, site.journal)
        self._healing = Healing()
        self._disturbing = Disturbing(self._plan, self._supervisor, self._extension, self._healing, log)
        self._phase = "setting up"
        self._standing = Standing(0, 0, 0, 0, {})
        self._looks = 0
        self._deadline = options.minutes * SECONDS_PER_MINUTE - TELLING_SECONDS
        self._disturb_deadline = self._deadline * MOST_DISTURBING_SHARE
        self._settle_deadline = self._deadline - options.judging_seconds

    async def run(self) -> Outcome:
        try:
            try:
                async with asyncio.timeout(self._settle_deadline - self._log.seconds):
                    deposits = await self._set_up()
            except TimeoutError:
                raise ChildFailed(f"the stack did not come up in time: see {self._site.log('events').parent}") from None
            except CannotJudge as error:
                raise ChildFailed(f"the deposits cannot be read: {error}") from None
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settle_deadline - self._log.seconds):
                    await self._place_and_disturb()
            return self._outcome(await self._judged(deposits))
        finally:
            await self._supervisor.stop()

    async def _set_up(self) -> Deposits:
        servers = stack.keep_servers(self._supervisor, self._site, self._environment)
        await self._supervisor.ready(*servers)
        await stack.starter("provision", ["provision"], self._site, self._environment)
        self._environment["CROUPIER_PROGRAM_ID"] = self._program()
        workers = stack.keep_workers(self._supervisor, self._worker, self._environment)
        needed = self._crowd.needs()
        deposit = max(needed.values()) + DEPOSIT_MARGIN_LAMPORTS
        arguments = ["open-vault", *needed, "--lamports", str(deposit)]
        await stack.starter("open-vault", arguments, self._site, self._environment)
        deposits = await self._final_deposits(deposit)
        await self._supervisor.ready(*workers)
        self._log("ready")
        return deposits

    def _program(self) -> str:
        return str(load_keypair(self._site.program_keypair).pubkey())

    async def _final_deposits(self, lamports: int) -> Deposits:
        while True:
            deposits = await asyncio.to_thread(read_deposits, self._site.rpc_url, self._program(), stack.LANES)
            if all(deposits.players.get(player, 0) >= lamports for player in self._crowd.player_keys()):
                return deposits
            await asyncio.sleep(POLL_SECONDS)

    async def _place_and_disturb(self) -> None:
        over_seconds = self._plan.seconds * PLACING_SHARE
        clients = stack.keep_clients(self._supervisor, self._crowd, self._books, over_seconds, self._environment)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._keep_watching())
            self._phase = "disturbing"
            await self._disturbing.run(self._disturb_deadline - self._log.seconds)
            self._phase = "healing"
            self._log("disturbed enough: healing")
            await self._extension.call(CLEAR, [])
            await self._supervisor.until(lambda: all(client.state is State.FINISHED for client in clients))
            self._log("all bets acknowledged")
            await self._all_settled()
            self._log("all acknowledged bets settled")
            watching.cancel()

    async def _all_settled(self) -> None:
        # The look that is under way may have begun before the last bets were acknowledged.
        looks = self._looks + 1
        await self._supervisor.until(
            lambda: self._looks > looks and self._standing.unsettled == 0 and self._healing.open == 0
        )

    async def _keep_watching(self) -> None:
        while True:
            if standing := await asyncio.to_thread(self._watch.look):
                self._standing = standing
                self._looks += 1
                self._healing.look(standing)
                self._show(self._situation())
            await asyncio.sleep(WATCH_SECONDS)

    def _situation(self) -> Situation:
        return Situation(
            phase=self._phase,
            kills=self._disturbing.kills.total(),
            of_kills=len(self._plan.kills),
            faults=self._disturbing.faults.total(),
            bets=self._options.bets,
            standing=self._standing,
            longest_heal_seconds=self._healing.longest_seconds,
        )

    async def _judged(self, deposits: Deposits) -> Verdict | str:
        """The verdict, or why there is none."""
        try:
            async with asyncio.timeout(self._deadline - self._log.seconds):
                await self._come_to_rest()
                return await self._verdict(deposits)
        except TimeoutError:
            return "there is no verdict: the time is up"

    async def _come_to_rest(self) -> None:
        """Returns once nothing that was ever signed can land any more, and nothing else can change."""
        [ledger] = self._supervisor.of(Target.LEDGER)
        # What is not settled by now stays so.
        await self._supervisor.stop(ledger)
        await self._supervisor.ready(ledger)
        await self._extension.call(CLEAR, [])
        rest = await self._finalized_height() + BLOCKHASH_BLOCKS
        while True:
            if await self._finalized_height() > rest:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _finalized_height(self) -> int:
        return (await self._extension.call("getEpochInfo", [{"commitment": "finalized"}]))["blockHeight"]

    async def _verdict(self, deposits: Deposits) -> Verdict | str:
        """The judge is a process of its own, which shares no code with what it judges."""
        told, answer = self._site.var / "deposits.json", self._site.var / "verdict.json"
        told.write_text(deposits.model_dump_json())
        command = [
            *("-m", "chaos.checker", "--rpc-url", self._site.rpc_url, "--program-id", self._program()),
            *("--journal", str(self._site.journal), "--deposits", str(told), "--lanes", str(stack.LANES)),
            *("--sent", str(self._books / SENT), "--acknowledged", str(self._books / ACKNOWLEDGED)),
            *("--json", str(answer)),
        ]
        _, judge = await stack.ran("judge", command, self._site, self._environment)
        try:
            return Verdict.model_validate_json(answer.read_bytes())
        except FileNotFoundError:
            return str(judge.failure("gave no verdict"))

    def _outcome(self, judged: Verdict | str) -> Outcome:
        verdict, standing = judged if isinstance(judged, Verdict) else None, self._standing
        kills, faults = self._disturbing.kills, self._disturbing.faults
        findings = [*verdict.findings()] if verdict else [str(judged)]
        acknowledged = verdict.acknowledged if verdict else standing.acknowledged
        if acknowledged < self._options.bets:
            findings.append(f"only {acknowledged:,} of {self._options.bets:,} bets were acknowledged")
        if standing.refused:
            findings.append(f"{standing.refused} bets were refused: see {self._books / REFUSED}")
        if kills.total() < len(self._plan.kills):
            findings.append(f"only {kills.total()} of {len(self._plan.kills)} kills were made in time")
        unfinished = {
            status.value: count for status, count in standing.batches.items() if status is not BatchStatus.CONFIRMED
        }
        if findings and unfinished:
            findings.append(f"batches that are not Confirmed: {unfinished}")
        if findings:
            findings.append(f"logs are in {self._site.log('events').parent}, what clients sent in {self._books}")
        return Outcome(
            report=make_report(
                self._options.seed,
                verdict,
                standing.acknowledged,
                kills,
                faults,
                self._healing.longest_seconds,
                agreed=not findings,
            ),
            sent=verdict.sent if verdict else standing.sent,
            batches=verdict.batches if verdict else standing.final,
            healed=self._healing.healed,
            ended_unasked={service.name: service.ends for service in self._supervisor.services if service.ends},
            findings=findings,
            seconds=self._log.seconds,
        )
