"""The code that docs/client.md shows is run as it stands there."""

import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import pytest

from client.placing import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, MAX_BETS_AHEAD
from journal.migrate import upgrade
from tests.workflow.casino import open_casino

PAGE: Final = Path(__file__).parents[2] / "docs" / "client.md"


def shown_code() -> dict[str, Any]:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"__name__": "shown"}
    exec(compile(code, PAGE.name, "exec"), names)
    return names


async def test_the_code_shown_places_bets_and_tells_duplicates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await upgrade(f"sqlite:///{tmp_path / 'journal.db'}")
    main: Callable[[], Coroutine[Any, Any, None]] = shown_code()["main"]
    async with open_casino(tmp_path / "journal.db", skips_time=False) as casino:
        monkeypatch.setenv("TEMPORAL_ADDRESS", casino.client.service_client.config.target_host)
        monkeypatch.setenv("CROUPIER_LANES", "1")
        await main()
        await main()
        assert (await casino.status()).counters.accepted == 2
    said = capsys.readouterr().out
    assert "bet 0 of the stream was taken before; its batch: " in said
    assert said.count("was taken before") == 4


def test_the_bounds_named_are_the_bounds_kept() -> None:
    page = PAGE.read_text()
    assert f"{MAX_BETS_AHEAD:,} bets (`MAX_BETS_AHEAD`)" in page
    assert f"from {FIRST_WAIT_SECONDS * 1_000:.0f} ms, doubling to\n{LONGEST_WAIT_SECONDS:.0f} s" in page
