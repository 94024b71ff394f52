"""Brings the program's code onto the chain through the upgradeable loader: first deployment, upgrades, buffers for others.

An interrupted deployment or upgrade goes on where it stood: the buffer account that the code is written into is found
again by a key derived from its writer's and the code. It must never replace code without having been asked for an upgrade.
"""

import hashlib
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM

from ledger import layout, loader
from ledger.deployed import (
    DeployedProgram,
    deployed_program,
    require_deployed,
    require_upgrade_authority,
    wait_for_program,
    wait_until_callable,
)
from ledger.landing import COMPUTE_UNITS_PER_INSTRUCTION, Job, Lander
from ledger.rpc import READ_COMMITMENT, Account, RpcClient
from settlement.errors import LedgerMisconfigured

FEE_PER_SIGNATURE_LAMPORTS: Final = 5_000
MICRO_LAMPORTS_PER_LAMPORT: Final = 1_000_000

_BUFFER_KEY_DOMAIN: Final = b"croupier/deployment-buffer/1"
_TRANSACTIONS_BESIDE_WRITES: Final = 3
"""Create the buffer; extend the program; deploy, upgrade or hand the buffer over."""
_MAX_SIGNATURES: Final = 2
"""The payer's, and the program's, the buffer's or the upgrade authority's."""
_MAX_INSTRUCTIONS: Final = 4
"""Those that create the buffer."""

Progress = Callable[[int, int], None]
"""Called with how many transactions of how many have landed."""


class Staged(Enum):
    """Where the code is that was to be staged: in the buffer, by now or from before, or run by the program already."""

    WRITTEN = auto()
    WRITTEN_ALREADY = auto()
    RUNS_ALREADY = auto()


