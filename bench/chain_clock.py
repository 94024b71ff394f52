"""When the local ledger made which slot final, as somebody sees it who asks twice a second: slots keep their length between two looks."""

import asyncio
import time
from typing import Final

from ledger.rpc import RpcClient

LOOK_SECONDS: Final = 0.5
NEAR_SECONDS: Final = 5.0
"""Looks within this are counted on: a busy machine lets slots drift."""


class ChainClock:
    """Looks at the chain while `keep_looking` runs."""

    def __init__(self, slot_seconds: float) -> None:
        self._slot_seconds = slot_seconds
        self._looks: list[tuple[float, int]] = []

    async def keep_looking(self, url: str) -> None:
        """Until it is cancelled."""
        async with RpcClient(url) as rpc:
            while True:
                finalized = (await rpc.epoch_info("finalized")).absolute_slot
                self._looks.append((time.time(), finalized))
                await asyncio.sleep(LOOK_SECONDS)

    def final_at(self, slot: int) -> float:
        """About when `slot` became final, in seconds since the epoch. Raises `ValueError` if nobody looked near it."""
        guesses = [at - (finalized - slot) * self._slot_seconds for at, finalized in self._looks]
        near = [guess for guess, (at, _) in zip(guesses, self._looks, strict=True) if abs(at - guess) <= NEAR_SECONDS]
        # A look comes after the slot that it shows, up to a slot's length: the earliest guess is the closest.
        return min(near)
