"""What the local ledger's tests share: an unmodified Solana client, raw JSON-RPC, and bounded polling."""

import asyncio
import base64
import itertools
import os
import signal
import struct
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Commitment
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import CreateAccountParams, TransferParams, create_account, transfer
from solders.sysvar import CLOCK, RENT
from solders.transaction import VersionedTransaction

from localnet.chain import CONFIRMED_DEPTH_BLOCKS
from localnet.engine import UPGRADEABLE_LOADER
from localnet.server import Running, serve

SOL = 10**9
FEE = 5_000
WAIT_SECONDS_MAX = 15.0
REPOSITORY = Path(__file__).resolve().parents[2]
_BUFFER_HEADER_BYTES = 37
_PROGRAM_BYTES = 36
_WRITE_CHUNK_BYTES = 900


async def until(condition: Callable[[], Awaitable[bool]], interval_seconds: float = 0.01) -> None:
    """Poll until the condition holds; fail after `WAIT_SECONDS_MAX`."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not await condition():
        assert time.monotonic() < deadline, "condition not met in time"
        await asyncio.sleep(interval_seconds)


class Cluster:
    """A local ledger as its clients see it."""

    def __init__(self, url: str, client: AsyncClient, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.client = client
        self._http = http
        self._ids = itertools.count(1)

    async def post(self, body: bytes) -> tuple[int, Any]:
        """HTTP status and decoded response of a raw body."""
        async with self._http.post(self.url, data=body, headers={"Content-Type": "application/json"}) as response:
            text = await response.read()
            return response.status, await response.json() if text and response.status == 200 else None

    async def call(self, method: str, *params: Any) -> dict[str, Any]:
        """The response envelope of one call."""
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}
        async with self._http.post(self.url, json=request) as response:
            return await response.json()

    async def result(self, method: str, *params: Any) -> Any:
        response = await self.call(method, *params)
        assert "result" in response, response
        return response["result"]

    async def error(self, method: str, *params: Any) -> dict[str, Any]:
        response = await self.call(method, *params)
        assert "error" in response, response
        return response["error"]

    async def inject(self, kind: str, **members: Any) -> int:
        """Inject a fault; its id."""
        return await self.result("croupierInjectFault", {"kind": kind, **members})

    async def stand_still(self) -> None:
        """Let no slot end until the faults are cleared; what has ended is on disk."""
        await self.inject("stuck")

        async def stored() -> bool:
            processed, confirmed = [await self.height(level) for level in ("processed", "confirmed")]
            return processed == confirmed + CONFIRMED_DEPTH_BLOCKS + 1

        await until(stored)

    async def height(self, commitment: str = "processed") -> int:
        return await self.result("getBlockHeight", {"commitment": commitment})

    async def clear_faults(self) -> int:
        return await self.result("croupierClearFaults")

    async def applied(self, kind: str) -> int:
        """How often a kind of fault was applied."""
        return (await self.result("croupierFaults"))["applied"].get(kind, 0)

    async def slot(self, commitment: str = "processed") -> int:
        return await self.result("getSlot", {"commitment": commitment})

    async def reach(self, slot: int, commitment: str = "processed") -> None:
        """Wait until the chain is there."""

        async def reached() -> bool:
            return await self.slot(commitment) >= slot

        await until(reached)

    async def blockhash(self, commitment: str = "confirmed") -> Hash:
        return (await self.client.get_latest_blockhash(Commitment(commitment))).value.blockhash

    async def balance(self, key: Pubkey, commitment: str = "processed") -> int:
        return (await self.result("getBalance", str(key), {"commitment": commitment}))["value"]

    async def status(self, signature: Signature, *, search: bool = False) -> dict[str, Any] | None:
        config = {"searchTransactionHistory": search}
        return (await self.result("getSignatureStatuses", [str(signature)], config))["value"][0]

    async def wait_for(self, signature: Signature, *levels: str) -> dict[str, Any]:
        """The transaction's status once it is at one of `levels`."""
        found: dict[str, Any] = {}

        async def reached() -> bool:
            status = await self.status(signature, search=True)
            found.update(status or {})
            return status is not None and status["confirmationStatus"] in levels

        await until(reached)
        return found

    async def funded(self, lamports: int = 10 * SOL) -> Keypair:
        """A new key whose balance is confirmed."""
        keypair = Keypair()
        signature = (await self.client.request_airdrop(keypair.pubkey(), lamports)).value
        await self.wait_for(signature, "confirmed", "finalized")
        return keypair

    async def send(self, transaction: VersionedTransaction, **config: Any) -> Signature:
        """Send as base64, preflight at confirmed unless told otherwise."""
        options = {"encoding": "base64", "preflightCommitment": "confirmed", **config}
        return Signature.from_string(await self.result("sendTransaction", wire(transaction), options))

    async def land(self, transaction: VersionedTransaction) -> dict[str, Any]:
        """Send and wait for `confirmed`; the status, which must be a success."""
        status = await self.wait_for(
            await self.send(transaction, preflightCommitment="processed"), "confirmed", "finalized"
        )
        assert status["err"] is None, status
        return status