class Deployer:
    """Deploys and upgrades programs. `payer` pays, and is the upgrade authority unless another key is given.

    Every method looks first and does only what is missing, so any of them can be interrupted and run again. They raise
    `LedgerUnavailable`, or `LedgerMisconfigured` with the remedy.
    """

    def __init__(
        self,
        rpc: RpcClient,
        payer: Keypair,
        *,
        priority_fee_micro_lamports: int,
        upgrade_authority: Keypair | None = None,
    ) -> None:
        self._rpc = rpc
        self._payer = payer.pubkey()
        self._writer = upgrade_authority or payer
        self.authority = self._writer.pubkey()
        self._lander = Lander(rpc, payer, priority_fee_micro_lamports=priority_fee_micro_lamports)
        self._micro_lamports_per_unit = priority_fee_micro_lamports

    def buffer_address(self, code: bytes) -> Pubkey:
        """Where this key writes the code."""
        return self._buffer_key(code).pubkey()

    async def ensure_program(self, program: Keypair, code: bytes, progress: Progress) -> bool:
        """Deploys `code` (an ELF file) under `program`'s key unless it is there; answers whether it had to."""
        address = program.pubkey()
        found = await deployed_program(self._rpc, address)
        if found is not None:
            if not found.runs(code):
                raise LedgerMisconfigured(
                    f"program {address} on {self._rpc.name} has code sha256:{found.code_sha256}, not this release's"
                    f" sha256:{hashlib.sha256(code).hexdigest()}: run `python starter.py program upgrade`, or deploy under"
                    " another program key"
                )
            await wait_until_callable(self._rpc, address)
            return False
        # The buffer's lamports go into the programdata account, whose rent is not much more.
        needed = await deployment_lamports(self._rpc, code, self._micro_lamports_per_unit)
        await self._require_lamports(needed, code, "deploy the program")
        buffer = await self._write_buffer(code, progress)
        deploy = loader.deploy(
            len(code),
            program=address,
            buffer=buffer,
            payer=self._payer,
            authority=self.authority,
            lamports=await self._rpc.rent_minimum(loader.PROGRAM_ACCOUNT_BYTES),
        )
        await self._land(Job("deploying the program", deploy, [program, *self._writer_signing()]))
        await self._wait_until_it_runs(address, code)
        return True

    async def ensure_code(self, program: Pubkey, code: bytes, progress: Progress) -> bool:
        """Upgrades the program to `code` (an ELF file) unless it runs that; answers whether it had to.

        Refused before anything is paid if this key is not the upgrade authority. If it is killed while the extension of
        a too small program is under way and run again at once, the program may be extended twice: room, and its rent.
        """
        found = await require_deployed(self._rpc, program)
        if found.runs(code):
            await wait_until_callable(self._rpc, program)
            return False
        require_upgrade_authority(found, self.authority, self._rpc.name)
        buffer = await self._prepare_upgrade(found, code, progress)
        # The node simulates on the newest confirmed slot, which may be that of the last deployment or of the extension.
        await wait_until_callable(self._rpc, program)
        upgrade = loader.upgrade(program, buffer=buffer, spill=self._payer, authority=self.authority)
        await self._land(Job("upgrading the program", [upgrade], self._writer_signing()))
        await self._wait_until_it_runs(program, code)
        return True

    async def stage(self, program: Pubkey, code: bytes, progress: Progress) -> Staged:
        """Writes `code` into a buffer that belongs to the program's upgrade authority, who can then upgrade with it alone."""
        found = await require_deployed(self._rpc, program)
        if found.runs(code):
            return Staged.RUNS_ALREADY
        owner = found.upgrade_authority
        if owner is None or owner == self.authority:
            require_upgrade_authority(found, self.authority, self._rpc.name)
            raise LedgerMisconfigured(
                f"{self.authority} is the upgrade authority itself: run `python starter.py program upgrade`"
            )
        address = self.buffer_address(code)
        written = await self._account(address)
        if written is not None and written.data == _buffer_header(owner) + code:
            await self._extend(found, code)
            return Staged.WRITTEN_ALREADY
        await self._prepare_upgrade(found, code, progress)
        hand_over = loader.set_buffer_authority(address, authority=self.authority, new=owner)
        await self._land(Job("handing the buffer over", [hand_over], self._writer_signing()))
        return Staged.WRITTEN

    async def reclaim(self, buffer: Pubkey) -> int:
        """Closes a buffer that this key may write; answers how many lamports that gave back to the payer.

        0 if there is none. Nothing but a buffer is ever closed: a closed program is gone for ever.
        """
        account = await self._account(buffer)
        if account is None:
            return 0
        header = _buffer_header(self.authority)
        if account.owner != layout.UPGRADEABLE_LOADER or not account.data.startswith(header):
            raise LedgerMisconfigured(
                f"account {buffer} on {self._rpc.name} is no buffer of {self.authority}: give the address of a buffer, and"
                " the file of its authority's key with --upgrade-authority"
            )
        close = loader.close_buffer(buffer, recipient=self._payer, authority=self.authority)
        await self._land(Job("closing the buffer", [close], self._writer_signing()))
        return account.lamports

    async def _prepare_upgrade(self, program: DeployedProgram, code: bytes, progress: Progress) -> Pubkey:
        """The buffer, written, and room for the code in the program's account."""
        needed = await self._rpc.rent_minimum(loader.BUFFER_HEADER.size + len(code))
        needed += _max_fees_lamports(code, self._micro_lamports_per_unit)
        size = loader.PROGRAMDATA_HEADER.size + len(program.content)
        extended = await self._rpc.rent_minimum(size + _extension_bytes(program, code))
        needed += extended - await self._rpc.rent_minimum(size)
        await self._require_lamports(needed, code, "upgrade the program")
        buffer = await self._write_buffer(code, progress)
        await self._extend(program, code)
        return buffer

    async def _extend(self, program: DeployedProgram, code: bytes) -> None:
        """Makes room for the code if it is longer than any before. A program cannot be called in the slot of an extension."""
        additional_bytes = _extension_bytes(program, code)
        if additional_bytes:
            await wait_until_callable(self._rpc, program.address)
            extend = loader.extend(program.address, payer=self._payer, additional_bytes=additional_bytes)
            await self._land(Job("extending the program", [extend]))
            await wait_for_program(
                self._rpc, program.address, "to be extended", lambda found: len(found.content) >= len(code)
            )

    async def _write_buffer(self, code: bytes, progress: Progress) -> Pubkey:
        """The buffer with the code in it, made and written as far as that is missing."""
        key = self._buffer_key(code)
        buffer, size = key.pubkey(), loader.BUFFER_HEADER.size + len(code)
        account = await self._account(buffer)
        if account is None or account.owner == SYSTEM_PROGRAM:
            lamports = max(0, await self._rpc.rent_minimum(size) - (account.lamports if account else 0))
            create = loader.create_buffer(
                len(code), buffer=buffer, payer=self._payer, authority=self.authority, lamports=lamports
            )
            await self._land(Job("creating the buffer account", create, [key]))
            content = bytes(len(code))
        else:
            header = _buffer_header(self.authority)
            if len(account.data) != size or not account.data.startswith(header):
                raise LedgerMisconfigured(
                    f"account {buffer} on {self._rpc.name} should be the buffer of the deployment: if it was given to the"
                    " upgrade authority, let that use it or close it; otherwise deploy with another key"
                )
            content = account.data[len(header) :]
        chunk = loader.CHUNK_BYTES
        writes = loader.write_buffer(code, buffer=buffer, authority=self.authority)
        missing = [
            write
            for offset, write in zip(range(0, len(code), chunk), writes, strict=True)
            if content[offset : offset + chunk] != code[offset : offset + chunk]
        ]
        done = len(writes) - len(missing)
        progress(done, len(writes))

        def landed() -> None:
            nonlocal done
            done += 1
            progress(done, len(writes))

        signing = self._writer_signing()
        await self._lander.land(
            [Job("writing the program", [write], signing, preflight=False) for write in missing], landed
        )
        return buffer

    async def _wait_until_it_runs(self, program: Pubkey, code: bytes) -> None:
        await wait_for_program(self._rpc, program, "to hold the code", lambda found: found.runs(code))
        await wait_until_callable(self._rpc, program)

    async def _require_lamports(self, needed: int, code: bytes, purpose: str) -> None:
        accounts = await self._rpc.accounts([self._payer, self.buffer_address(code)], READ_COMMITMENT)
        held = sum(account.lamports for account in accounts if account)
        if held < needed:
            raise LedgerMisconfigured(
                f"authority {self._payer} on {self._rpc.name} holds {held} lamports and needs {needed} to {purpose}:"
                " send it SOL"
            )

    def _buffer_key(self, code: bytes) -> Keypair:
        seed = hashlib.sha256(_BUFFER_KEY_DOMAIN + self._writer.secret() + hashlib.sha256(code).digest())
        return Keypair.from_seed(seed.digest())

    def _writer_signing(self) -> list[Keypair]:
        return [] if self.authority == self._payer else [self._writer]

    async def _land(self, job: Job) -> None:
        await self._lander.land([job])

    async def _account(self, address: Pubkey) -> Account | None:
        return (await self._rpc.account(address, READ_COMMITMENT)).value


