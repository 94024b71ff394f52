"""The upgradeable loader (loader v3): its instructions, and the layouts of the accounts that it keeps.

Builds only: nothing here signs, sends or reads the chain. Sources: agave `loader-v3-interface/src/instruction.rs` and
`state.rs`; SIMD-0431 for the least that a program can be extended by.
"""

import struct
from enum import IntEnum
from typing import Final

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import (
    AllocateParams,
    AssignParams,
    CreateAccountParams,
    TransferParams,
    allocate,
    assign,
    create_account,
    transfer,
)
from solders.sysvar import CLOCK, RENT

from ledger.layout import UPGRADEABLE_LOADER, programdata_address

CHUNK_BYTES: Final = 840
"""Of the program's code in one transaction, which has room for 864 if the payer and another authority sign it."""

MIN_EXTENSION_BYTES: Final = 10_240
"""The loader refuses to extend a program by less."""


class _Opcode(IntEnum):
    """UpgradeableLoaderInstruction, bincode. `ExtendProgramChecked` (9) was withdrawn before a public cluster had it."""

    INITIALIZE_BUFFER = 0
    WRITE = 1
    DEPLOY_WITH_MAX_DATA_LEN = 2
    UPGRADE = 3
    SET_AUTHORITY = 4
    CLOSE = 5
    EXTEND_PROGRAM = 6
    SET_AUTHORITY_CHECKED = 7


class State(IntEnum):
    """UpgradeableLoaderState, bincode: the first field of every account of the loader's."""

    UNINITIALIZED = 0
    BUFFER = 1
    PROGRAM = 2
    PROGRAMDATA = 3


BUFFER_HEADER: Final = struct.Struct("<IB32s")
"""State, whether there is an authority, the authority. The code follows."""
PROGRAM_ACCOUNT_BYTES: Final = 36
PROGRAMDATA_HEADER: Final = struct.Struct("<IQB32s")
"""State, slot of the last deployment, whether there is an upgrade authority, the upgrade authority. The code follows."""


def create_buffer(
    code_bytes: int, *, buffer: Pubkey, payer: Pubkey, authority: Pubkey, lamports: int
) -> list[Instruction]:
    """An empty buffer account that `authority` may write. One transaction's: in between, anybody could take the account.

    `lamports`: what its address lacks. It is not "created", which lamports that anybody has sent there would hinder.
    """
    return [
        transfer(TransferParams(from_pubkey=payer, to_pubkey=buffer, lamports=lamports)),
        allocate(AllocateParams(pubkey=buffer, space=BUFFER_HEADER.size + code_bytes)),
        assign(AssignParams(pubkey=buffer, owner=UPGRADEABLE_LOADER)),
        Instruction(
            UPGRADEABLE_LOADER,
            struct.pack("<I", _Opcode.INITIALIZE_BUFFER),
            [_written(buffer), _read(authority)],
        ),
    ]


def write_buffer(code: bytes, *, buffer: Pubkey, authority: Pubkey) -> list[Instruction]:
    """Writes the code into a buffer, `CHUNK_BYTES` an instruction, each of which needs a transaction of its own."""
    return [
        Instruction(
            UPGRADEABLE_LOADER,
            struct.pack("<IIQ", _Opcode.WRITE, offset, len(chunk)) + chunk,
            [_written(buffer), _signing(authority)],
        )
        for offset in range(0, len(code), CHUNK_BYTES)
        if (chunk := code[offset : offset + CHUNK_BYTES])
    ]


