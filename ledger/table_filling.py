"""Creates a lane's address lookup tables and puts into them what settlements name. Looks first and does only what is missing.

A table is created and registered by one transaction, so no table can be lost; its entries follow, each transaction by itself. An
interrupted run is completed by the next. Two runs at once may enter an account twice, which costs room and harms nothing.

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
from ledger.lookup_tables import MAX_TABLES_PER_LANE, LaneTables, LookupTable, read_lane_tables, shared_accounts
from ledger.reading import PROVISION_REMEDY
from ledger.rpc import READ_COMMITMENT, Commitment, RpcClient
from settlement.errors import LedgerMisconfigured, LedgerUnavailable
from settlement.shapes import Shape

ENTRIES_PER_TRANSACTION: Final = 28
"""A transaction has room for 29."""

_SLOT_CANDIDATES: Final = 100
"""How many of the 512 slots that a table can be made with are looked at; the oldest must not be gone before the table is made."""


class _Opcode(IntEnum):
    """ProgramInstruction of the lookup table program, bincode."""

    CREATE_LOOKUP_TABLE = 0
    EXTEND_LOOKUP_TABLE = 2


class TableFiller:
    """Fills one lane's tables. `lander` lands what `authority` signs and pays for."""

    def __init__(self, rpc: RpcClient, lander: Lander, authority: Pubkey, program: Pubkey, lane: int) -> None:
        self._rpc = rpc
        self._lander = lander
        self._authority = authority
        self._program = program
        self._lane = lane

    async def fill(self, shapes: Sequence[Shape]) -> int:
        """Makes sure that a transaction can name all vaults of the lane, and what `shapes` share, through tables.

        Answers how many entries were added. Raises `LedgerUnavailable`, or `LedgerMisconfigured` with the remedy.
        """
        wanted = [*shared_accounts(self._program, self._lane, shapes), *await self._vaults()]
        tables = await self._tables()
        entries = tables.entries
        missing = [account for account in wanted if account not in entries]
        while len(missing) > sum(table.room for table in self._extendable(tables)):
            if len(tables.tables) >= MAX_TABLES_PER_LANE:
                raise too_many_vaults(self._lane)
            tables = await self._with_another(tables.next_number)
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

    async def _with_another(self, number: int) -> LaneTables:
        """The lane's tables after an empty one was created and registered under `number`, by this run or by a rival one."""
        slot, address, bump = await self._unused_slot()
        create = Instruction(
            LOOKUP_TABLE_PROGRAM,
            struct.pack("<IQB", _Opcode.CREATE_LOOKUP_TABLE, slot, bump),
            self._accounts(address),
        )
        register = instructions.register_table(self._program, self._authority, self._lane, number, address)
        purpose = f"creating lookup table {number} of lane {self._lane}"
        try:
            await self._lander.land([Job(purpose, [create, register])])
        except LedgerMisconfigured:
            if (await self._tables("processed")).next_number <= number:
                raise
        polling = Polling(self._rpc.name, f"lookup table {number} of lane {self._lane}")
        while (tables := await self._tables()).next_number <= number:
            await polling.wait()
        return tables

    async def _unused_slot(self) -> tuple[int, Pubkey, int]:
        """A recent slot, and the address and bump of the table that it gives; each slot gives an authority one table.

        Any of them, so that runs for two lanes at once do not come upon the same.
        """
        sysvar = (await self._rpc.account(SLOT_HASHES, "finalized")).value
        if sysvar is None:
            raise LedgerUnavailable(f"{self._rpc.name} does not show the recent slots")
        try:
            recent = SlotHashes.from_bytes(sysvar.data).slot_hashes
        except ValueError:
            raise LedgerUnavailable(f"{self._rpc.name} shows recent slots that cannot be read") from None
        slots = [slot for slot, _ in recent[:_SLOT_CANDIDATES]]
        derived = [(slot, *derive_lookup_table_address(self._authority, slot)) for slot in slots]
        accounts = await self._rpc.accounts([address for _, address, _ in derived], READ_COMMITMENT)
        unused = [
            candidate
            for candidate, account in zip(derived, accounts, strict=True)
            if account is None or account.owner != LOOKUP_TABLE_PROGRAM
        ]
        if not unused:
            raise LedgerUnavailable(
                f"{self._authority} has made a lookup table with each of the last {len(slots)} final slots"
            )
        return random.choice(unused)

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


def too_many_vaults(lane: int) -> LedgerMisconfigured:
    """The lane's batches would no longer be sure to fit into a transaction."""
    return LedgerMisconfigured(
        f"lane {lane} has no room for more vaults in its {MAX_TABLES_PER_LANE} lookup tables: set up a new"
        " deployment with more lanes (CROUPIER_LANES; of this one their number must not change), or batches of fewer players"
        " (CROUPIER_MAX_BATCH_PLAYERS), which need no tables"
    )
