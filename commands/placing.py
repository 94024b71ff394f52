"""`starter.py place`: bets from the command line, a file or a pipe, through any of the doors; what became of them, and how fast."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer
from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json
from rich.markup import escape
from temporalio.client import WorkflowHandle

import composition
from client.connection import connect
from client.intake import TemporalIntake, player_of
from client.placing import Placer, patiently
from commands.bet_lines import bet_lines, bet_value
from commands.running import console, run, say
from embedded.json_files import check_writable, write
from operations import views
from operations.lanes import telling_of_silence
from settings import InvalidSetting, load_settings
from settlement.bets import Bet, parse_bet
from settlement.errors import BetRejected, InvalidBet
from settlement.intake import Answer, BetOutcome, Door
from settlement.receipts import Receipt

SHOWN_REJECTIONS: Final = 20
"""So many rejections are shown, the others counted."""

SHOWN_LANES: Final = 5
"""Of those that take no bets, in the line that shows how it goes."""

REFRESH_SECONDS: Final = 0.25

SIGNALS_IN_FLIGHT: Final = 16
SIGNALS_WAITING: Final = 100
"""Behind each of those in flight."""

STARTS_IN_FLIGHT: Final = 32
RECEIPTS_AWAITED: Final = 1_000
"""Workflows that were started and whose receipts are not read yet; further bets wait."""

SENT: Final = "sent"
WITHOUT_RECEIPT: Final = "without receipt"

app: Final = typer.Typer()


class PlacingReport(BaseModel):
    """What was placed. `answers`: bets by what became of them; `reasons`: rejected ones by reason. `complete`: it was not interrupted.

    `unanswered`: bets read that may have been taken or not.
    """

    model_config = ConfigDict(frozen=True)

    door: Door
    read: int
    answers: dict[str, int]
    reasons: dict[str, int]
    unanswered: int
    seconds: float
    bets_per_second: float
    complete: bool


class _Tally:
    """Counts as it goes, and shows the first rejections."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._started_at = time.monotonic()
        self._shown = 0
        self.read = 0
        self.answers = Counter[str]()
        self.reasons = Counter[str]()
        if door is Door.UPDATE:
            self.answers.update(dict.fromkeys(map(str, Answer), 0))

    def reject(self, rejected: BetOutcome | BetRejected, line: int) -> None:
        self.answers[Answer.REJECTED.value] += 1
        self.reasons[str(rejected.reason)] += 1
        self._shown += 1
        if self._shown <= SHOWN_REJECTIONS:
            views.show_rejected(console, rejected, f"line {line}: " if line else "")
        elif self._shown == SHOWN_REJECTIONS + 1:
            say("… further rejections are only counted here")

    def report(self, complete: bool) -> PlacingReport:
        seconds = time.monotonic() - self._started_at
        answered = self.answers.total()
        return PlacingReport(
            door=self._door,
            read=self.read,
            answers=dict(self.answers),
            reasons=dict(self.reasons),
            unanswered=self.read - answered,
            seconds=round(seconds, 3),
            bets_per_second=round(answered / seconds, 1),
            complete=complete,
        )


@app.command()
def place(
    file: Annotated[Path | None, typer.Argument(help="Bets as JSON lines; `-` reads standard input.")] = None,
    bet: Annotated[str | None, typer.Option(help="One bet as JSON.")] = None,
    door: Annotated[
        Door, typer.Option(help="update: many at once; signal: no answer; workflow: waits for receipts.")
    ] = Door.UPDATE,
    answers: Annotated[
        Path | None, typer.Option(help="Write every bet's answer to this file as JSON lines, in the order of coming.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the summary to this file as JSON.")] = None,
) -> None:
    """Place one bet or a file of bets, of any length. Sending them again is harmless. Exit status 1 if any was rejected.

    A lane without room is waited for. Ctrl-C ends it and says what was placed.

    Example: place --bet '{"bet_id": "b-1", "player": "<key>", "stake": 1000, "guess": "heads", "outcome": "tails"}'
    """
    if (file is None) == (bet is None):
        raise typer.BadParameter("give either a file of bets or --bet, not both and not neither")
    if answers is not None and door is not Door.UPDATE:
        raise typer.BadParameter("--answers is for the door that answers each bet at once: --door update")
    run(place_bets(file, bet, door, answers, json_file))


