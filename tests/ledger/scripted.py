"""An RPC node that says what a test tells it to, for what a healthy local ledger never says."""

import asyncio
import base64
import json
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, cast

from aiohttp import web
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from ledger import layout
from ledger.adapter import ConfirmedAt, SolanaLedger
from ledger.fees import PriceBounds
from ledger.rpc import RpcClient
from settlement.batches import Proof, SignedAttempt, Statement, statement_for
from settlement.shapes import SHAPES
from tests.ledger.support import bets_with, new_players

Json: TypeAlias = dict[str, Any]
Answer: TypeAlias = Callable[[list[Any]], Any]

PROGRAM: Final = Pubkey(bytes(range(32)))
LANE: Final = 7
NUMBER: Final = 41
LAST_VALID: Final = 1_000
"""Block height up to which scripted attempts are valid."""
FINALIZED_SLOT: Final = 5_000
RECORD_SLOT: Final = 4_321
UNITS: Final = 150_000
_BLOCKHASH: Final = str(Pubkey(bytes([9] * 32)))


class Refusal(Exception):
    """Makes an answer a JSON-RPC error."""

    def __init__(self, code: int, data: object = None) -> None:
        super().__init__()
        self.code = code
        self.data = data


@dataclass
class ScriptedNode:
    """`answers` by method; `body`, if set, replaces every answer; `hangs`: there is none.

    `calls` holds method and parameters as they came.
    """

    url: str = ""
    answers: dict[str, Answer] = field(default_factory=dict[str, Answer])
    body: Callable[[], web.StreamResponse] | None = None
    hangs: bool = False
    calls: list[tuple[str, list[Any]]] = field(default_factory=list[tuple[str, list[Any]]])

    def called(self, method: str) -> list[list[Any]]:
        return [params for name, params in self.calls if name == method]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        call = cast(Json, await request.json())
        self.calls.append((call["method"], call["params"]))
        if self.hangs:
            await asyncio.Event().wait()
        if self.body is not None:
            return self.body()
        reply: Json = {"jsonrpc": "2.0", "id": call["id"]}
        try:
            reply["result"] = self.answers[call["method"]](call["params"])
        except Refusal as refusal:
            reply["error"] = {"code": refusal.code, "message": "as scripted", "data": refusal.data}
        return web.Response(text=json.dumps(reply), content_type="application/json")


