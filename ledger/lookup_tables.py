"""A lane's address lookup tables: which there are, what of each may be used now, and which of them shorten a settlement.

A settlement that fits into one transaction as it is uses none, so batches of up to `MAX_PLAYERS_WITHOUT_TABLES` need none. The
registry on chain says which tables a lane has. It must not be believed any further: a table that was deactivated or closed, or is
none, is left out and named, and an entry counts only from the slot after the one in which it was added.

No batch is ever cut that does not fit, whoever its players are and whatever is done to the lane while it is in flight:
- each table that a settlement uses takes room in it, so the more players a batch may have, the fewer tables its lane may (`max_tables`);
- how many players a batch may have is bounded by the widest circuit that is registered with the program, without which no worker starts
  and nothing can be proven: the chain says so to everybody, whatever he has set. A lane gets no table beyond what that circuit leaves
  room for (`ledger.table_filling`);
- a worker starts, and a wider circuit is registered, only if the lanes' tables fit what is to be cut (`require_players_fit`), and all
  vaults stand in them before it is (`operations.circuits.register_keys`);
- a vault is opened only once a transaction can name it through a table; where a wider circuit is registered at the same time, whoever
  opens vaults and whoever registers it each look again afterwards (`ledger.provisioning`).

Source: solana-sdk `address-lookup-table-interface/src/state.rs`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from solders.address_lookup_table_account import ID as LOOKUP_TABLE_PROGRAM
from solders.address_lookup_table_account import (
    LOOKUP_TABLE_MAX_ADDRESSES,
    AddressLookupTable,
    AddressLookupTableAccount,
)
from solders.instruction import Instruction
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM

from ledger import layout
from ledger.reading import PROVISION_REMEDY
from ledger.rpc import MAX_ACCOUNTS_PER_REQUEST, READ_COMMITMENT, Account, Commitment, RpcClient
from ledger.transactions import MAX_TRANSACTION_BYTES, settlement_bytes
from settlement.errors import LedgerMisconfigured, LedgerUnavailable
from settlement.shapes import Shape

MAX_PLAYERS_WITHOUT_TABLES: Final = 16
"""A settlement of so many is 1,217 bytes without any table; one more is 41 bytes more, beyond `MAX_TRANSACTION_BYTES`."""

_BYTES_BESIDES_PLAYERS: Final = 437
_BYTES_PER_PLAYER: Final = 10
"""His net (8), his vault's place in the instruction (1) and in a table (1)."""
_BYTES_PER_TABLE: Final = 34
"""Its address, and how many accounts it gives to write and to read."""

_MIN_ENTRIES_WORTH_A_TABLE: Final = 2
"""Naming a table takes 34 bytes and one for each entry; an account by itself takes 32."""

_NUMBERS_PER_READ: Final = 16
"""Of the registry, in one request."""

_NEVER_DEACTIVATED: Final = 2**64 - 1


def max_tables(players: int) -> int:
    """How many tables a lane may have whose batches have up to so many players, more than `MAX_PLAYERS_WITHOUT_TABLES`.

    So that a settlement fits even if they are spread over all of them, two or more accounts in each: one alone is named without.
    """
    return (MAX_TRANSACTION_BYTES - _BYTES_BESIDES_PLAYERS - _BYTES_PER_PLAYER * players) // _BYTES_PER_TABLE


