"""The program's accounts: where they stand and what their bytes mean.

It must never guess: bytes of another kind, size or encoding are refused. The layouts are those of `program/state.h`;
tests decode what the program itself wrote.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Self

from solders.pubkey import Pubkey

from settlement.errors import LedgerMisconfigured
from settlement.limits import MAX_LANE
from settlement.verifying_keys import VERIFYING_KEY_BYTES

MAX_PLAYERS_PER_CIRCUIT: Final = 64
"""The program refuses a larger circuit."""

PROOF_BYTES: Final = 128
"""A G1 32, B G2 64, C G1 32, compressed."""
BETS_ROOT_BYTES: Final = 32
"""A scalar-field element, big-endian."""

UPGRADEABLE_LOADER: Final = Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111")


class Kind(IntEnum):
    """The first byte of an account."""

    CONFIG = 1
    CIRCUIT = 2
    HOUSE = 3
    VAULT = 4
    BATCH = 5
    TABLE = 6


KIND_OFFSET: Final = 0
LANE_OFFSET: Final = 2
"""Of the lane (u16, little-endian) in a house, a vault and a batch record, to search for them by."""

_CONFIG: Final = struct.Struct("<BB32s")
_CIRCUIT: Final = struct.Struct(f"<BBHHH{VERIFYING_KEY_BYTES}s")
_HOUSE: Final = struct.Struct("<BBHIQ")
_VAULT: Final = struct.Struct("<BBHI32s")
_BATCH: Final = struct.Struct("<BBHQHHHqQ32s")
_TABLE: Final = struct.Struct("<BBHH32s")

CONFIG_BYTES: Final = _CONFIG.size
CIRCUIT_BYTES: Final = _CIRCUIT.size
HOUSE_BYTES: Final = _HOUSE.size
VAULT_BYTES: Final = _VAULT.size
BATCH_BYTES: Final = _BATCH.size
TABLE_BYTES: Final = _TABLE.size


class MalformedAccount(LedgerMisconfigured):
    """Account data that this release's program cannot have written: another release's, or a node's mistake."""


@dataclass(frozen=True)
class Config:
    """Who may do everything but withdraw alone."""

    authority: Pubkey

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises `MalformedAccount`."""
        _, authority = _fields(_CONFIG, Kind.CONFIG, data)
        return cls(Pubkey.from_bytes(authority))


@dataclass(frozen=True)
class Circuit:
    """A registered circuit: its capacity and its verifying key (`VERIFYING_KEY_BYTES`)."""

    circuit_id: int
    bets: int
    players: int
    verifying_key: bytes

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises `MalformedAccount`."""
        _, circuit_id, bets, players, key = _fields(_CIRCUIT, Kind.CIRCUIT, data)
        return cls(circuit_id, bets, players, key)


@dataclass(frozen=True)
class House:
    """A lane's house. `highest_batch` is the highest number ever settled on the lane, 0 before the first."""

    lane: int
    vault_count: int
    highest_batch: int

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises `MalformedAccount`."""
        _, lane, vault_count, highest_batch = _fields(_HOUSE, Kind.HOUSE, data)
        return cls(lane, vault_count, highest_batch)


@dataclass(frozen=True)
class Vault:
    """A player's vault on a lane. `index` counts from 1; its balance is its lamports above the rent minimum."""

    lane: int
    index: int
    owner: Pubkey

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises `MalformedAccount`."""
        _, lane, index, owner = _fields(_VAULT, Kind.VAULT, data)
        return cls(lane, index, Pubkey.from_bytes(owner))


@dataclass(frozen=True)
class BatchRecord:
    """That a batch was settled: `house_delta` in lamports, `slot` of the settlement, `bets_root` a field element."""

    lane: int
    number: int
    circuit_id: int
    bet_count: int
    player_count: int
    house_delta: int
    slot: int
    bets_root: int

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises `MalformedAccount`."""
        _, lane, number, circuit_id, bets, players, house_delta, slot, root = _fields(_BATCH, Kind.BATCH, data)
        return cls(lane, number, circuit_id, bets, players, house_delta, slot, int.from_bytes(root, "big"))


@dataclass(frozen=True)
class Table:
    """Where one of a lane's address lookup tables stands; they are numbered from 0."""

    lane: int
    number: int
    address: Pubkey

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises `MalformedAccount`."""
        _, lane, number, address = _fields(_TABLE, Kind.TABLE, data)
        return cls(lane, number, Pubkey.from_bytes(address))


def _fields(layout: struct.Struct, kind: Kind, data: bytes) -> tuple[Any, ...]:
    """The fields behind the kind: the PDA's bump first."""
    if len(data) != layout.size or data[0] != kind:
        raise MalformedAccount(
            f"not an account of kind {kind.name}: {len(data)} bytes beginning {data[:1].hex() or 'nothing'}"
        )
    return layout.unpack(data)[1:]


def config_address(program: Pubkey) -> Pubkey:
    return _address(program, b"config")


def circuit_address(program: Pubkey, circuit_id: int) -> Pubkey:
    """`circuit_id` is a u16."""
    return _address(program, b"circuit", circuit_id.to_bytes(2, "little"))


def house_address(program: Pubkey, lane: int) -> Pubkey:
    """`lane` is a u16."""
    return _address(program, b"house", _lane(lane))


def vault_address(program: Pubkey, lane: int, owner: Pubkey) -> Pubkey:
    return _address(program, b"vault", _lane(lane), bytes(owner))


def batch_address(program: Pubkey, lane: int, number: int) -> Pubkey:
    """`number` is a u64."""
    return _address(program, b"batch", _lane(lane), number.to_bytes(8, "little"))


def table_address(program: Pubkey, lane: int, number: int) -> Pubkey:
    """Of the entry that names the table; `number` is a u16."""
    return _address(program, b"table", _lane(lane), number.to_bytes(2, "little"))


def programdata_address(program: Pubkey) -> Pubkey:
    """Where the upgradeable loader keeps the program's code and its upgrade authority."""
    return _address(UPGRADEABLE_LOADER, bytes(program))


def _lane(lane: int) -> bytes:
    assert 0 <= lane <= MAX_LANE
    return lane.to_bytes(2, "little")


def _address(program: Pubkey, *seeds: bytes) -> Pubkey:
    return Pubkey.find_program_address(list(seeds), program)[0]
