"""What an operator sets up on a ledger before the first batch: program, config, circuits, houses, vaults, money in them.

Every `ensure_…` looks first and does only what is missing, so any of them can be interrupted and run again. It must never
change what is there already: what differs from what is wanted is an error that shows both. Nothing here is for settlements.
"""

import asyncio
import hashlib
import itertools
import secrets
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from ledger import instructions, layout
from ledger.adapter import is_expired
from ledger.failures import Failure, Fault
from ledger.rpc import (
    Account,
    Commitment,
    EpochInfo,
    RequestRefused,
    RpcClient,
    Seen,
    SignatureStatus,
    TransactionError,
)
from ledger.transactions import sign_message
from settlement.errors import LedgerMisconfigured, LedgerUnavailable
from settlement.shapes import Shape

COMMITMENT: Final[Commitment] = "confirmed"
"""What provisioning reads and waits for; the worker looks again before it starts."""

MAX_IN_FLIGHT: Final = 16
"""Transactions sent and not yet confirmed."""
RESEND_SECONDS: Final = 2.0
FIRST_POLL_SECONDS: Final = 0.05
LAST_POLL_SECONDS: Final = 1.0
"""How long the waits between looks at the ledger become while nothing lands."""
STALL_SECONDS: Final = 90.0
"""How long provisioning waits without anything landing before it gives up: longer than a blockhash lives (60 s)."""

VAULTS_PER_TRANSACTION: Final = 8
TRANSFERS_PER_TRANSACTION: Final = 16
COMPUTE_UNITS_PER_INSTRUCTION: Final = 200_000
"""The runtime's own default (agave `DEFAULT_INSTRUCTION_COMPUTE_UNIT_LIMIT`)."""
_DISTINGUISHING_UNITS: Final = 1_000
FEE_PER_SIGNATURE_LAMPORTS: Final = 5_000

_PREFIX_INSTRUCTIONS: Final = 2
"""The compute-budget instructions in front of each transaction."""

# UpgradeableLoaderState, bincode: agave `loader-v3-interface/src/state.rs`.
_BUFFER_HEADER: Final = struct.Struct("<IB32s")
_PROGRAM_ACCOUNT_BYTES: Final = 36
_PROGRAMDATA_HEADER: Final = struct.Struct("<IQB32s")
_BUFFER_VARIANT: Final = 1

_BUFFER_KEY_DOMAIN: Final = b"croupier/deployment-buffer/1"

PUBLIC_CLUSTERS: Final = {
    "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d": "mainnet-beta",
    "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxkZBBBG": "devnet",
    "4uhcVJyU9pJkvQyS88uRDiswHXSCkY3zQawwpjk2NsNY": "testnet",
}
"""By genesis hash (docs.anza.xyz/clusters/available)."""

Progress = Callable[[int, int], None]
"""Called with how many transactions of how many have landed."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Job:
    """One transaction to land. `preflight`: have the node simulate it first, for an early and cheap error."""

    purpose: str
    instructions: Sequence[Instruction]
    co_signers: Sequence[Keypair] = ()
    preflight: bool = True


@dataclass
class _Flight:
    """A job's signed transaction under way."""

    job: _Job
    raw: str
    last_valid_block_height: int
    sent_at: float