async def place_bets(
    file: Path | None, bet: str | None, door: Door, answers: Path | None, json_file: Path | None
) -> int:
    """The exit status: 1 if any bet was rejected. Shows what became of the bets, also of those before an interruption."""
    settings = load_settings()
    if json_file is not None:
        await asyncio.to_thread(check_writable, json_file)
    intake = TemporalIntake(await connect(), composition.batcher_settings(settings))
    placer = Placer(intake)
    tally, complete = _Tally(door), False
    try:
        async with AsyncExitStack() as exits:
            await exits.enter_async_context(telling_of_silence(intake))
            await exits.enter_async_context(_shown(tally, placer))
            bets = await exits.enter_async_context(aclosing(_counted(_given(file, bet), tally)))
            match door:
                case Door.UPDATE:
                    written = None if answers is None else exits.enter_context(_opened(answers))
                    await _by_update(placer, bets, tally, written)
                case Door.SIGNAL:
                    await _by_signal(intake, bets, tally)
                case Door.WORKFLOW:
                    await _by_workflow(intake, placer, bets, tally)
        complete = True
    finally:
        report = tally.report(complete)
        if complete or (file is not None and tally.read):
            _show(report)
        if json_file is not None:
            write(report, json_file)
    return 1 if report.answers.get(Answer.REJECTED.value) or report.answers.get(WITHOUT_RECEIPT) else 0


_Bets = AsyncGenerator[tuple[int, Any]]
"""Each bet with the number of its line; 0 for the one of the command line."""


async def _given(file: Path | None, bet: str | None) -> _Bets:
    if bet is not None:
        yield 0, bet_value(bet.encode(errors="surrogateescape"))
    if file is not None:
        async with aclosing(bet_lines(file)) as lines:
            async for line, value in lines:
                yield line, value


async def _counted(bets: _Bets, tally: _Tally) -> _Bets:
    async with aclosing(bets):
        async for bet in bets:
            tally.read += 1
            yield bet


async def _by_update(placer: Placer, bets: _Bets, tally: _Tally, written: BinaryIO | None) -> None:
    lines: dict[int, int] = {}

    async def values() -> AsyncGenerator[Any]:
        position = 0
        async for line, value in bets:
            lines[position] = line
            position += 1
            yield value

    async with aclosing(placer.stream(values())) as answers:
        async for answer in answers:
            line = lines.pop(answer.position)
            if answer.answer is Answer.REJECTED:
                tally.reject(answer, line)
            else:
                tally.answers[answer.answer.value] += 1
            if written is not None:
                fields = answer.model_dump(mode="json", exclude={"position"}, exclude_defaults=True)
                written.write(b"%b\n" % to_json({"line": line, **fields}))


async def _by_signal(intake: TemporalIntake, bets: _Bets, tally: _Tally) -> None:
    """Some at once, but a player's one after the other: a loss may rest on the win before it."""
    end = object()
    strands = [asyncio.Queue[Any](SIGNALS_WAITING) for _ in range(SIGNALS_IN_FLIGHT)]

    async def read() -> None:
        async for _, bet in bets:
            await strands[hash(player_of(bet)) % len(strands)].put(bet)
        for strand in strands:
            await strand.put(end)

    async def send(strand: asyncio.Queue[Any]) -> None:
        while (bet := await strand.get()) is not end:
            await patiently(partial(intake.signal, bet))
            tally.answers[SENT] += 1

    await _all(read(), *map(send, strands))


