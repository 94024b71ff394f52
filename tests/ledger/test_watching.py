"""Whoever waits for a signature hears, whatever becomes of the look at the chain."""

import asyncio
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from ledger import watching
from ledger.rpc import RpcClient
from ledger.watching import SignatureWatch

PATIENCE_SECONDS = 10
NOTHING: Mapping[str, str] = {}


class BrokenClient:
    """Breaks as only an error in the program can, once it is let."""

    def __init__(self) -> None:
        self.asked, self.let = asyncio.Event(), asyncio.Event()

    async def signature_statuses(self, signatures: Sequence[str], *, search_history: bool) -> list[object]:
        self.asked.set()
        await self.let.wait()
        raise RuntimeError(f"an error in the program, {len(signatures)}, {search_history}")


async def test_a_look_that_breaks_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0)
    client = BrokenClient()
    watch = SignatureWatch(cast(RpcClient, client))
    async with asyncio.timeout(PATIENCE_SECONDS):
        early = asyncio.create_task(watch.statuses(["one", "two"]))
        await client.asked.wait()
        late = asyncio.create_task(watch.statuses(["three"]))
        await asyncio.sleep(0)  # It is in the queue for the next look now.
        client.let.set()
        assert await asyncio.gather(early, late) == [[None, None], [None]]
        # And another is asked for by whoever comes next.
        assert await watch.statuses(["four"]) == [None]


class ShowingClient:
    """Shows of each signature what the script has for this look."""

    def __init__(self, *looks: Mapping[str, str]) -> None:
        self._looks = list(looks)
        self.asked: list[list[str]] = []

    async def signature_statuses(self, signatures: Sequence[str], *, search_history: bool) -> list[SimpleNamespace]:
        assert not search_history
        self.asked.append(list(signatures))
        look = self._looks.pop(0)
        return [SimpleNamespace(value=look.get(signature)) for signature in signatures]


async def test_one_look_is_for_all_who_wait_and_wakes_those_for_whom_it_is_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0)
    client = ShowingClient({"one": "seen"}, {"one": "seen"}, {"one": "seen", "two": "final"})
    watch = SignatureWatch(cast(RpcClient, client))
    async with asyncio.timeout(PATIENCE_SECONDS):
        patient = asyncio.create_task(watch.statuses(["one", "two"], all))
        assert [*await watch.statuses(["one"])] == ["seen"]
        assert not patient.done()
        assert [*await patient] == ["seen", "final"]
    assert client.asked == [["one", "two"]] * 3


async def test_whoever_gives_up_waiting_is_not_looked_for_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.01)
    client = ShowingClient(*[NOTHING] * 100)
    watch = SignatureWatch(cast(RpcClient, client))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await watch.statuses(["one"], any)
    assert await watch.statuses(["two"]) == [None]
    assert client.asked[-1] == ["two"]
