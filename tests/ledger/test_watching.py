"""Whoever waits for a signature hears, whatever becomes of the look at the chain."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from ledger import watching
from ledger.rpc import RpcClient
from ledger.watching import SignatureWatch

PATIENCE_SECONDS = 10


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
