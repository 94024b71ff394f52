"""HTTP and JSON-RPC 2.0 around the methods: bounds, envelopes, health, start and stop.

A request goes read → parse → answer each call → encode, one function a stage, and holds no lock between stages. No
exception of a method may reach the client as anything but a JSON-RPC error. One process serves several nodes of the
same chain, each under a path of its own; what disturbs one is asked of `faults` before, within and after its requests.

Sources: JSON-RPC 2.0 specification; agave `rpc/src/rpc_service.rs` (MAX_REQUEST_BODY_SIZE, /health).
"""

import asyncio
import errno
import socket
import struct
from collections.abc import AsyncGenerator, Mapping, Sequence
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
from .extension import Extension, ExtensionMethod
from .fault_kinds import BEHIND_BLOCKS_MAX, AfterFault, BadBody, BeforeFault, HangAfter, HangBefore, HttpStatus
from .faults import Faults
from .ledger import Ledger
from .node import NODES
from .params import Params
from .rpc import METHODS, Rpc

REQUEST_BYTES_MAX: Final = 50 * 1024
REQUESTS_IN_FLIGHT_MAX: Final = 1024
"""Further requests are answered with HTTP 429."""
SHUTDOWN_SECONDS_MAX: Final = 2.0
"""Grace for requests in flight when the server stops."""

_JSON: Final = "application/json"
_GARBAGE: Final = b'{"jsonrpc":"2.0","result":\xff\x00'
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""Linger for no time: what was not sent is thrown away and the peer's connection reset."""
_log = structlog.get_logger("localnet.server")


class Endpoint:
    """JSON-RPC over POST, and the health page. `extension` is None where no faults can be made."""

    def __init__(self, faults: Faults, extension: Extension | None) -> None:
        self._faults = faults
        self._extension: Mapping[str, ExtensionMethod] = {} if extension is None else extension.methods
        self._in_flight = 0

    def application(self) -> web.Application:
        application = web.Application(client_max_size=REQUEST_BYTES_MAX)
        application.router.add_post("/", self._post)
        application.router.add_post(f"/nodes/{{node:[0-{NODES - 1}]}}", self._post)
        application.router.add_get("/health", self._health)
        return application

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _post(self, request: web.Request) -> web.Response:
        if self._in_flight >= REQUESTS_IN_FLIGHT_MAX:
            raise web.HTTPTooManyRequests
        self._in_flight += 1
        try:
            return await self._respond(request)
        finally:
            self._in_flight -= 1

    async def _respond(self, request: web.Request) -> web.Response:
        node = int(request.match_info.get("node", "0"))
        try:
            body = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            return _json(_failure(None, RpcError(PARSE_ERROR, "Parse error")))
        methods = self._methods(body)
        before = self._faults.before(node, methods)
        if before is not None:
            return await self._disturb(request, before)
        answer = await self._answer_body(node, body)
        after = self._faults.after(node, methods)
        if after is not None:
            return await self._disturb(request, after)
        return _json(answer)

    def _methods(self, body: Any) -> Sequence[str]:
        """What a request or batch asks for, for faults to hit; nothing when the extension is among it."""
        calls = cast(list[Any], body) if isinstance(body, list) else [body]
        objects = [cast(dict[str, Any], call) for call in calls if isinstance(call, dict)]
        methods = [method for method in (call.get("method") for call in objects) if isinstance(method, str)]
        return [] if any(method in self._extension for method in methods) else methods

    async def _disturb(self, request: web.Request, fault: BeforeFault | AfterFault) -> web.Response:
        match fault:
            case HttpStatus(status=status):
                return web.Response(status=status)
            case BadBody():
                return web.Response(body=_GARBAGE, content_type=_JSON)
            case HangBefore() | HangAfter():
                await self._faults.hang()
            case _:
                pass
        _reset(request)
        return web.Response()  # to nobody

    async def _answer_body(self, node: int, body: Any) -> JsonObject | list[JsonObject] | None:
        """The response to a request or a batch; None when there is nothing to say (notifications only)."""
        if not isinstance(body, list):
            return await self._answer_call(node, body)
        calls = cast(list[Any], body)
        if not calls:
            return _failure(None, RpcError(INVALID_REQUEST, "Invalid request"))
        responses: list[JsonObject] = []
        for call in calls:
            response = await self._answer_call(node, call)
            if response is not None:
                responses.append(response)
            # A batch must not keep the slots from ticking.
            await asyncio.sleep(0)
        return responses or None

    async def _answer_call(self, node: int, call: Any) -> JsonObject | None:
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
            result = await self._call(node, method, request.get("params"))
            response = {"jsonrpc": "2.0", "result": result, "id": identifier}
        except RpcError as error:
            response = _failure(identifier, error)
        except Exception:
            _log.exception("failed", method=method)
            response = _failure(identifier, RpcError(INTERNAL_ERROR, "Internal error"))
        return response if "id" in request else None

    async def _call(self, node: int, method: str, params: Any) -> Any:
        handler, extended = METHODS.get(method), self._extension.get(method)
        if params is not None and not isinstance(params, list):
            raise invalid_params("Invalid params: an array expected")
        values = Params(cast(list[Any], params or []))
        if extended is not None:
            return await extended(values)
        if handler is not None:
            return await handler(Rpc(self._faults.node(node, method)), values)
        raise RpcError(METHOD_NOT_FOUND, "Method not found")


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers at `url`, for each node at `/nodes/<i>` below it.

    `slots` ends, with the reason as its exception, when the ledger cannot go on.
    """

    url: str
    ledger: Ledger
    slots: asyncio.Task[None]


@asynccontextmanager
async def serve(
    database: Path, host: str, port: int, slot_seconds: float, *, with_faults: bool = False
) -> AsyncGenerator[Running]:
    """Serve the ledger in `database`; on leaving, the open slot is closed and stored.

    Args:
        port: 0 for any free one; see `Running.url`.
        with_faults: whether the extension that makes faults is served.

    Raises:
        LedgerUnusable: the database or the port cannot be had, or the ledger broke while serving.
    """
    ledger = Ledger.open(database, slot_seconds, BEHIND_BLOCKS_MAX if with_faults else 0)
    try:
        faults = Faults(ledger)
        ledger.hold_slots_while(faults.no_slot_ends)
        endpoint = Endpoint(faults, Extension(ledger, faults) if with_faults else None)
        runner = web.AppRunner(endpoint.application(), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS_MAX)
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
                faults.clear()
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


def _json(answer: JsonObject | list[JsonObject] | None) -> web.Response:
    return web.Response(body=b"" if answer is None else orjson.dumps(answer), content_type=_JSON)


def _reset(request: web.Request) -> None:
    """End the connection as a crash of the node would: no answer, and no farewell."""
    transport = request.transport
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()


def _failure(identifier: Any, error: RpcError) -> JsonObject:
    body: JsonObject = {"code": error.code, "message": error.message}
    if error.data is not None:
        body["data"] = error.data
    return {"jsonrpc": "2.0", "error": body, "id": identifier}
