"""A local ledger in a process of its own, and batches to settle on it, for the tests of the adapter."""

import asyncio
import random
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import groth16py
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from ledger import layout
from ledger.adapter import ConfirmedAt, SolanaLedger
from ledger.fees import PriceBounds
from ledger.provisioning import Provisioner
from ledger.rpc import RpcClient
from settlement.batches import Proof, SignedAttempt, Standing, Statement, Verdict, statement_for
from settlement.bets import Bet, Side
from settlement.verifying_keys import encode_verifying_key

SOL: Final = 1_000_000_000
SLOT_MILLISECONDS: Final = 10
HOUSE_BALANCE: Final = 10 * SOL
VAULT_BALANCE: Final = SOL
PRIORITY_FEE: Final = 1_000
MAX_PRIORITY_FEE: Final = 1_000_000
PATIENCE_SECONDS: Final = 20.0

_CIRCUIT_FOR_ANY_STATEMENT: Final = """
pragma circom 2.0.0;
template Any() {
    signal input statement;
    signal input left;
    signal input right;
    statement === left * right;
}
component main {public [statement]} = Any();
"""


class AnyProver:
    """Proves whatever public input it is asked to: these tests are about the ledger, not about the circuit."""

    def __init__(self, folder: Path) -> None:
        source = folder / "any.circom"
        source.write_text(_CIRCUIT_FOR_ANY_STATEMENT)
        self._key, verifying_key = groth16py.setup_circom(str(source), [])
        self.verifying_key = encode_verifying_key(verifying_key.to_json())

    def prove(self, statement: Statement) -> Proof:
        value = statement.public_input
        proof = groth16py.prove(self._key, {"statement": value, "left": value, "right": 1})
        return Proof(
            circuit_id=statement.shape.circuit_id, public_input=value, proof=bytes(proof).hex(), milliseconds=1
        )


class LocalNode:
    """`python -m localnet` on a port of its own; may be killed and started again on the same database."""

    def __init__(self, database: Path) -> None:
        self._database = database
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns once it serves."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "localnet",
            "--db",
            str(self._database),
            "--port",
            str(self._port),
            "--slot-ms",
            str(SLOT_MILLISECONDS),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        ready = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE_SECONDS)
        assert ready, "the local ledger did not start"

    async def kill(self) -> None:
        """As `kill -9`."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@dataclass
class World:
    """A provisioned ledger: program deployed, both circuits registered, houses open."""

    node: LocalNode
    rpc: RpcClient
    provisioner: Provisioner
    program: Pubkey
    authority: Keypair
    prover: AnyProver

    def ledger(self, commitment: ConfirmedAt = "finalized", authority: Keypair | None = None) -> SolanaLedger:
        return SolanaLedger(
            self.rpc,
            self.program,
            authority or self.authority,
            commitment=commitment,
            price=PriceBounds(PRIORITY_FEE, MAX_PRIORITY_FEE),
        )

    async def lamports(self, address: Pubkey) -> int:
        [held] = await self.provisioner.balances([address])
        return held


@dataclass
class Table:
    """A lane of a test's own, with players who have vaults and money."""

    world: World
    lane: int
    players: list[str]

    @property
    def house(self) -> Pubkey:
        return layout.house_address(self.world.program, self.lane)

    def vault(self, position: int) -> Pubkey:
        return layout.vault_address(self.world.program, self.lane, Pubkey.from_string(self.players[position]))

    async def statement(self, nets: Sequence[int], number: int = 1, salt: str = "") -> Statement:
        """One bet for each net, of the player in its place."""
        vaults = await self.world.ledger().vaults(self.lane, self.players)
        assert set(vaults) == set(self.players)
        bets = bets_with(self.players, nets, salt)
        return statement_for(self.lane, number, bets, {player: vault.index for player, vault in vaults.items()})

    async def balances(self) -> list[int]:
        """The house's, then the players'."""
        return await self.world.provisioner.balances(
            [self.house, *(self.vault(position) for position in range(len(self.players)))]
        )


def unheard(done: int, total: int) -> None:
    """Progress that nobody follows."""
    del done, total


def bets_with(players: Sequence[str], nets: Sequence[int], salt: str = "") -> list[Bet]:
    return [
        Bet(bet_id=f"bet-{salt}-{position}", player=player, stake=abs(net), guess="heads", outcome=_outcome(net))
        for position, (player, net) in enumerate(zip(players, nets, strict=True))
    ]


def _outcome(net: int) -> Side:
    return "heads" if net > 0 else "tails"


def new_players(count: int) -> list[str]:
    return [str(Pubkey(random.randbytes(32))) for _ in range(count)]


async def settled(ledger: SolanaLedger, statement: Statement, attempts: Sequence[SignedAttempt]) -> Verdict:
    """The verdict, once it is no longer Pending."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while (verdict := await ledger.judge(statement, attempts)).standing is Standing.PENDING:
        assert asyncio.get_running_loop().time() < deadline, "the attempts neither land nor expire"
        await asyncio.sleep(SLOT_MILLISECONDS / 1_000)
    return verdict
