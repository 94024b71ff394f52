"""Creates a lane's address lookup tables and puts into them what settlements name. Looks first and does only what is missing.

A table is created and registered by one transaction, so no table can be lost; its entries follow, many to a transaction and into all
tables at once. An interrupted run is completed by the next. Two runs at once may enter an account twice, which costs room and harms
nothing; and runs of two processes for different lanes, within the same second, may come upon the same table, in which each lane then
has room for less: provision lanes by one process, or one after the other. It must never give a lane more tables than its batches are sure
to fit with (`ledger.lookup_tables`).

Sources: solana-sdk `address-lookup-table-interface/src/instruction.rs`, agave `programs/address-lookup-table`.
"""

import random
import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from solders.address_lookup_table_account import ID as LOOKUP_TABLE_PROGRAM
from solders.address_lookup_table_account import SlotHashes, derive_lookup_table_address
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.sysvar import SLOT_HASHES

from ledger import instructions, layout
from ledger.landing import Job, Lander, Polling
from ledger.lookup_tables import (
    LaneTables,
    LookupTable,
    max_tables,
    max_vaults,
    needing_tables,
    read_lane_tables,
    shared_accounts,
    tables_for,
)
from ledger.many import each_done
from ledger.reading import PROVISION_REMEDY
from ledger.rpc import READ_COMMITMENT, Commitment, RpcClient
from settlement.errors import LedgerMisconfigured, LedgerUnavailable
from settlement.shapes import SHAPES, Shape

ENTRIES_PER_TRANSACTION: Final = 28
"""A transaction has room for 29."""

_SLOT_CANDIDATES: Final = 100
"""How many of the 512 slots that a table can be made with are looked at; the oldest must not be gone before the table is made."""


_TABLELESS_PLAYERS: Final = max(shape.players for shape in SHAPES if not needing_tables([shape]))
"""Players whom a circuit holds that needs no table."""


class _Opcode(IntEnum):
    """ProgramInstruction of the lookup table program, bincode."""

    CREATE_LOOKUP_TABLE = 0
    EXTEND_LOOKUP_TABLE = 2


