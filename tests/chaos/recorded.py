"""A small run on a real ledger, recorded, so that tests can alter any part of the evidence and have it judged again."""

import base64
import json
import random
import shutil
import sqlite3
import struct
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

from chaos.checker import Deposits, Evidence, Verdict, check
from settlement.bets import Bet

LANES: Final = 2
KIND: Final = {"config": 1, "circuit": 2, "house": 3, "vault": 4, "record": 5}


def made_bets(name: str, players: Sequence[str], count: int) -> list[Bet]:
    """Bets of these players in turn, stakes all different, of every guess and outcome."""
    chance = random.Random(name)
    return [
        Bet(
            bet_id=f"{name}-{nth}",
            player=players[nth % len(players)],
            stake=1_000 + nth,
            guess=chance.choice(("heads", "tails")),
            outcome=chance.choice(("heads", "tails")),
        )
        for nth in range(count)
    ]


@dataclass
class Account:
    """An account in a node's answer, to be altered."""

    pubkey: str
    owner: str
    lamports: int
    data: bytes

    def put(self, layout: str, offset: int, change: Callable[[int], int]) -> None:
        """Changes the number that stands there."""
        data = bytearray(self.data)
        [value] = struct.unpack_from(layout, data, offset)
        struct.pack_into(layout, data, offset, change(value))
        self.data = bytes(data)


@dataclass(frozen=True)
class Recording:
    """What the ledger answered at one moment."""

    slot: int
    accounts: tuple[Account, ...]

    @classmethod
    def of(cls, result: Any) -> "Recording":
        return cls(
            result["context"]["slot"],
            tuple(
                Account(
                    one["pubkey"],
                    one["account"]["owner"],
                    one["account"]["lamports"],
                    base64.b64decode(one["account"]["data"][0]),
                )
                for one in result["value"]
            ),
        )


@dataclass
class Node:
    """The answer of a node that plays back; `requests`: what it was asked."""

    slot: int
    accounts: list[Account]
    body: bytes | None = None
    requests: list[Any] = field(default_factory=list[Any])

    def of(self, kind: str) -> list[Account]:
        return [account for account in self.accounts if account.data[:1] == bytes([KIND[kind]])]

    def answer(self) -> bytes:
        if self.body is not None:
            return self.body
        value = [
            {
                "pubkey": account.pubkey,
                "account": {
                    "lamports": account.lamports,
                    "owner": account.owner,
                    "data": [base64.b64encode(account.data).decode(), "base64"],
                    "executable": False,
                    "rentEpoch": 2**64 - 1,
                    "space": len(account.data),
                },
            }
            for account in self.accounts
        ]
        return json.dumps(
            {"jsonrpc": "2.0", "id": 1, "result": {"context": {"slot": self.slot}, "value": value}}
        ).encode()


@contextmanager
def serving(node: Node) -> Generator[str]:
    """Answers every request with what `node` says then; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            node.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            body = node.answer()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@dataclass
class Case:
    """A copy of a run's evidence, all of which may be altered before it is judged."""

    node: Node
    rpc_url: str
    program_id: str
    journal: Path
    folder: Path
    sent: list[Bet]
    acknowledged: list[Bet]
    houses: dict[int, int]
    players: dict[str, int]

    @property
    def evidence(self) -> Evidence:
        """Written as it stands now."""
        for name, bets in (("sent", self.sent), ("acknowledged", self.acknowledged)):
            (self.folder / f"{name}.jsonl").write_text("".join(f"{bet.model_dump_json()}\n" for bet in bets))
        return Evidence(
            rpc_url=self.rpc_url,
            program_id=self.program_id,
            journal=self.journal,
            sent=(self.folder / "sent.jsonl",),
            acknowledged=(self.folder / "acknowledged.jsonl",),
            deposits=Deposits(houses=self.houses, players=self.players),
            lanes=LANES,
        )

    def judged(self) -> Verdict:
        return check(self.evidence)

    def alter_journal(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.journal)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def delete(self, accounts: Iterable[Account]) -> None:
        for account in accounts:
            self.node.accounts.remove(account)


@dataclass(frozen=True)
class Run:
    """What was placed and settled. `batches`: bets by lane and number. `live`: the verdict on the ledger itself while it was honest.

    `doubled`, `strange`: what it shows after more was settled than placed.
    """

    program_id: str
    journal: Path
    deposits: Deposits
    batches: Mapping[tuple[int, int], Sequence[Bet]]
    live: Verdict
    honest: Recording
    doubled: Recording
    strange: Recording

    @property
    def bets(self) -> list[Bet]:
        return [bet for batch in self.batches.values() for bet in batch]

    @contextmanager
    def case(self, recording: Recording, folder: Path) -> Generator[Case]:
        journal = Path(shutil.copy(self.journal, folder))
        accounts = [Account(one.pubkey, one.owner, one.lamports, one.data) for one in recording.accounts]
        node = Node(recording.slot, accounts)
        with serving(node) as rpc_url:
            yield Case(
                node=node,
                rpc_url=rpc_url,
                program_id=self.program_id,
                journal=journal,
                folder=folder,
                sent=self.bets,
                acknowledged=self.bets,
                houses=dict(self.deposits.houses),
                players=dict(self.deposits.players),
            )