async def _by_workflow(intake: TemporalIntake, placer: Placer, bets: _Bets, tally: _Tally) -> None:
    """Starts some at once, and reads the receipts in the order of the bets."""
    room = asyncio.Semaphore(STARTS_IN_FLIGHT)
    started = asyncio.Queue[asyncio.Task[_Tracked | None] | None](RECEIPTS_AWAITED)
    starting = set[asyncio.Task[_Tracked | None]]()

    async def start(line: int, value: Any) -> _Tracked | None:
        try:
            bet = parse_bet(value)
            return bet, await patiently(partial(intake.track, bet))
        except InvalidBet:
            # No workflow can be named after it; the fast door records it with the reason.
            tally.reject(await placer.place(value), line)
        except BetRejected as rejected:
            tally.reject(rejected, line)
        finally:
            room.release()
        return None

    async def read() -> None:
        async for line, value in bets:
            await room.acquire()
            task = asyncio.create_task(start(line, value))
            starting.add(task)
            await started.put(task)
        await started.put(None)

    async def receive() -> None:
        while (task := await started.get()) is not None:
            tracked = await task
            starting.discard(task)
            if tracked is not None:
                await _show_outcome(*tracked, tally)

    try:
        await _all(read(), receive())
    finally:
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)


_Tracked = tuple[Bet, WorkflowHandle[Any, Receipt]]


async def _show_outcome(bet: Bet, handle: WorkflowHandle[Any, Receipt], tally: _Tally) -> None:
    receipt = await handle.result()
    if receipt.bet is None or receipt.bet.digest != bet.digest:
        tally.answers[WITHOUT_RECEIPT] += 1
        views.show_without_receipt(console, bet.bet_id, handle.id)
        return
    tally.answers[receipt.status] += 1
    if receipt.reason is not None:
        tally.reasons[receipt.reason] += 1
    views.show_receipt(console, receipt, None)


async def _all(*work: Coroutine[Any, Any, None]) -> None:
    """Does all at once. The first failure ends the others, and is raised."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def _opened(answers: Path) -> Generator[BinaryIO]:
    try:
        with answers.open("wb") as file:
            yield file
    except OSError as error:
        raise InvalidSetting(f"--answers: {answers} cannot be written: {error.strerror}") from None


@asynccontextmanager
async def _shown(tally: _Tally, placer: Placer) -> AsyncGenerator[None]:
    """Shows on a terminal how it goes."""
    with console.status("placing…") as status:

        async def refresh() -> None:
            while True:
                await asyncio.sleep(REFRESH_SECONDS)
                report = tally.report(complete=False)
                status.update(f"placing… {report.read:,} read, {_figures(report)}{_held_up(placer)}")

        refreshing = asyncio.create_task(refresh())
        try:
            yield
        finally:
            refreshing.cancel()


def _held_up(placer: Placer) -> str:
    if not placer.held_up:
        return ""
    lanes = sorted(placer.held_up)
    shown = ", ".join(map(str, lanes[:SHOWN_LANES])) + (", …" if len(lanes) > SHOWN_LANES else "")
    return f"; waiting for {'lane' if len(lanes) == 1 else 'lanes'} {shown}: {escape(placer.held_up[lanes[0]])}"


def _figures(report: PlacingReport) -> str:
    answers = ", ".join(f"{count:,} {answer}" for answer, count in report.answers.items())
    return f"{answers}; {report.seconds:,.1f} s, {report.bets_per_second:,.0f} bets/s"


def _show(report: PlacingReport) -> None:
    say(("" if report.complete else "not all was placed: ") + _figures(report))
    if report.reasons:
        say(
            "rejected by reason: "
            + ", ".join(f"{count:,} {reason}" for reason, count in sorted(report.reasons.items()))
        )
    if report.unanswered:
        say(f"{report.unanswered:,} were read and not answered: they may be taken or not, and can be placed again")
    if report.door is Door.SIGNAL:
        say("a signal is not answered: ask `python starter.py status`")