def deploy(
    code_bytes: int, *, program: Pubkey, buffer: Pubkey, payer: Pubkey, authority: Pubkey, lamports: int
) -> list[Instruction]:
    """Makes the program's account and deploys what a buffer of the same authority holds. The buffer is used up.

    Signed by the program's key too. The program can be called one slot later.
    """
    return [
        create_account(
            CreateAccountParams(
                from_pubkey=payer,
                to_pubkey=program,
                lamports=lamports,
                space=PROGRAM_ACCOUNT_BYTES,
                owner=UPGRADEABLE_LOADER,
            )
        ),
        Instruction(
            UPGRADEABLE_LOADER,
            struct.pack("<IQ", _Opcode.DEPLOY_WITH_MAX_DATA_LEN, code_bytes),
            [
                AccountMeta(payer, is_signer=True, is_writable=True),
                _written(programdata_address(program)),
                _written(program),
                _written(buffer),
                _read(RENT),
                _read(CLOCK),
                _read(SYSTEM_PROGRAM),
                _signing(authority),
            ],
        ),
    ]


def upgrade(program: Pubkey, *, buffer: Pubkey, spill: Pubkey, authority: Pubkey) -> Instruction:
    """Replaces the code with what a buffer of the same authority holds. The buffer is used up, its lamports go to `spill`.

    Refused in the slot of the last deployment, upgrade or extension. The new code runs one slot later.
    """
    return Instruction(
        UPGRADEABLE_LOADER,
        struct.pack("<I", _Opcode.UPGRADE),
        [
            _written(programdata_address(program)),
            _written(program),
            _written(buffer),
            _written(spill),
            _read(RENT),
            _read(CLOCK),
            _signing(authority),
        ],
    )


def extend(program: Pubkey, *, payer: Pubkey, additional_bytes: int) -> Instruction:
    """Makes room for longer code. Anybody may, as long as the program can be upgraded."""
    assert additional_bytes >= MIN_EXTENSION_BYTES
    return Instruction(
        UPGRADEABLE_LOADER,
        struct.pack("<II", _Opcode.EXTEND_PROGRAM, additional_bytes),
        [
            _written(programdata_address(program)),
            _written(program),
            _read(SYSTEM_PROGRAM),
            AccountMeta(payer, is_signer=True, is_writable=True),
        ],
    )


def set_buffer_authority(buffer: Pubkey, *, authority: Pubkey, new: Pubkey) -> Instruction:
    """Gives a buffer to another authority, who need not sign."""
    return _set_authority(buffer, authority, new)


def set_upgrade_authority(program: Pubkey, *, authority: Pubkey, new: Pubkey | None) -> Instruction:
    """Gives a program to another upgrade authority, who need not sign, or to nobody, for ever."""
    return _set_authority(programdata_address(program), authority, new)


def set_upgrade_authority_checked(program: Pubkey, *, authority: Pubkey, new: Pubkey) -> Instruction:
    """Gives a program to another upgrade authority, who signs too."""
    return Instruction(
        UPGRADEABLE_LOADER,
        struct.pack("<I", _Opcode.SET_AUTHORITY_CHECKED),
        [_written(programdata_address(program)), _signing(authority), _signing(new)],
    )


def close_buffer(buffer: Pubkey, *, recipient: Pubkey, authority: Pubkey) -> Instruction:
    """Removes a buffer and gives its lamports to `recipient`."""
    return Instruction(
        UPGRADEABLE_LOADER,
        struct.pack("<I", _Opcode.CLOSE),
        [_written(buffer), _written(recipient), _signing(authority)],
    )


def _set_authority(account: Pubkey, authority: Pubkey, new: Pubkey | None) -> Instruction:
    accounts = [_written(account), _signing(authority)]
    if new is not None:
        accounts.append(_read(new))
    return Instruction(UPGRADEABLE_LOADER, struct.pack("<I", _Opcode.SET_AUTHORITY), accounts)


def _signing(key: Pubkey) -> AccountMeta:
    return AccountMeta(key, is_signer=True, is_writable=False)


def _written(key: Pubkey) -> AccountMeta:
    return AccountMeta(key, is_signer=False, is_writable=True)


def _read(key: Pubkey) -> AccountMeta:
    return AccountMeta(key, is_signer=False, is_writable=False)
