"""Watches signed transactions for all who wait for one: one look at the chain, every so often, for many at once.

What it tells is one node's unchecked word, a hint when to ask the judge. It must never decide anything: see `ledger.judging`.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ledger.rpc import MAX_SIGNATURES_PER_REQUEST, RequestRefused, RpcClient, SignatureStatus
from settlement.errors import LedgerMisconfigured, LedgerUnavailable

LOOK_SECONDS: Final = 0.5
"""Between two looks, of which those who ask get the next."""

Statuses = list[SignatureStatus | None]


@dataclass(frozen=True, eq=False)
class _Waiting:
    signatures: Sequence[str]
    is_news: Callable[[Statuses], bool]
    answer: asyncio.Future[Statuses]

    def tell(self, statuses: Statuses) -> None:
        if not self.answer.done():
            self.answer.set_result(statuses)


class SignatureWatch:
    """Looks only while somebody waits, and wakes only those for whom there is news."""

    def __init__(self, rpc: RpcClient) -> None:
        self._rpc = rpc
        self._waiting: list[_Waiting] = []
        self._looking: asyncio.Task[None] | None = None

    async def statuses(self, signatures: Sequence[str], is_news: Callable[[Statuses], bool] = bool) -> Statuses:
        """What a node says of each at the first look that is news; None also where it says nothing, or cannot be asked."""
        if not signatures:
            await asyncio.sleep(LOOK_SECONDS)
            return []
        waiting = _Waiting(signatures, is_news, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            return await waiting.answer
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    async def _look(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(LOOK_SECONDS)
                asked = list(self._waiting)
                signatures = list(dict.fromkeys(signature for each in asked for signature in each.signatures))
                shown: dict[str, SignatureStatus | None] = {}
                for start in range(0, len(signatures), MAX_SIGNATURES_PER_REQUEST):
                    chunk = signatures[start : start + MAX_SIGNATURES_PER_REQUEST]
                    shown |= zip(chunk, await self._seen(chunk), strict=True)
                for each in asked:
                    statuses = [shown[signature] for signature in each.signatures]
                    if each.is_news(statuses):
                        each.tell(statuses)
        finally:
            # After an error nobody may wait for ever: the judge, who is then asked, says what is wrong.
            for each in self._waiting:
                each.tell([None] * len(each.signatures))
            self._waiting = []

    async def _seen(self, signatures: Sequence[str]) -> Statuses:
        try:
            seen = await self._rpc.signature_statuses(signatures, search_history=False)
        except (LedgerUnavailable, LedgerMisconfigured, RequestRefused):
            # The judge, who is asked in any case after a while, says what is wrong with the node.
            return [None] * len(signatures)
        return [answer.value for answer in seen]