async def deployment_lamports(rpc: RpcClient, code: bytes, micro_lamports_per_unit: int) -> int:
    """The most that a first deployment costs: the rent of the program's accounts, and fees. Raises as the client."""
    rent = await rpc.rent_minimum(loader.PROGRAMDATA_HEADER.size + len(code))
    rent += await rpc.rent_minimum(loader.PROGRAM_ACCOUNT_BYTES)
    return rent + _max_fees_lamports(code, micro_lamports_per_unit)


def _max_fees_lamports(code: bytes, micro_lamports_per_unit: int) -> int:
    """Of the transactions of a deployment or an upgrade."""
    # One instruction too many: the lander asks for a few odd units more than the instructions need.
    units = COMPUTE_UNITS_PER_INSTRUCTION * (_MAX_INSTRUCTIONS + 1)
    priority = -(-units * micro_lamports_per_unit // MICRO_LAMPORTS_PER_LAMPORT)
    transactions = -(-len(code) // loader.CHUNK_BYTES) + _TRANSACTIONS_BESIDE_WRITES
    return transactions * (_MAX_SIGNATURES * FEE_PER_SIGNATURE_LAMPORTS + priority)


def _buffer_header(authority: Pubkey) -> bytes:
    return loader.BUFFER_HEADER.pack(loader.State.BUFFER, True, bytes(authority))


def _extension_bytes(program: DeployedProgram, code: bytes) -> int:
    missing = len(code) - len(program.content)
    return max(missing, loader.MIN_EXTENSION_BYTES) if missing > 0 else 0
