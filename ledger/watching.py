"""Watches signed transactions for all who wait for one: one look at the chain, every so often, for many at once.

What it tells is one node's unchecked word, a hint when to ask the judge. It must never decide anything: see `ledger.judging`.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from ledger.rpc import MAX_SIGNATURES_PER_REQUEST, RequestRefused, RpcClient, SignatureStatus
from settlement.errors import LedgerMisconfigured, LedgerUnavailable

LOOK_SECONDS: Final = 0.5
"""Between two looks, of which those who ask get the next."""


class SignatureWatch:
    """Looks only while somebody waits."""

    def __init__(self, rpc: RpcClient) -> None:
        self._rpc = rpc
        self._waiting: dict[str, asyncio.Future[SignatureStatus | None]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def statuses(self, signatures: Sequence[str]) -> list[SignatureStatus | None]:
        """What a node says of each at the next look; None also where it says nothing."""
        if not signatures:
            await asyncio.sleep(LOOK_SECONDS)
            return []
        loop = asyncio.get_running_loop()
        answers = [self._waiting.setdefault(signature, loop.create_future()) for signature in signatures]
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        # Others may wait for the same answers: whoever gives up waiting must not cancel them.
        await asyncio.wait(answers)
        return [answer.result() for answer in answers]

    async def _look(self) -> None:
        asked: dict[str, asyncio.Future[SignatureStatus | None]] = {}
        try:
            while self._waiting:
                await asyncio.sleep(LOOK_SECONDS)
                asked, self._waiting = self._waiting, {}
                signatures = list(asked)
                for start in range(0, len(signatures), MAX_SIGNATURES_PER_REQUEST):
                    chunk = signatures[start : start + MAX_SIGNATURES_PER_REQUEST]
                    for signature, status in zip(chunk, await self._seen(chunk), strict=True):
                        asked[signature].set_result(status)
        finally:
            # After an error nobody may wait for ever: the judge, who is then asked, says what is wrong.
            left = [*asked.values(), *self._waiting.values()]
            self._waiting = {}
            for answer in left:
                if not answer.done():
                    answer.set_result(None)

    async def _seen(self, signatures: Sequence[str]) -> list[SignatureStatus | None]:
        try:
            seen = await self._rpc.signature_statuses(signatures, search_history=False)
        except (LedgerUnavailable, LedgerMisconfigured, RequestRefused):
            # The judge, who is asked in any case after a while, says what is wrong with the node.
            return [None] * len(signatures)
        return [answer.value for answer in seen]