@asynccontextmanager
async def serving(node: ScriptedNode) -> AsyncGenerator[ScriptedNode]:
    application = web.Application()
    application.router.add_post("/", node.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        node.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield node
    finally:
        await runner.cleanup()


@dataclass
class ScriptedChain:
    """The chain that a scripted node tells of. By default: attempts expired long ago, nobody knows them, no record."""

    node: ScriptedNode
    authority: Keypair = field(default_factory=Keypair)
    heights: dict[str, int] = field(
        default_factory=lambda: {
            "finalized": LAST_VALID + 1,
            "confirmed": LAST_VALID + 31,
            "processed": LAST_VALID + 32,
        }
    )
    finalized_slot: int = FINALIZED_SLOT
    status_slot: int = FINALIZED_SLOT
    record_slot: int = FINALIZED_SLOT
    statuses: dict[str, Json] = field(default_factory=dict[str, Json])
    roots: dict[str, int | None] = field(default_factory=lambda: {"confirmed": None, "finalized": None})
    history: list[Json] = field(default_factory=list[Json])
    first_available: int = 0
    fees: list[int] = field(default_factory=list[int])
    genesis_hash: str = "scripted"
    transactions: dict[str, Json] = field(default_factory=dict[str, Json])

    def __post_init__(self) -> None:
        self.node.answers = {
            "getEpochInfo": self._epoch_info,
            "getSignatureStatuses": lambda params: self._seen(
                self.status_slot, [self.statuses.get(signature) for signature in params[0]]
            ),
            "getAccountInfo": lambda params: self._seen(self.record_slot, self._record(params[1]["commitment"])),
            "getSignaturesForAddress": self._history,
            "getTransaction": lambda params: self.transactions.get(params[0]),
            "getLatestBlockhash": lambda _: self._seen(
                FINALIZED_SLOT, {"blockhash": _BLOCKHASH, "lastValidBlockHeight": LAST_VALID}
            ),
            "simulateTransaction": lambda _: self._seen(
                FINALIZED_SLOT, {"err": None, "unitsConsumed": UNITS, "logs": []}
            ),
            "sendTransaction": lambda _: "1" * 64,
            "getFirstAvailableBlock": lambda _: self.first_available,
            "getRecentPrioritizationFees": lambda _: [
                {"slot": slot, "prioritizationFee": fee} for slot, fee in enumerate(self.fees)
            ],
            "getGenesisHash": lambda _: self.genesis_hash,
        }

    def ledger(
        self, rpc: RpcClient, commitment: ConfirmedAt = "finalized", price: int = 0, ceiling: int = 0
    ) -> SolanaLedger:
        return SolanaLedger(
            rpc, PROGRAM, self.authority, commitment=commitment, price=PriceBounds(price, max(price, ceiling))
        )

    def knows(self, attempt: SignedAttempt, level: str = "finalized", err: Any = None, slot: int = RECORD_SLOT) -> None:
        """The node knows the attempt at that level."""
        self.statuses[attempt.signature] = {
            "slot": slot,
            "confirmations": None,
            "err": err,
            "confirmationStatus": level,
        }

    def has_record(self, root: int, *levels: str) -> None:
        """The batch's record has that root at these levels, both by default."""
        for level in levels or ("confirmed", "finalized"):
            self.roots[level] = root

    def _epoch_info(self, params: list[Any]) -> Json:
        return {"absoluteSlot": self.finalized_slot, "blockHeight": self.heights[params[0]["commitment"]], "epoch": 0}

    def _record(self, commitment: str) -> Json | None:
        root = self.roots[commitment]
        if root is None:
            return None
        fields = (
            layout.Kind.BATCH,
            255,
            LANE,
            NUMBER,
            SHAPES[0].circuit_id,
            2,
            2,
            0,
            RECORD_SLOT,
            root.to_bytes(32, "big"),
        )
        return {
            "lamports": 1,
            "owner": str(PROGRAM),
            "executable": False,
            "data": [base64.b64encode(struct.pack("<BBHQHHHqQ32s", *fields)).decode(), "base64"],
        }

    def _history(self, params: list[Any]) -> list[Json]:
        before = params[1].get("before")
        start = next((at + 1 for at, info in enumerate(self.history) if info["signature"] == before), 0)
        return self.history[start : start + params[1]["limit"]]

    @staticmethod
    def _seen(slot: int, value: Any) -> Json:
        return {"context": {"slot": slot}, "value": value}


def transaction_json(slot: int, *programs: Pubkey) -> Json:
    """A `getTransaction` answer of a transaction that calls these programs."""
    keys = [str(Pubkey(bytes([1] * 32))), *map(str, programs)]
    return {
        "slot": slot,
        "meta": {
            "err": None,
            "fee": 5_123,
            "preBalances": [0] * len(keys),
            "postBalances": [0] * len(keys),
            "computeUnitsConsumed": 98_765,
        },
        "transaction": {
            "message": {
                "accountKeys": keys,
                "instructions": [{"programIdIndex": at + 1} for at in range(len(programs))],
            }
        },
    }


def a_statement(number: int = NUMBER, salt: str = "") -> Statement:
    """Two players; another `salt` makes it another batch, with another root."""
    players = new_players(2)
    return statement_for(LANE, number, bets_with(players, [1_000, -3_000], salt), {players[0]: 1, players[1]: 2})


def a_proof(statement: Statement) -> Proof:
    """Of the right size; nobody verifies it here."""
    return Proof(
        circuit_id=statement.shape.circuit_id, public_input=statement.public_input, proof="01" * 256, milliseconds=1
    )
