"""Deploys the program through the upgradeable loader. An interrupted deployment goes on where it stood."""

import hashlib
import struct
from collections.abc import Callable, Sequence
from typing import Final

from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from ledger import instructions, layout
from ledger.landing import COMMITMENT, Job, Lander, Polling
from ledger.rpc import Account, RpcClient
from settlement.errors import LedgerMisconfigured

FEE_PER_SIGNATURE_LAMPORTS: Final = 5_000

# UpgradeableLoaderState, bincode: agave `loader-v3-interface/src/state.rs`.
_BUFFER_HEADER: Final = struct.Struct("<IB32s")
_PROGRAM_ACCOUNT_BYTES: Final = 36
_PROGRAMDATA_HEADER: Final = struct.Struct("<IQB32s")
_BUFFER_VARIANT: Final = 1

_BUFFER_KEY_DOMAIN: Final = b"croupier/deployment-buffer/1"

Progress = Callable[[int, int], None]
"""Called with how many transactions of how many have landed."""


class Deployer:
    """Deploys programs that one key pays for and may upgrade.

    Every method raises `LedgerUnavailable`, or `LedgerMisconfigured` with the remedy.
    """

    def __init__(self, rpc: RpcClient, authority: Keypair, *, priority_fee_micro_lamports: int) -> None:
        self._rpc = rpc
        self._authority = authority
        self.authority = authority.pubkey()
        self._lander = Lander(rpc, authority, priority_fee_micro_lamports=priority_fee_micro_lamports)

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
            await self._lander.land([Job("creating the buffer account", first, [buffer])])
            missing = writes
        else:
            missing = self._missing_writes(buffer.pubkey(), written, code, writes)
        done = len(writes) - len(missing)
        progress(done, len(writes))

        def landed() -> None:
            nonlocal done
            done += 1
            progress(done, len(writes))

        await self._lander.land([Job("writing the program", write, preflight=False) for write in missing], landed)
        await self._lander.land([Job("deploying the program", last, [program])])
        await self._wait_until_callable(address)
        return await self._is_deployed(address, code)

    async def _deployment(self, program: Pubkey, buffer: Pubkey, code: bytes) -> list[list[Instruction]]:
        sizes = (_BUFFER_HEADER.size + len(code), _PROGRAM_ACCOUNT_BYTES)
        minimums = {size: await self._rpc.rent_minimum(size) for size in sizes}
        key = self.authority
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
        expected = _BUFFER_HEADER.pack(_BUFFER_VARIANT, 1, bytes(self.authority))
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
        authority = await self._account(self.authority)
        held = authority.lamports if authority else 0
        held += buffer.lamports if buffer else 0
        if held < needed:
            raise LedgerMisconfigured(
                f"authority {self.authority} on {self._rpc.name} holds {held} lamports and needs {needed} to deploy"
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
        polling = Polling(self._rpc.name, f"program {program} to become callable")
        while True:
            programdata = await self._account(layout.programdata_address(program))
            now = await self._rpc.epoch_info(COMMITMENT)
            if programdata is not None and now.absolute_slot > _PROGRAMDATA_HEADER.unpack_from(programdata.data)[1]:
                return
            await polling.wait()

    async def _account(self, address: Pubkey) -> Account | None:
        return (await self._rpc.account(address, COMMITMENT)).value


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