def max_players(tables: int) -> int:
    """How many players are sure to fit into a batch of a lane with so many tables."""
    room = MAX_TRANSACTION_BYTES - _BYTES_BESIDES_PLAYERS - _BYTES_PER_TABLE * tables
    return max(room // _BYTES_PER_PLAYER, MAX_PLAYERS_WITHOUT_TABLES)


def tables_for(entries: int) -> int:
    """How many tables hold so many entries."""
    return -(-entries // LOOKUP_TABLE_MAX_ADDRESSES)


def needing_tables(shapes: Iterable[Shape]) -> list[Shape]:
    """Those of `shapes` whose largest batches do not fit into one transaction without lookup tables."""
    return [shape for shape in shapes if shape.players > MAX_PLAYERS_WITHOUT_TABLES]


def shared_accounts(program: Pubkey, lane: int, shapes: Iterable[Shape]) -> list[Pubkey]:
    """What every settlement of the lane in one of `shapes` names besides vaults and its own record, and a table may hold."""
    return [
        layout.config_address(program),
        layout.house_address(program, lane),
        SYSTEM_PROGRAM,
        *(layout.circuit_address(program, shape.circuit_id) for shape in shapes),
    ]


def max_vaults(shapes: Iterable[Shape]) -> int:
    """How many vaults a lane's tables have room for if its batches are proven in `shapes`, of which some need tables."""
    needing = needing_tables(shapes)
    shared = len(shared_accounts(SYSTEM_PROGRAM, 0, needing))
    return max_tables(max(shape.players for shape in needing)) * LOOKUP_TABLE_MAX_ADDRESSES - shared


@dataclass(frozen=True)
class LookupTable:
    """A table in working order. `usable`: those of its entries, the first ones, that a transaction may name now."""

    address: Pubkey
    authority: Pubkey | None
    entries: tuple[Pubkey, ...]
    usable: tuple[Pubkey, ...]

    @property
    def room(self) -> int:
        """Entries that can still be added."""
        return LOOKUP_TABLE_MAX_ADDRESSES - len(self.entries)


@dataclass(frozen=True)
class LaneTables:
    """What the lane's registry leads to. `next_number`: the first without a table; `defects`: what is wrong with which table."""

    tables: tuple[LookupTable, ...]
    next_number: int
    defects: tuple[str, ...]

    @property
    def entries(self) -> set[Pubkey]:
        """What stands in some table, usable yet or not."""
        return {entry for table in self.tables for entry in table.entries}

    @property
    def usable(self) -> set[Pubkey]:
        """What a transaction may name now."""
        return {entry for table in self.tables for entry in table.usable}

    @property
    def next_slots(self) -> "LaneTables":
        """As they are once the entries added last are usable."""
        return replace(self, tables=tuple(replace(table, usable=table.entries) for table in self.tables))

    def shortening(self, settle: Instruction) -> list[AddressLookupTableAccount]:
        """The tables that make a transaction with this instruction smaller."""
        left = {meta.pubkey for meta in settle.accounts if not meta.is_signer}
        chosen: list[AddressLookupTableAccount] = []
        # The most useful first: of an account that stands in two tables, the second entry is worth nothing.
        for table in sorted(self.tables, key=lambda table: len(left.intersection(table.usable)), reverse=True):
            found = left.intersection(table.usable)
            if len(found) >= _MIN_ENTRIES_WORTH_A_TABLE:
                chosen.append(AddressLookupTableAccount(table.address, table.usable))
                left -= found
        return chosen


NO_TABLES: Final = LaneTables(tables=(), next_number=0, defects=())


async def read_lane_tables(rpc: RpcClient, program: Pubkey, lane: int, commitment: Commitment) -> LaneTables:
    """The lane's tables as they stand at `commitment`."""
    registered = await _registered(rpc, program, lane, commitment)
    tables: list[LookupTable] = []
    defects: list[str] = []
    for start in range(0, len(registered), MAX_ACCOUNTS_PER_REQUEST):
        chunk = registered[start : start + MAX_ACCOUNTS_PER_REQUEST]
        seen = await rpc.accounts_seen([entry.address for entry in chunk], commitment)
        for entry, account in zip(chunk, seen.value, strict=True):
            table = _table(entry.address, account, seen.slot)
            if isinstance(table, LookupTable):
                tables.append(table)
            else:
                defects.append(f"lookup table {entry.number} ({entry.address}) of lane {lane} {table}")
    return LaneTables(tuple(tables), len(registered), tuple(defects))


async def require_players_fit(rpc: RpcClient, program: Pubkey, lanes: int, players: int) -> None:
    """Raises `LedgerMisconfigured` unless batches of up to `players` are sure to fit whatever tables lanes 0…`lanes`-1 have."""
    if players <= MAX_PLAYERS_WITHOUT_TABLES:
        return
    most = max_tables(players)
    # Tables are numbered from 0 without gaps, so the one beyond tells of a lane whether it may have too many.
    beyond = [layout.table_address(program, lane, most) for lane in range(lanes)]
    for lane, account in enumerate(await rpc.accounts(beyond, READ_COMMITMENT)):
        if account is None or account.owner != program:
            continue
        count = len((await read_lane_tables(rpc, program, lane, READ_COMMITMENT)).tables)
        if count > most:
            raise LedgerMisconfigured(
                f"lane {lane} of program {program} on {rpc.name} has {count} lookup tables, and a batch of {players} players"
                f" is sure to fit into a transaction with up to {most}: set CROUPIER_MAX_BATCH_PLAYERS to"
                f" {max_players(count)} or less"
            )


async def _registered(rpc: RpcClient, program: Pubkey, lane: int, commitment: Commitment) -> list[layout.Table]:
    """What the registry holds: numbers without gaps, from 0."""
    registered: list[layout.Table] = []
    while True:
        numbers = range(len(registered), len(registered) + _NUMBERS_PER_READ)
        addresses = [layout.table_address(program, lane, number) for number in numbers]
        for account in await rpc.accounts(addresses, commitment):
            if account is None or account.owner != program:
                return registered
            registered.append(layout.Table.decode(account.data))


def _table(address: Pubkey, account: Account | None, slot: int) -> LookupTable | str:
    """The table as of `slot`, or what is wrong with it."""
    if account is None:
        return "is closed"
    if account.owner != LOOKUP_TABLE_PROGRAM:
        return f"belongs to {account.owner}, not to the lookup table program"
    try:
        state = AddressLookupTable.deserialize(account.data)
    except ValueError:
        return "is not initialised"
    if state.meta.deactivation_slot != _NEVER_DEACTIVATED:
        return "is deactivated"
    entries = tuple(state.addresses)
    usable = entries if slot > state.meta.last_extended_slot else entries[: state.meta.last_extended_slot_start_index]
    return LookupTable(address, state.meta.authority, entries, usable)


@dataclass(frozen=True)
class Fitting:
    """The tables with which a settlement fits into one transaction. `is_fresh`: they were read for it, not kept from before."""

    tables: Sequence[AddressLookupTableAccount]
    is_fresh: bool


class SettlementTables:
    """The tables that settlements are signed with, kept per lane until they prove too old."""

    def __init__(self, program: Pubkey, authority: Pubkey, commitment: Commitment) -> None:
        self._program = program
        self._authority = authority
        self._commitment: Commitment = commitment
        self._known: dict[int, LaneTables] = {}

    def forget(self, lane: int) -> None:
        """The node does not know the tables as they are kept here."""
        self._known.pop(lane, None)

    async def fitting(self, rpc: RpcClient, settle: Instruction, lane: int) -> Fitting:
        """Tables with which the settlement fits into one transaction: none, those known, or those read anew.

        Raises `LedgerUnavailable`, also if it will fit in the next slot, or `LedgerMisconfigured` if it does not fit with any.
        """
        for tables in (NO_TABLES, self._known.get(lane, NO_TABLES)):
            shortening = tables.shortening(settle)
            if settlement_bytes(settle, self._authority, shortening) <= MAX_TRANSACTION_BYTES:
                return Fitting(shortening, is_fresh=False)
        tables = await read_lane_tables(rpc, self._program, lane, self._commitment)
        self._known[lane] = tables
        shortening = tables.shortening(settle)
        size = settlement_bytes(settle, self._authority, shortening)
        if size > MAX_TRANSACTION_BYTES:
            next_slots = tables.next_slots.shortening(settle)
            if settlement_bytes(settle, self._authority, next_slots) <= MAX_TRANSACTION_BYTES:
                raise LedgerUnavailable(
                    f"entries of lane {lane}'s lookup tables on {rpc.name} are usable from the next slot on"
                )
            defects = "".join(f"; {defect}" for defect in tables.defects)
            raise LedgerMisconfigured(
                f"a settlement of lane {lane} is {size} bytes and a transaction at most {MAX_TRANSACTION_BYTES}, because the"
                f" lane's lookup tables on {rpc.name} lack accounts{defects}: {PROVISION_REMEDY}, which"
                " completes them"
            )
        return Fitting(shortening, is_fresh=True)
