"""`starter.py place` on real lanes: files of any content and length, every door, what is shown, and what is written down."""

import asyncio
import json
import random
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from client import placing as client_placing
from client.placing import Lanes, Placer
from commands import placing
from commands.bet_lines import MAX_LINE_BYTES, READ_BYTES, bet_lines
from commands.placing import PlacingReport, place_bets
from settings import InvalidSetting
from settlement.bets import Bet
from settlement.errors import LaneSaturated
from settlement.intake import Door
from settlement.lane_queue import MIN_QUEUED_BETS, QUEUED_BATCHES
from settlement.limits import MAX_BETS_PER_UPDATE
from tests.client.lanes import soon, within
from tests.workflow.casino import LANE, PLAYERS, Casino, as_json, bet
from workflows.batcher import Batcher

MANY: Final = 50
ROOM: Final = MIN_QUEUED_BETS
"""So many bets a lane holds here before it is saturated."""


@pytest.fixture(autouse=True)
def settings(casino: Casino, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", casino.client.service_client.config.target_host)
    monkeypatch.setenv("CROUPIER_LANES", "1")
    monkeypatch.setenv("CROUPIER_WINDOW_SECONDS", "0.2")
    monkeypatch.setenv("CROUPIER_MAX_BATCH_BETS", str(ROOM // QUEUED_BATCHES))
    monkeypatch.setattr(client_placing, "LONGEST_WAIT_SECONDS", 0.1)


@pytest.fixture
def placed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    async def place(lines: Sequence[bytes], door: Door = Door.UPDATE) -> tuple[int, str, PlacingReport, list[Any]]:
        file, report, answers = (tmp_path / name for name in ("bets.jsonl", "report.json", "answers.jsonl"))
        file.write_bytes(b"\n".join(lines))
        is_answered = door is Door.UPDATE
        status = await within(place_bets(file, None, door, answers if is_answered else None, report))
        written = [json.loads(line) for line in answers.read_text().splitlines()] if is_answered else []
        return status, capsys.readouterr().out, PlacingReport.model_validate_json(report.read_bytes()), written

    return place


def lines_of(name: str, count: int) -> list[bytes]:
    return [json.dumps(sent).encode() for sent in as_json([bet(f"{name}-{n}", player=n % 4) for n in range(count)])]


@asynccontextmanager
async def full_lane(casino: Casino, name: str) -> AsyncGenerator[None]:
    """The lane takes no bets meanwhile."""
    await casino.batcher(LANE).signal(Batcher.pause)
    filling = [json.loads(line) for line in lines_of(name, ROOM)]
    for start in range(0, ROOM, MAX_BETS_PER_UPDATE):
        await casino.intake.place_many(LANE, filling[start : start + MAX_BETS_PER_UPDATE])
    yield
    await casino.batcher(LANE).signal(Batcher.resume)


async def test_every_line_is_answered_under_its_number(placed: Callable[..., Any]) -> None:
    good, other = lines_of("numbered", 2)
    status, out, report, answers = await placed([good, b"", b"{no json", good, b"\xff\xfe", b"1, 2", other])
    assert status == 1
    assert {answer["line"]: answer["answer"] for answer in answers} == {
        1: "accepted",
        3: "rejected",
        4: "duplicate",
        5: "rejected",
        6: "rejected",
        7: "accepted",
    }
    assert "line 3: rejected (no id): malformed: a bet is a JSON object" in out
    assert "2 accepted, 1 duplicate, 3 rejected" in out
    assert report.model_dump(exclude={"seconds", "bets_per_second"}) == {
        "door": Door.UPDATE,
        "read": 6,
        "answers": {"accepted": 2, "duplicate": 1, "rejected": 3},
        "reasons": {"malformed": 3},
        "unanswered": 0,
        "complete": True,
    }


async def test_of_many_rejections_the_first_are_shown_and_all_are_counted(placed: Callable[..., Any]) -> None:
    status, out, report, answers = await placed([b"{no json"] * MANY)
    assert status == 1
    assert out.count("rejected (no id)") == placing.SHOWN_REJECTIONS
    assert f"{MANY} rejected" in out
    assert (report.reasons, len(answers)) == ({"malformed": MANY}, MANY)


async def test_the_signal_door_sends_all_and_says_that_nothing_is_answered(
    casino: Casino, placed: Callable[..., Any]
) -> None:
    before = (await casino.status()).counters.accepted
    status, out, report, _ = await placed(lines_of("signalled", MANY), Door.SIGNAL)
    assert (status, report.answers) == (0, {"sent": MANY})
    assert f"{MANY} sent" in out
    assert "a signal is not answered" in out

    async def are_accepted() -> bool:
        return (await casino.status()).counters.accepted == before + MANY

    await casino.soon(are_accepted)


async def test_signals_of_one_player_are_sent_one_after_the_other(
    placed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, list[str]] = {}
    dice, at_once, most = random.Random(1), 0, 0

    async def signal(_: object, bet: Any) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        for _ in range(dice.randrange(5)):
            await asyncio.sleep(0)
        sent.setdefault(bet["player"], []).append(bet["bet_id"])
        at_once -= 1

    monkeypatch.setattr(placing.TemporalIntake, "signal", signal)
    bets = [bet(f"{n:04}", player=n % len(PLAYERS)) for n in range(600)]
    _, _, report, _ = await placed([json.dumps(line).encode() for line in as_json(bets)], Door.SIGNAL)
    assert report.answers == {"sent": 600}
    assert all(ids == sorted(ids) for ids in sent.values())
    assert 1 < most <= placing.SIGNALS_IN_FLIGHT


async def test_the_tracked_door_reads_receipts_and_waits_for_a_lane_without_room(
    casino: Casino, placed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    known, *others = lines_of("tracked", 3)
    await placed([known], Door.WORKFLOW)
    # What is known already goes to the lane for comparison.
    refused: list[LaneSaturated] = []
    track = placing.TemporalIntake.track

    async def noted(intake: placing.TemporalIntake, sent: Bet) -> Any:
        try:
            return await track(intake, sent)
        except LaneSaturated as refusal:
            refused.append(refusal)
            raise

    monkeypatch.setattr(placing.TemporalIntake, "track", noted)
    async with full_lane(casino, "in-the-way"):
        waiting = asyncio.create_task(placed([known, *others, b"{no json"], Door.WORKFLOW))
        await soon("the lane has refused it", lambda: bool(refused))
        assert not waiting.done()
    status, out, report, _ = await within(waiting)
    assert (status, report.answers) == (1, {"settled": 3, "rejected": 1})
    assert out.count(": settled") == 3


async def test_an_interrupted_command_tells_what_was_placed_and_what_is_in_doubt(
    casino: Casino, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, report_file = tmp_path / "bets.jsonl", tmp_path / "report.json"
    file.write_bytes(b"\n".join(lines_of("interrupted", 3 * ROOM)))
    placers: list[Placer] = []

    def noted(lanes: Lanes) -> Placer:
        placers.append(Placer(lanes))
        return placers[-1]

    monkeypatch.setattr(placing, "Placer", noted)
    await casino.intake.ensure_batcher(LANE)
    await casino.batcher(LANE).signal(Batcher.pause)
    command = asyncio.create_task(place_bets(file, None, Door.UPDATE, None, report_file))
    await soon("the lane is full", lambda: any(placer.held_up for placer in placers))
    command.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command
    await casino.batcher(LANE).signal(Batcher.resume)
    report = PlacingReport.model_validate_json(report_file.read_bytes())
    assert (report.complete, report.read) == (False, 3 * ROOM)
    assert 0 < report.answers["accepted"] <= ROOM
    assert report.unanswered == report.read - report.answers["accepted"]
    out = capsys.readouterr().out
    assert out.startswith("not all was placed: ")
    assert f"{report.unanswered:,} were read and not answered" in out


async def test_lines_come_whole_however_they_are_cut_by_reading(tmp_path: Path) -> None:
    lines = [json.dumps({"n": n, "text": "é" * (n % 700)}).encode() for n in range(2_000)]
    file = tmp_path / "bets.jsonl"
    file.write_bytes(b"\n".join(lines) + b"\n")
    assert file.stat().st_size > 5 * READ_BYTES
    read = [(number, value) async for number, value in bet_lines(file)]
    assert read == [(number, json.loads(line)) for number, line in enumerate(lines, start=1)]


async def test_of_a_line_longer_than_any_bet_only_the_head_is_kept_as_text_and_in_memory(tmp_path: Path) -> None:
    file = tmp_path / "bets.jsonl"
    file.write_bytes(b"[1]\n[" + b" " * (300 * MAX_LINE_BYTES) + b"2]\n[3]")
    tracemalloc.start()
    first, (number, text), last = [line async for line in bet_lines(file)]
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (first, number, last) == ((1, [1]), 2, (3, [3]))
    assert isinstance(text, str)
    assert len(text) == MAX_LINE_BYTES
    assert most_bytes < 150 * MAX_LINE_BYTES, "others run in this process, too"


async def test_a_file_that_is_no_text_is_refused_before_anything_is_placed(tmp_path: Path) -> None:
    file = tmp_path / "bets.jsonl.gz"
    file.write_bytes(b"\x1f\x8b\x08\x00" * 100)
    with pytest.raises(InvalidSetting, match="it is no text in UTF-8"):
        await anext(bet_lines(file))