class TableFiller:
    """Fills one lane's tables. `lander` lands what `authority` signs and pays for.

    `slots_taken`: with which this process has made tables, for whatever lane.
    """

    def __init__(
        self, rpc: RpcClient, lander: Lander, authority: Pubkey, program: Pubkey, lane: int, slots_taken: set[int]
    ) -> None:
        self._rpc = rpc
        self._lander = lander
        self._authority = authority
        self._program = program
        self._lane = lane
        self._slots_taken = slots_taken

    async def fill(self, shapes: Sequence[Shape], opening: Sequence[Pubkey] = ()) -> int:
        """Makes sure that a transaction can name through tables all vaults of the lane, those that are `opening`, and what is shared.

        `shapes`: those that need tables of the ones in use. Answers how many entries were added. Raises `LedgerUnavailable`, or
        `LedgerMisconfigured` with the remedy; nothing is done where there is no room for all.
        """
        vaults = dict.fromkeys([*await self._vaults(), *opening])
        wanted = [*shared_accounts(self._program, self._lane, shapes), *vaults]
        tables = await self._tables()
        while True:
            entries = tables.entries
            missing = [account for account in wanted if account not in entries]
            more = tables_for(len(missing) - sum(table.room for table in self._extendable(tables)))
            if more <= 0:
                break
            if len(tables.tables) + more > max_tables(max(shape.players for shape in shapes)):
                raise _too_many_vaults(self._lane, len(vaults), shapes)
            tables = await self._with_more(tables.next_number, more)
        await self._lander.land(self._extensions(missing, self._extendable(tables)))
        # The slot in which the last entry was added must have passed.
        polling = Polling(self._rpc.name, f"the lookup tables of lane {self._lane} to become usable")
        while not (await self._tables()).usable.issuperset(wanted):
            await polling.wait()
        return len(missing)

    async def _tables(self, commitment: Commitment = READ_COMMITMENT) -> LaneTables:
        return await read_lane_tables(self._rpc, self._program, self._lane, commitment)

    def _extendable(self, tables: LaneTables) -> list[LookupTable]:
        return [table for table in tables.tables if table.authority == self._authority]

    async def _vaults(self) -> list[Pubkey]:
        """All vaults of the lane, in the order in which they were opened."""
        house = (await self._rpc.account(layout.house_address(self._program, self._lane), READ_COMMITMENT)).value
        if house is None or house.owner != self._program:
            raise LedgerMisconfigured(
                f"lane {self._lane} has no house with program {self._program} on {self._rpc.name}: {PROVISION_REMEDY}"
            )
        found = await self._rpc.program_accounts(
            self._program,
            size=layout.VAULT_BYTES,
            memcmp={
                layout.KIND_OFFSET: bytes([layout.Kind.VAULT]),
                layout.LANE_OFFSET: self._lane.to_bytes(2, "little"),
            },
            commitment=READ_COMMITMENT,
        )
        vault_count = layout.House.decode(house.data).vault_count
        if len(found) < vault_count:
            raise LedgerUnavailable(
                f"{self._rpc.name} lists {len(found)} vaults of lane {self._lane}, which has {vault_count}"
            )
        found.sort(key=lambda keyed: layout.Vault.decode(keyed.account.data).index)
        return [keyed.pubkey for keyed in found]

    async def _with_more(self, first: int, count: int) -> LaneTables:
        """The lane's tables after empty ones were created and registered from number `first` on, by this run or by a rival one."""
        slots = await self._unused_slots(count)
        await each_done([self._create(number, *slot) for number, slot in enumerate(slots, start=first)])
        polling = Polling(self._rpc.name, f"lookup tables from {first} on of lane {self._lane}")
        while (tables := await self._tables()).next_number < first + count:
            await polling.wait()
        return tables

    async def _create(self, number: int, slot: int, address: Pubkey, bump: int) -> None:
        create = Instruction(
            LOOKUP_TABLE_PROGRAM,
            struct.pack("<IQB", _Opcode.CREATE_LOOKUP_TABLE, slot, bump),
            self._accounts(address),
        )
        register = instructions.register_table(self._program, self._authority, self._lane, number, address)
        try:
            await self._lander.land([Job(f"creating lookup table {number} of lane {self._lane}", [create, register])])
        except LedgerMisconfigured:
            [registered] = await self._rpc.accounts(
                [layout.table_address(self._program, self._lane, number)], "processed"
            )
            if registered is None or registered.owner != self._program:
                raise

    async def _unused_slots(self, count: int) -> list[tuple[int, Pubkey, int]]:
        """Recent slots, and address and bump of the table that each gives.

        A slot gives an authority one table, and whoever makes it again has the same: two lanes would fill it without knowing of each
        other. Hence any of them, so that another process does not come upon the same, and none that this one has taken already.
        """
        sysvar = (await self._rpc.account(SLOT_HASHES, "finalized")).value
        if sysvar is None:
            raise LedgerUnavailable(f"{self._rpc.name} does not show the recent slots")
        try:
            recent = SlotHashes.from_bytes(sysvar.data).slot_hashes
        except ValueError:
            raise LedgerUnavailable(f"{self._rpc.name} shows recent slots that cannot be read") from None
        slots = [slot for slot, _ in recent[:_SLOT_CANDIDATES] if slot not in self._slots_taken]
        derived = [(slot, *derive_lookup_table_address(self._authority, slot)) for slot in slots]
        accounts = await self._rpc.accounts([address for _, address, _ in derived], READ_COMMITMENT)
        unused = [
            candidate
            for candidate, account in zip(derived, accounts, strict=True)
            if account is None or account.owner != LOOKUP_TABLE_PROGRAM
        ]
        # Since the accounts were read, others of this process may have taken some.
        unused = [candidate for candidate in unused if candidate[0] not in self._slots_taken]
        if len(unused) < count:
            raise LedgerUnavailable(
                f"{self._authority} has made lookup tables with too many of the last {_SLOT_CANDIDATES} final slots: run it again"
            )
        chosen = random.sample(unused, count)
        self._slots_taken.update(slot for slot, _, _ in chosen)
        return chosen

    def _extensions(self, missing: Sequence[Pubkey], tables: Sequence[LookupTable]) -> list[Job]:
        """Fills the tables one after the other, so that vaults opened together stand together."""
        jobs: list[Job] = []
        left = list(missing)
        for table in tables:
            fitting, left = left[: table.room], left[table.room :]
            for start in range(0, len(fitting), ENTRIES_PER_TRANSACTION):
                chunk = fitting[start : start + ENTRIES_PER_TRANSACTION]
                extend = Instruction(
                    LOOKUP_TABLE_PROGRAM,
                    struct.pack("<IQ", _Opcode.EXTEND_LOOKUP_TABLE, len(chunk)) + b"".join(map(bytes, chunk)),
                    self._accounts(table.address),
                )
                jobs.append(Job(f"extending lookup table {table.address}", [extend]))
        assert not left
        return jobs

    def _accounts(self, table: Pubkey) -> list[AccountMeta]:
        """Of both instructions: the table, its authority, who pays, the system program."""
        return [
            AccountMeta(table, is_signer=False, is_writable=True),
            AccountMeta(self._authority, is_signer=True, is_writable=False),
            AccountMeta(self._authority, is_signer=True, is_writable=True),
            AccountMeta(SYSTEM_PROGRAM, is_signer=False, is_writable=False),
        ]


def _too_many_vaults(lane: int, vaults: int, shapes: Sequence[Shape]) -> LedgerMisconfigured:
    """The lane's batches would no longer be sure to fit into a transaction."""
    players = max(shape.players for shape in shapes)
    return LedgerMisconfigured(
        f"lane {lane} has no room for {vaults:,} vaults: with the circuits that are registered or set, of up to {players} players, a"
        f" lane may have {max_tables(players)} lookup tables, which hold {max_vaults(shapes):,}. Where no circuit of more"
        f" than {_TABLELESS_PLAYERS} is registered yet, set CROUPIER_MAX_BATCH_PLAYERS to {_TABLELESS_PLAYERS} or less: then no"
        " table is needed. Otherwise set up a new deployment with more lanes (CROUPIER_LANES; of this one their number must not"
        " change)"
    )
