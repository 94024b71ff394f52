"""HTTP and JSON-RPC 2.0 around the methods: bounds, envelopes, health, start and stop.

A request goes read → parse → answer each call → encode, one function a stage, and holds no lock between stages. No
exception of a method may reach the client as anything but a JSON-RPC error.

Sources: JSON-RPC 2.0 specification; agave `rpc/src/rpc_service.rs` (MAX_REQUEST_BODY_SIZE, /health).
"""

import asyncio
import errno
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import orjson
import structlog
from aiohttp import web

from .encoding import JsonObject
from .errors import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    LedgerUnusable,
    RpcError,
    invalid_params,
)
from .ledger import Ledger
from .params import Params
from .rpc import Rpc

REQUEST_BYTES_MAX: Final = 50 * 1024
REQUESTS_IN_FLIGHT_MAX: Final = 1024
"""Further requests are answered with HTTP 429."""
SHUTDOWN_SECONDS_MAX: Final = 2.0
"""Grace for requests in flight when the server stops."""

_JSON: Final = "application/json"
_log = structlog.get_logger("localnet.server")


class Endpoint:
    """JSON-RPC over POST, and the health page."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._in_flight = 0

    def application(self) -> web.Application:
        application = web.Application(client_max_size=REQUEST_BYTES_MAX)
        application.router.add_post("/", self._post)
        application.router.add_get("/health", self._health)
        return application

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _post(self, request: web.Request) -> web.Response:
        if self._in_flight >= REQUESTS_IN_FLIGHT_MAX:
            raise web.HTTPTooManyRequests
        self._in_flight += 1
        try:
            response = await self._answer_body(await request.read())
        finally:
            self._in_flight -= 1
        body = b"" if response is None else orjson.dumps(response)
        return web.Response(body=body, content_type=_JSON)

    async def _answer_body(self, body: bytes) -> JsonObject | list[JsonObject] | None:
        """The response to a request or a batch; None when there is nothing to say (notifications only)."""
        try:
            request = orjson.loads(body)
        except orjson.JSONDecodeError:
            return _failure(None, RpcError(PARSE_ERROR, "Parse error"))
        if not isinstance(request, list):
            return await self._answer_call(request)
        calls = cast(list[Any], request)
        if not calls:
            return _failure(None, RpcError(INVALID_REQUEST, "Invalid request"))
        responses: list[JsonObject] = []
        for call in calls:
            response = await self._answer_call(call)
            if response is not None:
                responses.append(response)
            # A batch must not keep the slots from ticking.
            await asyncio.sleep(0)
        return responses or None

    async def _answer_call(self, call: Any) -> JsonObject | None:
        request: dict[str, Any] = cast(dict[str, Any], call) if isinstance(call, dict) else {}
        identifier = request.get("id")
        method = request.get("method")
        if (
            request.get("jsonrpc") != "2.0"
            or not isinstance(method, str)
            or not (identifier is None or isinstance(identifier, str | int | float))
        ):
            return _failure(None, RpcError(INVALID_REQUEST, "Invalid request"))
        try:
            response = {"jsonrpc": "2.0", "result": await self._call(method, request.get("params")), "id": identifier}
        except RpcError as error:
            response = _failure(identifier, error)
        except Exception:
            _log.exception("failed", method=method)
            response = _failure(identifier, RpcError(INTERNAL_ERROR, "Internal error"))
        return response if "id" in request else None

    async def _call(self, method: str, params: Any) -> Any:
        handler = self._rpc.methods.get(method)
        if handler is None:
            raise RpcError(METHOD_NOT_FOUND, "Method not found")
        if params is not None and not isinstance(params, list):
            raise invalid_params("Invalid params: an array expected")
        return await handler(Params(cast(list[Any], params or [])))


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers at `url`. `slots` ends, with the reason as its exception, when the ledger cannot go on."""

    url: str
    ledger: Ledger
    slots: asyncio.Task[None]


@asynccontextmanager
async def serve(database: Path, host: str, port: int, slot_seconds: float) -> AsyncGenerator[Running]:
    """Serve the ledger in `database`; on leaving, the open slot is closed and stored.

    Args:
        port: 0 for any free one; see `Running.url`.

    Raises:
        LedgerUnusable: the database or the port cannot be had, or the ledger broke while serving.
    """
    ledger = Ledger.open(database, slot_seconds)
    try:
        runner = web.AppRunner(
            Endpoint(Rpc(ledger)).application(), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS_MAX
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            await _listen(site, host, port)
            bound_host, bound_port = runner.addresses[0][:2]
            slots = asyncio.create_task(ledger.run())
            try:
                url_host = f"[{bound_host}]" if ":" in bound_host else bound_host
                yield Running(f"http://{url_host}:{bound_port}", ledger, slots)
            finally:
                await site.stop()
                ledger.stop()
                await slots
        finally:
            await runner.cleanup()
    finally:
        ledger.close()


async def _listen(site: web.TCPSite, host: str, port: int) -> None:
    try:
        await site.start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} on {host} is taken; choose another with --port (0 finds a free one)"
        else:
            message = f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --host or --port"
        raise LedgerUnusable(message) from error


def _failure(identifier: Any, error: RpcError) -> JsonObject:
    body: JsonObject = {"code": error.code, "message": error.message}
    if error.data is not None:
        body["data"] = error.data
    return {"jsonrpc": "2.0", "error": body, "id": identifier}
