"""Calls the local ledger's fault extension, which is there only under `--faults`."""

import asyncio
from typing import Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout

REQUEST_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 0.3


class ExtensionRefused(Exception):
    """The ledger has answered and does not do it: a fork that would undo final blocks, say."""


class FaultExtension:
    """The extension of the ledger at `url`. A ledger that is away, killed just now, is waited for."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def call(self, method: str, parameters: list[Any]) -> Any:
        """Raises `ExtensionRefused`. Repeated until there is an answer: none of the calls harms by being made twice."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        async with ClientSession(timeout=ClientTimeout(REQUEST_SECONDS), raise_for_status=True) as http:
            while True:
                try:
                    async with http.post(self._url, json=request) as response:
                        answer = await response.json()
                except (ClientError, TimeoutError, ValueError):
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                if "error" in answer:
                    raise ExtensionRefused(f"{method} {parameters}: {answer['error']['message']}")
                return answer["result"]
