"""Builds the program's instructions. Builds only: nothing here signs, sends or reads the chain.

The layouts are those of `program/settlement.c`.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM

from ledger.layout import (
    BETS_ROOT_BYTES,
    MAX_PLAYERS_PER_CIRCUIT,
    PROOF_BYTES,
    batch_address,
    circuit_address,
    config_address,
    house_address,
    programdata_address,
    table_address,
    vault_address,
)
from settlement.verifying_keys import VERIFYING_KEY_BYTES


class Opcode(IntEnum):
    """The first byte of an instruction's data."""

    INITIALISE = 0
    REGISTER_CIRCUIT = 1
    OPEN_HOUSE = 2
    OPEN_VAULT = 3
    WITHDRAW = 4
    SETTLE = 5
    REGISTER_TABLE = 6
    WITHDRAW_BANKROLL = 7


class VaultDelta(NamedTuple):
    """What a settlement adds to a vault, in lamports; negative for a loss."""

    vault: Pubkey
    lamports: int


def initialise(program: Pubkey, payer: Pubkey, upgrade_authority: Pubkey, authority: Pubkey) -> Instruction:
    """Names the authority, once. Signed by the payer and by the program's upgrade authority, who may be one."""
    return Instruction(
        program,
        struct.pack("<B32s", Opcode.INITIALISE, bytes(authority)),
        [
            AccountMeta(payer, is_signer=True, is_writable=True),
            AccountMeta(upgrade_authority, is_signer=True, is_writable=upgrade_authority == payer),
            _written(config_address(program)),
            _read(programdata_address(program)),
            _read(SYSTEM_PROGRAM),
        ],
    )


def register_circuit(
    program: Pubkey, authority: Pubkey, circuit_id: int, *, bets: int, players: int, verifying_key: bytes
) -> Instruction:
    """Registers a verifying key (`encode_verifying_key`) and its capacity under an id (u16), once."""
    assert len(verifying_key) == VERIFYING_KEY_BYTES
    return Instruction(
        program,
        struct.pack("<BHHH", Opcode.REGISTER_CIRCUIT, circuit_id, bets, players) + verifying_key,
        [
            _payer(authority),
            _read(config_address(program)),
            _written(circuit_address(program, circuit_id)),
            _read(SYSTEM_PROGRAM),
        ],
    )


def open_house(program: Pubkey, authority: Pubkey, lane: int) -> Instruction:
    """Opens a lane (u16), once."""
    return Instruction(
        program,
        struct.pack("<BH", Opcode.OPEN_HOUSE, lane),
        [
            _payer(authority),
            _read(config_address(program)),
            _written(house_address(program, lane)),
            _read(SYSTEM_PROGRAM),
        ],
    )


def open_vault(program: Pubkey, authority: Pubkey, lane: int, owner: Pubkey) -> Instruction:
    """Opens an owner's vault on a lane, once; the owner need not sign. The program gives it the next index."""
    return Instruction(
        program,
        struct.pack("<B", Opcode.OPEN_VAULT),
        [
            _payer(authority),
            _read(config_address(program)),
            _written(house_address(program, lane)),
            _written(vault_address(program, lane, owner)),
            _read(owner),
            _read(SYSTEM_PROGRAM),
        ],
    )


def withdraw(program: Pubkey, authority: Pubkey, lane: int, owner: Pubkey, lamports: int) -> Instruction:
    """Moves lamports (u64) from a vault to its owner. Signed by the authority and by the owner."""
    return Instruction(
        program,
        struct.pack("<BQ", Opcode.WITHDRAW, lamports),
        [
            AccountMeta(authority, is_signer=True, is_writable=False),
            _read(config_address(program)),
            AccountMeta(owner, is_signer=True, is_writable=True),
            _written(vault_address(program, lane, owner)),
        ],
    )


def settle(
    program: Pubkey,
    authority: Pubkey,
    circuit_id: int,
    lane: int,
    number: int,
    *,
    bet_count: int,
    bets_root: int,
    proof: bytes,
    deltas: Sequence[VaultDelta],
) -> Instruction:
    """Settles batch `number` (u64) of a lane: 1 to 64 vaults by ascending index, `proof` as of `compress_proof`."""
    assert len(proof) == PROOF_BYTES
    assert 1 <= len(deltas) <= MAX_PLAYERS_PER_CIRCUIT
    data = struct.pack("<BQH", Opcode.SETTLE, number, bet_count) + bets_root.to_bytes(BETS_ROOT_BYTES, "big") + proof
    return Instruction(
        program,
        data + struct.pack(f"<{len(deltas)}q", *(delta.lamports for delta in deltas)),
        [
            _payer(authority),
            _read(config_address(program)),
            _read(circuit_address(program, circuit_id)),
            _written(house_address(program, lane)),
            _written(batch_address(program, lane, number)),
            _read(SYSTEM_PROGRAM),
            *(_written(delta.vault) for delta in deltas),
        ],
    )


def register_table(program: Pubkey, authority: Pubkey, lane: int, number: int, table: Pubkey) -> Instruction:
    """Notes under `number` (u16) where one of a lane's address lookup tables stands, once."""
    return Instruction(
        program,
        struct.pack("<BH", Opcode.REGISTER_TABLE, number),
        [
            _payer(authority),
            _read(config_address(program)),
            _read(house_address(program, lane)),
            _written(table_address(program, lane, number)),
            _read(table),
            _read(SYSTEM_PROGRAM),
        ],
    )


def withdraw_bankroll(program: Pubkey, authority: Pubkey, lane: int, lamports: int) -> Instruction:
    """Moves lamports (u64) from a lane's house to the authority."""
    return Instruction(
        program,
        struct.pack("<BQ", Opcode.WITHDRAW_BANKROLL, lamports),
        [_payer(authority), _read(config_address(program)), _written(house_address(program, lane))],
    )


def _payer(key: Pubkey) -> AccountMeta:
    return AccountMeta(key, is_signer=True, is_writable=True)


def _written(key: Pubkey) -> AccountMeta:
    return AccountMeta(key, is_signer=False, is_writable=True)


def _read(key: Pubkey) -> AccountMeta:
    return AccountMeta(key, is_signer=False, is_writable=False)