def wire(transaction: VersionedTransaction) -> str:
    return base64.b64encode(bytes(transaction)).decode()


def sign(instructions: Sequence[Instruction], signers: Sequence[Keypair], blockhash: Hash) -> VersionedTransaction:
    """A legacy transaction paid by the first signer."""
    return VersionedTransaction(Message.new_with_blockhash(instructions, signers[0].pubkey(), blockhash), list(signers))


def pay(payer: Keypair, recipient: Pubkey, lamports: int, blockhash: Hash) -> VersionedTransaction:
    move = transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=recipient, lamports=lamports))
    return sign([move], [payer], blockhash)


@asynccontextmanager
async def connect(url: str) -> AsyncGenerator[Cluster]:
    async with AsyncClient(url, max_transport_retries=0) as client, aiohttp.ClientSession() as http:
        yield Cluster(url, client, http)


@asynccontextmanager
async def running_cluster(
    database: Path, slot_seconds: float, *, with_faults: bool = False
) -> AsyncGenerator[tuple[Cluster, Running]]:
    """A ledger served in this process."""
    async with (
        serve(database, "127.0.0.1", 0, slot_seconds, with_faults=with_faults) as running,
        connect(running.url) as cluster,
    ):
        yield cluster, running


class LocalnetProcess:
    """`python -m localnet` as a person starts it."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process = process
        self.url = url

    @classmethod
    async def start(cls, database: Path, slot_ms: int, *options: str) -> "LocalnetProcess":
        process = await launch("--db", str(database), "--port", "0", "--slot-ms", str(slot_ms), *options)
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), WAIT_SECONDS_MAX)).decode()
        assert "http://" in line, line
        return cls(process, line[line.index("http://") :].strip())

    async def kill(self) -> None:
        """As the power goes: no handler runs."""
        self._process.kill()
        await self._process.communicate()

    async def terminate(self) -> tuple[int, bytes]:
        """SIGTERM; exit status and what was written to stderr."""
        self._process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(self._process.communicate(), WAIT_SECONDS_MAX)
        assert self._process.returncode is not None
        return self._process.returncode, errors


async def launch(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "localnet",
        *arguments,
        cwd=REPOSITORY,
        env={**os.environ, "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def write_buffer(cluster: Cluster, authority: Keypair, elf: bytes) -> Pubkey:
    """A buffer of the upgradeable loader that holds a program."""
    buffer = Keypair()
    buffer_bytes = _BUFFER_HEADER_BYTES + len(elf)
    create_buffer = create_account(
        CreateAccountParams(
            from_pubkey=authority.pubkey(),
            to_pubkey=buffer.pubkey(),
            lamports=(await cluster.client.get_minimum_balance_for_rent_exemption(buffer_bytes)).value,
            space=buffer_bytes,
            owner=UPGRADEABLE_LOADER,
        )
    )
    writable, signing = AccountMeta(buffer.pubkey(), False, True), AccountMeta(authority.pubkey(), True, False)
    initialize = Instruction(UPGRADEABLE_LOADER, struct.pack("<I", 0), [writable, signing])
    await cluster.land(sign([create_buffer, initialize], [authority, buffer], await cluster.blockhash()))
    writes: list[Signature] = []
    for offset in range(0, len(elf), _WRITE_CHUNK_BYTES):
        chunk = elf[offset : offset + _WRITE_CHUNK_BYTES]
        data = struct.pack("<IIQ", 1, offset, len(chunk)) + chunk
        write = Instruction(UPGRADEABLE_LOADER, data, [writable, signing])
        writes.append(await cluster.send(sign([write], [authority], await cluster.blockhash())))
    for signature in writes:
        await cluster.wait_for(signature, "confirmed", "finalized")
    return buffer.pubkey()


def program_data_of(program: Pubkey) -> Pubkey:
    return Pubkey.find_program_address([bytes(program)], UPGRADEABLE_LOADER)[0]


async def deploy(cluster: Cluster, authority: Keypair, elf: bytes) -> Pubkey:
    """Deploy through the upgradeable loader, as a wallet does; the program's address."""
    buffer, program = await write_buffer(cluster, authority, elf), Keypair()
    create_program = create_account(
        CreateAccountParams(
            from_pubkey=authority.pubkey(),
            to_pubkey=program.pubkey(),
            lamports=(await cluster.client.get_minimum_balance_for_rent_exemption(_PROGRAM_BYTES)).value,
            space=_PROGRAM_BYTES,
            owner=UPGRADEABLE_LOADER,
        )
    )
    finish = Instruction(
        UPGRADEABLE_LOADER,
        struct.pack("<IQ", 2, len(elf)),
        [
            AccountMeta(authority.pubkey(), True, True),
            AccountMeta(program_data_of(program.pubkey()), False, True),
            AccountMeta(program.pubkey(), False, True),
            AccountMeta(buffer, False, True),
            AccountMeta(RENT, False, False),
            AccountMeta(CLOCK, False, False),
            AccountMeta(SYSTEM_PROGRAM, False, False),
            AccountMeta(authority.pubkey(), True, False),
        ],
    )
    await cluster.land(sign([create_program, finish], [authority, program], await cluster.blockhash()))
    return program.pubkey()
