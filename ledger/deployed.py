"""What is deployed under a program's address, as anybody may read it: its code, since when, and who may replace it."""

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from solders.pubkey import Pubkey

from ledger import layout, loader
from ledger.landing import Polling
from ledger.rpc import READ_COMMITMENT, Commitment, RpcClient
from settlement.errors import LedgerMisconfigured

# Of a 64-bit ELF file: where its tables are, and where a segment is.
_ELF_HEADER: Final = struct.Struct("<4sBB26xQQ6xHHHH")
_ELF_START: Final = (b"\x7fELF", 2, 1)
"""Magic, 64 bits, little-endian."""
_SEGMENT: Final = struct.Struct("<8xQ16xQ")


@dataclass(frozen=True)
class DeployedProgram:
    """`content` is the code and the zeros that fill its account; `slot` is that of the last deployment or extension."""

    address: Pubkey
    content: bytes
    slot: int
    upgrade_authority: Pubkey | None
    """None: frozen, for ever."""

    def runs(self, code: bytes) -> bool:
        """Whether this is the code of an ELF file, and nothing else."""
        return self.content[: len(code)] == code and not any(self.content[len(code) :])

    @property
    def code_sha256(self) -> str:
        """Hexadecimal; what `sha256sum` gives for the file that was deployed."""
        length = _file_length(self.content)
        return hashlib.sha256(self.content if any(self.content[length:]) else self.content[:length]).hexdigest()


async def deployed_program(
    rpc: RpcClient, address: Pubkey, commitment: Commitment = READ_COMMITMENT
) -> DeployedProgram | None:
    """None if nothing stands at the address. Raises `LedgerMisconfigured` if it is no upgradeable program, `LedgerUnavailable`."""
    # In one request, so that both are of one slot.
    program, programdata = await rpc.accounts([address, layout.programdata_address(address)], commitment)
    if program is None:
        return None
    if not program.executable or program.owner != layout.UPGRADEABLE_LOADER:
        raise LedgerMisconfigured(
            f"account {address} on {rpc.name} exists and is not an upgradeable program: use another program key,"
            " or set CROUPIER_PROGRAM_ID to the program's address"
        )
    size = loader.PROGRAMDATA_HEADER.size
    if programdata is None or programdata.owner != layout.UPGRADEABLE_LOADER or len(programdata.data) < size:
        raise LedgerMisconfigured(f"program {address} on {rpc.name} was closed for ever: use another program key")
    _, slot, has_authority, authority = loader.PROGRAMDATA_HEADER.unpack_from(programdata.data)
    return DeployedProgram(
        address, programdata.data[size:], slot, Pubkey.from_bytes(authority) if has_authority else None
    )


async def require_deployed(rpc: RpcClient, address: Pubkey) -> DeployedProgram:
    """As `deployed_program`. Raises `LedgerMisconfigured` with the remedy if nothing stands there."""
    program = await deployed_program(rpc, address)
    if program is None:
        raise LedgerMisconfigured(
            f"program {address} is not deployed on {rpc.name}: run `python starter.py program deploy`"
        )
    return program


async def wait_for_program(
    rpc: RpcClient,
    address: Pubkey,
    awaited: str,
    condition: Callable[[DeployedProgram], bool],
    commitment: Commitment = READ_COMMITMENT,
) -> None:
    """Returns once the condition holds. Raises as `deployed_program`, and `LedgerUnavailable` after too long."""
    polling = Polling(rpc.name, f"program {address} {awaited}")
    while True:
        program = await deployed_program(rpc, address, commitment)
        if program is not None and condition(program):
            return
        await polling.wait()


async def wait_until_callable(rpc: RpcClient, address: Pubkey) -> None:
    """Code runs from the slot after its deployment, upgrade or extension on; no other may follow before."""
    now = (await rpc.epoch_info(READ_COMMITMENT)).absolute_slot
    polling = Polling(rpc.name, f"program {address} to become callable")
    while (program := await deployed_program(rpc, address)) is None or now <= program.slot:
        await polling.wait()
        now = (await rpc.epoch_info(READ_COMMITMENT)).absolute_slot


def require_upgrade_authority(program: DeployedProgram, key: Pubkey, node: str) -> None:
    """Raises `LedgerMisconfigured` with the remedy unless `key` may upgrade the program."""
    if program.upgrade_authority is None:
        raise LedgerMisconfigured(
            f"program {program.address} on {node} is frozen, for ever: to run other code, deploy under another program key"
        )
    if program.upgrade_authority != key:
        raise LedgerMisconfigured(
            f"the upgrade authority of program {program.address} on {node} is {program.upgrade_authority}, not {key}:"
            " give the file of that key with --upgrade-authority, or let its multisig act (docs/program.md)"
        )


def _file_length(content: bytes) -> int:
    """How long the ELF file at the start of `content` is; all of it if that cannot be told."""
    try:
        *start, segments_at, sections_at, segment_bytes, segments, section_bytes, sections = _ELF_HEADER.unpack_from(
            content
        )
        if tuple(start) != _ELF_START:
            return len(content)
        ends = [sections_at + section_bytes * sections if sections else 0]
        for number in range(segments):
            offset, size = _SEGMENT.unpack_from(content, segments_at + segment_bytes * number)
            ends.append(offset + size)
    except struct.error:
        return len(content)
    return min(max(ends), len(content))