class Provisioner:
    """Sets up one ledger with the authority's key, which pays, upgrades and rules the program.

    Every method raises `LedgerUnavailable`, or `LedgerMisconfigured` with the remedy.
    """

    def __init__(self, rpc: RpcClient, authority: Keypair, *, priority_fee_micro_lamports: int) -> None:
        self._rpc = rpc
        self._authority = authority
        self._authority_key = authority.pubkey()
        self._micro_lamports_per_unit = priority_fee_micro_lamports
        self._distinct = itertools.count(secrets.randbelow(_DISTINGUISHING_UNITS))

    async def ensure_program(self, program: Keypair, code: bytes, progress: Progress) -> bool:
        """Deploys `code` (an ELF file) under `program`'s key unless it is there; answers whether it had to.

        An interrupted deployment goes on where it stood: its buffer account is found again by a key derived from the
        authority's and the code.
        """
        address = program.pubkey()
        if await self._is_deployed(address, code):
            await self._wait_until_callable(address)
            return False
        buffer = self._buffer_key(code)
        first, *writes, last = await self._deployment(address, buffer.pubkey(), code)
        written = await self._account(buffer.pubkey())
        await self._require_deposit(code, written)
        if written is None:
            await self._land([_Job("creating the buffer account", first, [buffer])])
            missing = writes
        else:
            missing = self._missing_writes(buffer.pubkey(), written, code, writes)
        done = len(writes) - len(missing)
        progress(done, len(writes))

        def landed() -> None:
            nonlocal done
            done += 1
            progress(done, len(writes))

        await self._land([_Job("writing the program", write, preflight=False) for write in missing], landed)
        await self._land([_Job("deploying the program", last, [program])])
        await self._wait_until_callable(address)
        return await self._is_deployed(address, code)

    async def ensure_config(self, program: Pubkey) -> bool:
        """Initialises the program with this authority; answers whether it had to."""
        account = await self._account(layout.config_address(program))
        if account is None or account.owner != program:
            key = self._authority_key
            await self._land([_Job("initialising the program", [instructions.initialise(program, key, key, key)])])
            return True
        found = layout.Config.decode(account.data).authority
        if found != self._authority_key:
            raise LedgerMisconfigured(
                f"program {program} on {self._rpc.name} obeys authority {found}, not {self._authority_key}: use the file"
                " of that key, or deploy under another program key"
            )
        return False

    async def ensure_circuit(self, program: Pubkey, shape: Shape, verifying_key: bytes) -> bool:
        """Registers a verifying key (`encode_verifying_key`) for a shape; answers whether it had to."""
        account = await self._account(layout.circuit_address(program, shape.circuit_id))
        if account is None or account.owner != program:
            register = instructions.register_circuit(
                program,
                self._authority_key,
                shape.circuit_id,
                bets=shape.bets,
                players=shape.players,
                verifying_key=verifying_key,
            )
            await self._land([_Job(f"registering circuit {shape.circuit_id}", [register])])
            return True
        found = layout.Circuit.decode(account.data)
        if (found.bets, found.players, found.verifying_key) != (shape.bets, shape.players, verifying_key):
            raise LedgerMisconfigured(
                f"circuit {shape.circuit_id} of program {program} on {self._rpc.name} is {found.bets}x{found.players} with"
                f" verifying key {_digest(found.verifying_key)}, not {shape.name} with {_digest(verifying_key)}: use the"
                " proving keys that belong to it (CROUPIER_CIRCUIT_KEYS), or deploy under another program key"
            )
        return False

    async def ensure_houses(self, program: Pubkey, lanes: int) -> int:
        """Opens the houses of lanes 0…`lanes`-1 that are not open; answers how many."""
        addresses = [layout.house_address(program, lane) for lane in range(lanes)]
        missing = await self._missing(program, addresses)
        await self._land(
            [
                _Job(f"opening the house of lane {lane}", [instructions.open_house(program, self._authority_key, lane)])
                for lane in missing
            ]
        )
        return len(missing)

    async def ensure_vaults(self, program: Pubkey, lane: int, players: Sequence[str]) -> int:
        """Opens the vaults that `players` (base58 keys) lack on the lane; answers how many."""
        owners = [Pubkey.from_string(player) for player in dict.fromkeys(players)]
        missing = await self._missing(program, [layout.vault_address(program, lane, owner) for owner in owners])
        opening = [instructions.open_vault(program, self._authority_key, lane, owners[at]) for at in missing]
        await self._land([_Job("opening vaults", chunk) for chunk in _chunks(opening, VAULTS_PER_TRANSACTION)])
        return len(missing)

    async def transfer(self, lamports: Mapping[Pubkey, int]) -> None:
        """Sends lamports from the authority to addresses: a house's bankroll, deposits into vaults.

        If it is interrupted, some may have arrived: look at `balances` before sending again.
        """
        transfers = [
            transfer(TransferParams(from_pubkey=self._authority_key, to_pubkey=address, lamports=amount))
            for address, amount in lamports.items()
        ]
        await self._land([_Job("sending SOL", chunk) for chunk in _chunks(transfers, TRANSFERS_PER_TRANSACTION)])

    async def balances(self, addresses: Sequence[Pubkey]) -> list[int]:
        """Lamports at each address, rent minimum included."""
        accounts = await self._rpc.accounts(addresses, COMMITMENT)
        return [account.lamports if account else 0 for account in accounts]

    async def airdrop(self, address: Pubkey, lamports: int) -> None:
        """Draws lamports from a local ledger's faucet. `LedgerMisconfigured` on any ledger that has none."""
        cluster = PUBLIC_CLUSTERS.get(await self._rpc.genesis_hash())
        if cluster is not None:
            raise LedgerMisconfigured(
                f"{self._rpc.name} is {cluster}, which has no faucet for Croupier: send {lamports} lamports to {address}"
            )
        try:
            signature = await self._rpc.request_airdrop(address, lamports)
        except RequestRefused as refusal:
            raise LedgerMisconfigured(f"{refusal}. Send {lamports} lamports to {address} yourself") from None
        # Which blockhash the faucet took is not told, but it cannot be newer than the newest one now.
        newest = await self._rpc.latest_blockhash("processed")
        polling = _Polling(self._rpc.name, f"an airdrop of {lamports} lamports to {address}")
        while True:
            finalized = await self._rpc.epoch_info("finalized")
            [status] = await self._rpc.signature_statuses([signature])
            if _has_confirmed(status):
                return
            if is_expired(status.value, status.slot, newest.last_valid_block_height, finalized):
                raise LedgerUnavailable(f"{self._rpc.name} has lost the airdrop {signature}: ask again")
            await polling.wait()

    async def _deployment(self, program: Pubkey, buffer: Pubkey, code: bytes) -> list[list[Instruction]]:
        sizes = (_BUFFER_HEADER.size + len(code), _PROGRAM_ACCOUNT_BYTES)
        minimums = {size: await self._rpc.rent_minimum(size) for size in sizes}
        key = self._authority_key
        return list(
            instructions.deployment(
                code,
                program=program,
                buffer=buffer,
                payer=key,
                upgrade_authority=key,
                rent_minimum=minimums.__getitem__,
            )
        )

    def _buffer_key(self, code: bytes) -> Keypair:
        seed = hashlib.sha256(_BUFFER_KEY_DOMAIN + self._authority.secret() + hashlib.sha256(code).digest())
        return Keypair.from_seed(seed.digest())

    def _missing_writes(
        self, buffer: Pubkey, account: Account, code: bytes, writes: Sequence[list[Instruction]]
    ) -> list[list[Instruction]]:
        expected = _BUFFER_HEADER.pack(_BUFFER_VARIANT, 1, bytes(self._authority_key))
        if len(account.data) != len(expected) + len(code) or not account.data.startswith(expected):
            raise LedgerMisconfigured(f"account {buffer} on {self._rpc.name} should be the buffer of the deployment")
        content = account.data[len(expected) :]
        size = instructions.DEPLOYMENT_CHUNK_BYTES
        return [
            write
            for offset, write in zip(range(0, len(code), size), writes, strict=True)
            if content[offset : offset + size] != code[offset : offset + size]
        ]

    async def _require_deposit(self, code: bytes, buffer: Account | None) -> None:
        """The buffer's lamports go into the programdata account, whose rent is not much more."""
        needed = await self._rpc.rent_minimum(_PROGRAMDATA_HEADER.size + len(code))
        needed += await self._rpc.rent_minimum(_PROGRAM_ACCOUNT_BYTES)
        needed += (len(code) // instructions.DEPLOYMENT_CHUNK_BYTES + 4) * FEE_PER_SIGNATURE_LAMPORTS
        [held] = await self.balances([self._authority_key])
        held += buffer.lamports if buffer else 0
        if held < needed:
            raise LedgerMisconfigured(
                f"authority {self._authority_key} on {self._rpc.name} holds {held} lamports and needs {needed} to deploy"
                " the program: send it SOL"
            )

    async def _is_deployed(self, program: Pubkey, code: bytes) -> bool:
        """Raises `LedgerMisconfigured` if something else stands at that address."""
        account = await self._account(program)
        if account is None:
            return False
        if not account.executable or account.owner != layout.UPGRADEABLE_LOADER:
            raise LedgerMisconfigured(
                f"account {program} on {self._rpc.name} exists and is not an upgradeable program: use another program key"
            )
        programdata = await self._account(layout.programdata_address(program))
        found = programdata.data[_PROGRAMDATA_HEADER.size :] if programdata else b""
        # An upgrade to shorter code leaves zeros behind it.
        if found[: len(code)] != code or any(found[len(code) :]):
            raise LedgerMisconfigured(
                f"program {program} on {self._rpc.name} has code {_digest(found)}, not this release's {_digest(code)}:"
                " deploy under another program key, or upgrade it with `solana program deploy`"
            )
        return True

    async def _wait_until_callable(self, program: Pubkey) -> None:
        """A program can be called from the slot after its deployment on."""
        polling = _Polling(self._rpc.name, f"program {program} to become callable")
        while True:
            programdata = await self._account(layout.programdata_address(program))
            now = await self._rpc.epoch_info(COMMITMENT)
            if programdata is not None and now.absolute_slot > _PROGRAMDATA_HEADER.unpack_from(programdata.data)[1]:
                return
            await polling.wait()

    async def _account(self, address: Pubkey) -> Account | None:
        return (await self._rpc.account(address, COMMITMENT)).value

    async def _missing(self, program: Pubkey, addresses: Sequence[Pubkey]) -> list[int]:
        """Positions of the addresses where the program has no account."""
        accounts = await self._rpc.accounts(addresses, COMMITMENT)
        return [at for at, account in enumerate(accounts) if account is None or account.owner != program]

    async def _land(self, jobs: Sequence[_Job], landed: Callable[[], None] = lambda: None) -> None:
        """Signs, sends and re-sends until every job is confirmed, in any order, several in flight.

        A job is signed anew only when its last transaction has provably expired, so a transfer is never made twice.
        """
        waiting, flying = deque(jobs), dict[str, _Flight]()
        polling = _Polling(self._rpc.name, "transactions to land")
        while waiting or flying:
            try:
                await self._launch(waiting, flying)
                if await self._observe(waiting, flying, landed):
                    polling.restart()
            except LedgerUnavailable as error:
                polling.trouble = error
            await polling.wait()

    async def _launch(self, waiting: deque[_Job], flying: dict[str, _Flight]) -> None:
        """Fills the room in flight, and sends again what has been under way for long."""
        now = time.monotonic()
        for flight in flying.values():
            if now - flight.sent_at >= RESEND_SECONDS:
                flight.sent_at = now
                await self._send(flight, preflight=False)
        if not waiting or len(flying) >= MAX_IN_FLIGHT:
            return
        blockhash = await self._rpc.latest_blockhash(COMMITMENT)
        while waiting and len(flying) < MAX_IN_FLIGHT:
            job = waiting.popleft()
            signature, raw = sign_message(self._message(job, blockhash.blockhash), [self._authority, *job.co_signers])
            flight = _Flight(job, raw, blockhash.last_valid_block_height, now)
            # Under way before it is sent: a node that fails in answering may have passed it on.
            flying[signature] = flight
            await self._send(flight, preflight=job.preflight)

    def _message(self, job: _Job, blockhash: str) -> Message:
        # The odd units make two equal transfers over one blockhash two transactions.
        odd_units = next(self._distinct) % _DISTINGUISHING_UNITS
        units = COMPUTE_UNITS_PER_INSTRUCTION * len(job.instructions) + odd_units
        prefix = [set_compute_unit_limit(units), set_compute_unit_price(self._micro_lamports_per_unit)]
        return Message.new_with_blockhash(
            [*prefix, *job.instructions], self._authority_key, Hash.from_string(blockhash)
        )

    async def _send(self, flight: _Flight, *, preflight: bool) -> None:
        try:
            await self._rpc.send(flight.raw, preflight=COMMITMENT if preflight else None)
        except RequestRefused as refusal:
            error = refusal.transaction_error
            failure = self._failure(flight.job, error) if error is not None else None
            # An unknown blockhash or a known transaction prove nothing: the statuses will tell.
            if failure is None or failure.fault not in (Fault.BLOCKHASH, Fault.PROCESSED):
                raise self._refused(flight.job, failure.text if failure else str(refusal), failure) from None

    async def _observe(self, waiting: deque[_Job], flying: dict[str, _Flight], landed: Callable[[], None]) -> bool:
        """Takes out of `flying` what has landed or expired; answers whether anything has."""
        finalized: EpochInfo = await self._rpc.epoch_info("finalized")
        signatures = list(flying)
        moved = False
        for signature, status in zip(signatures, await self._rpc.signature_statuses(signatures), strict=True):
            flight = flying[signature]
            if status.value is not None and status.value.err is not None:
                failure = self._failure(flight.job, status.value.err)
                raise self._refused(flight.job, failure.text, failure)
            if _has_confirmed(status):
                del flying[signature]
                landed()
                moved = True
            elif is_expired(status.value, status.slot, flight.last_valid_block_height, finalized):
                del flying[signature]
                waiting.append(flight.job)
        return moved

    def _failure(self, job: _Job, error: TransactionError) -> Failure:
        return Failure.of(error, range(_PREFIX_INSTRUCTIONS, _PREFIX_INSTRUCTIONS + len(job.instructions)))

    def _refused(self, job: _Job, text: str, failure: Failure | None) -> LedgerMisconfigured:
        if failure is not None and failure.fault is Fault.PAYER:
            return LedgerMisconfigured(
                f"authority {self._authority_key} cannot pay for {job.purpose} on {self._rpc.name}: send it SOL ({text})"
            )
        return LedgerMisconfigured(f"{self._rpc.name} refuses {job.purpose}: {text}")


class _Polling:
    """Waits between looks at the ledger, longer while nothing happens, and gives up after `STALL_SECONDS` of that."""

    def __init__(self, node: str, awaited: str) -> None:
        self._node = node
        self._awaited = awaited
        self.trouble: LedgerUnavailable | None = None
        self.restart()

    def restart(self) -> None:
        """Something has happened."""
        self._since = time.monotonic()
        self._seconds = FIRST_POLL_SECONDS

    async def wait(self) -> None:
        """Raises `LedgerUnavailable` after too long."""
        if time.monotonic() - self._since > STALL_SECONDS:
            raise self.trouble or LedgerUnavailable(
                f"waited {STALL_SECONDS:g} s in vain for {self._awaited} on {self._node}"
            )
        await asyncio.sleep(self._seconds)
        self._seconds = min(self._seconds * 1.5, LAST_POLL_SECONDS)


def _has_confirmed(status: Seen[SignatureStatus | None]) -> bool:
    return (
        status.value is not None
        and status.value.err is None
        and status.value.confirmation_status in (COMMITMENT, "finalized")
    )


def _chunks(items: Sequence[_T], size: int) -> list[Sequence[_T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
