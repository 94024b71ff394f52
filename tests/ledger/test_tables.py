"""Lookup tables: large batches fit whoever their players are, tables complete themselves, and what is unusable is not used."""

import asyncio
import base64
import random
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from solders.address_lookup_table_account import ID as LOOKUP_TABLE_PROGRAM
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM

from ledger import instructions, layout, lookup_tables, table_filling
from ledger.landing import Job, Lander
from ledger.lookup_tables import (
    MAX_PLAYERS_WITHOUT_TABLES,
    NO_TABLES,
    LaneTables,
    LookupTable,
    max_players,
    max_tables,
    max_vaults,
    needing_tables,
    read_lane_tables,
    require_players_fit,
    shared_accounts,
)
from ledger.rpc import INVALID_PARAMS, RpcClient
from ledger.table_filling import TableFiller
from ledger.transactions import MAX_TRANSACTION_BYTES, settle_instruction, settlement_bytes
from settlement.batches import SignedAttempt, Standing, Statement, statement_for
from settlement.errors import LedgerMisconfigured, LedgerUnavailable, SettlementRefused
from settlement.shapes import SHAPES, Shape
from tests.ledger.scripted import LANE, PROGRAM, Refusal, ScriptedChain, ScriptedNode, a_proof, serving
from tests.ledger.support import PRIORITY_FEE, Table, World, bets_with, new_players, settled

LARGE = needing_tables(SHAPES)
WIDE = [shape for shape in LARGE if shape.players == LARGE[0].players]
PLAYERS = LARGE[0].players
NETS = [(-1) ** at * 1_000 * (at + 1) for at in range(PLAYERS)]
DEACTIVATE_LOOKUP_TABLE = 3

OpenTable = Callable[..., Awaitable[Table]]


# What fits, without a ledger.


def some_statement(players: int) -> Statement:
    keys = new_players(players)
    indices = {player: at + 1 for at, player in enumerate(keys)}
    return statement_for(LANE, 1, bets_with(keys, [1] * players), indices)


def settle_of(statement: Statement, authority: Pubkey) -> Instruction:
    return settle_instruction(statement, a_proof(statement), PROGRAM, authority)


def bytes_with(statement: Statement, tables: LaneTables) -> int:
    authority = Keypair().pubkey()
    settle = settle_of(statement, authority)
    return settlement_bytes(settle, authority, tables.shortening(settle))


def usable_table(entries: Sequence[Pubkey], usable: int | None = None) -> LookupTable:
    return LookupTable(Keypair().pubkey(), None, tuple(entries), tuple(entries)[:usable])


def test_a_batch_needs_no_table_up_to_exactly_the_number_of_players_named_as_that() -> None:
    assert bytes_with(some_statement(MAX_PLAYERS_WITHOUT_TABLES), NO_TABLES) <= MAX_TRANSACTION_BYTES
    assert bytes_with(some_statement(MAX_PLAYERS_WITHOUT_TABLES + 1), NO_TABLES) > MAX_TRANSACTION_BYTES


def settle_with(players: int) -> Instruction:
    """A settlement of so many players, whether a circuit of today is as wide or not."""
    authority, vaults = Keypair().pubkey(), [Keypair().pubkey() for _ in range(players)]
    deltas = [instructions.VaultDelta(vault, -1) for vault in vaults]
    return instructions.settle(
        PROGRAM, authority, LARGE[0].circuit_id, LANE, 1, bet_count=64, bets_root=1, proof=bytes(128), deltas=deltas
    )


def dealt(settle: Instruction, tables: int, place: Callable[[int], int]) -> LaneTables:
    """What the settlement names dealt out to so many tables, each account by its position to the one of number `place`."""
    shared = shared_accounts(PROGRAM, LANE, LARGE)
    vaults = [meta.pubkey for meta in settle.accounts[6:]]
    entries: list[list[Pubkey]] = [[] for _ in range(tables)]
    for position, account in enumerate([*shared, *vaults]):
        entries[place(position)].append(account)
    return LaneTables(tuple(map(usable_table, entries)), tables, ())


def bytes_dealt(players: int, tables: int, place: Callable[[int], int]) -> int:
    settle = settle_with(players)
    authority = settle.accounts[0].pubkey
    return settlement_bytes(settle, authority, dealt(settle, tables, place).shortening(settle))


@pytest.mark.parametrize(("players", "tables"), [(32, 13), (48, 9), (56, 6)])
def test_the_largest_batch_fits_even_if_its_players_are_spread_over_all_tables_that_a_lane_may_have(
    players: int, tables: int
) -> None:
    assert max_tables(players) == tables
    assert max_players(tables) >= players > max_players(tables + 1)
    assert bytes_dealt(players, tables, lambda position: position % tables) <= MAX_TRANSACTION_BYTES
    assert bytes_dealt(players, tables + 1, lambda position: position % (tables + 1)) > MAX_TRANSACTION_BYTES


@pytest.mark.parametrize(("players", "tables", "size"), [(42, 11, 1_231), (32, 14, 1_233)])
def test_a_batch_is_allowed_up_to_the_last_byte_and_no_further(players: int, tables: int, size: int) -> None:
    assert bytes_dealt(players, tables, lambda position: position % tables) == size
    assert (tables <= max_tables(players)) == (size <= MAX_TRANSACTION_BYTES)


@pytest.mark.parametrize("players", range(MAX_PLAYERS_WITHOUT_TABLES + 1, 57))
def test_no_other_spread_of_any_number_of_players_is_larger(players: int) -> None:
    chance, tables = random.Random(players), max_tables(players)
    for _ in range(5):
        assert bytes_dealt(players, tables, lambda _: chance.randrange(tables)) <= MAX_TRANSACTION_BYTES
    # Singles are named by themselves, all else in pairs.
    assert bytes_dealt(players, tables, lambda position: min(position // 2, tables - 1)) <= MAX_TRANSACTION_BYTES


def test_what_a_lane_has_room_for_follows_from_its_widest_batches() -> None:
    shape = Shape(circuit_id=9, bets=64, players=48)
    assert max_vaults([*SHAPES[:1], shape]) == 9 * 256 - len(shared_accounts(PROGRAM, LANE, [shape]))


def test_a_table_is_named_only_if_that_saves_bytes_and_only_for_what_no_other_table_has() -> None:
    statement = some_statement(4)
    settle = settle_of(statement, Keypair().pubkey())
    first, second, third, fourth = (meta.pubkey for meta in settle.accounts[-4:])
    full, duplicate, single = (
        usable_table([first, second, third]),
        usable_table([first, second]),
        usable_table([fourth]),
    )
    chosen = LaneTables((duplicate, single, full), 3, ()).shortening(settle)
    assert [table.key for table in chosen] == [full.address]


def test_an_entry_that_is_not_usable_yet_is_not_named() -> None:
    statement = some_statement(3)
    settle = settle_of(statement, Keypair().pubkey())
    vaults = [meta.pubkey for meta in settle.accounts[-3:]]
    [table] = LaneTables((usable_table(vaults, usable=2),), 1, ()).shortening(settle)
    assert table.addresses == vaults[:2]
    assert LaneTables((usable_table(vaults, usable=1),), 1, ()).shortening(settle) == []


# On a local ledger with the real program and the real lookup table program.


@pytest.fixture
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables count as full with 12 entries, and the registry is read two numbers at a time."""
    monkeypatch.setattr(lookup_tables, "LOOKUP_TABLE_MAX_ADDRESSES", 12)
    monkeypatch.setattr(lookup_tables, "_NUMBERS_PER_READ", 2)


def allowing(tables: int) -> Callable[[int], int]:
    """So many for batches of any size."""

    def most(players: int) -> int:
        del players
        return tables

    return most


async def tables_of(table: Table) -> LaneTables:
    return await read_lane_tables(table.world.rpc, table.world.program, table.lane, "confirmed")


def wanted(table: Table, shapes: Sequence[Shape] = LARGE) -> set[Pubkey]:
    vaults = {table.vault(position) for position in range(len(table.players))}
    return vaults | set(shared_accounts(table.world.program, table.lane, shapes))


async def settles(table: Table, nets: Sequence[int] = NETS, number: int = 1) -> SignedAttempt:
    """Signs, sends, and checks what moved by the chain's word on the transaction."""
    world = table.world
    statement, ledger = await table.statement(nets, number), world.ledger()
    attempt = await ledger.sign(statement, world.prover.prove(statement), 1)
    assert len(base64.b64decode(attempt.raw)) <= MAX_TRANSACTION_BYTES
    await ledger.broadcast(attempt)
    assert (await settled(ledger, statement, [attempt])).standing is Standing.SETTLED
    movement = await ledger.movement(attempt.signature, table.lane, table.players)
    assert movement is not None
    assert movement.house_delta == -sum(nets)
    assert movement.net_by_player == dict(zip(table.players, nets, strict=True))
    return attempt


@pytest.mark.usefixtures("small_tables")
async def test_players_spread_over_several_tables_are_settled_and_each_ones_movement_is_told(
    open_table: OpenTable,
) -> None:
    table = await open_table(PLAYERS, WIDE)
    tables = await tables_of(table)
    assert len(tables.tables) > 2
    assert tables.usable == wanted(table, WIDE)
    await settles(table)


async def test_a_batch_spread_over_nearly_all_tables_that_its_lane_may_have_is_settled_and_a_larger_one_never_cut(
    world: World, open_table: OpenTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = PLAYERS + len(shared_accounts(world.program, 0, WIDE))
    monkeypatch.setattr(lookup_tables, "LOOKUP_TABLE_MAX_ADDRESSES", -(-entries // max_tables(PLAYERS)))
    table = await open_table(PLAYERS, WIDE)
    count = len((await tables_of(table)).tables)
    assert max_tables(PLAYERS) - 1 <= count <= max_tables(PLAYERS)
    await settles(table)
    await require_players_fit(world.rpc, world.program, table.lane + 1, max_players(count))
    players = max_players(count) + 1
    # Which lane it is that has so many first, other tests may tell as well.
    expected = rf"lane \d+ .*{count} lookup tables.* set CROUPIER_MAX_BATCH_PLAYERS to {players - 1} or less"
    with pytest.raises(LedgerMisconfigured, match=expected):
        await require_players_fit(world.rpc, world.program, table.lane + 1, players)
    await require_players_fit(world.rpc, world.program, table.lane + 1, MAX_PLAYERS_WITHOUT_TABLES)
    with pytest.raises(LedgerMisconfigured, match="no room"):
        await world.provisioner.ensure_vaults(world.program, table.lane, new_players(max_tables(PLAYERS) + 20), WIDE)


async def test_a_vault_is_opened_only_once_it_can_be_named_through_a_table(
    world: World, open_table: OpenTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = await open_table(1, LARGE)
    player = new_players(1)
    vault = layout.vault_address(world.program, table.lane, Pubkey.from_string(player[0]))
    land = Lander.land

    async def land_all_but_vaults(self: Lander, jobs: Sequence[Job]) -> None:
        if any(job.purpose == "opening vaults" for job in jobs):
            raise Interrupted
        await land(self, jobs)

    with monkeypatch.context() as patch:
        patch.setattr(Lander, "land", land_all_but_vaults)
        with pytest.raises(Interrupted):
            await world.provisioner.ensure_vaults(world.program, table.lane, player, LARGE)
    assert await world.ledger().vaults(table.lane, player) == {}
    assert vault in (await tables_of(table)).usable
    assert await world.provisioner.ensure_vaults(world.program, table.lane, player, LARGE) == 1
    assert [entry for found in (await tables_of(table)).tables for entry in found.entries].count(vault) == 1


async def test_shapes_in_use_are_those_whose_circuits_the_chain_has(world: World) -> None:
    assert await world.provisioner.registered_shapes(world.program) == SHAPES
    assert await world.provisioner.registered_shapes(Keypair().pubkey()) == ()


async def test_vaults_from_before_there_were_tables_are_named_in_the_refusal_and_completed_by_provisioning(
    world: World, open_table: OpenTable
) -> None:
    table = await open_table(PLAYERS)
    ledger, statement = world.ledger(), await table.statement(NETS)
    proof = world.prover.prove(statement)
    expected = rf"lane {table.lane} is \d{{4}} bytes .* at most 1232.*starter.py provision"
    with pytest.raises(LedgerMisconfigured, match=expected):
        await ledger.sign(statement, proof, 1)
    added = await world.provisioner.ensure_tables(world.program, table.lane, SHAPES)
    assert added == len(wanted(table))
    assert await world.provisioner.ensure_tables(world.program, table.lane, SHAPES) == 0
    assert await ledger.sign(statement, proof, 1)


class Interrupted(Exception):
    pass


async def test_an_interrupted_run_is_completed_by_the_next_wherever_it_stopped(
    world: World, open_table: OpenTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = await open_table(PLAYERS)
    land = Lander.land

    async def land_one(self: Lander, jobs: Sequence[Job]) -> None:
        await land(self, jobs[:1])
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(Lander, "land", land_one)
        for entries_left in (0, table_filling.ENTRIES_PER_TRANSACTION):
            with pytest.raises(Interrupted):
                await world.provisioner.ensure_tables(world.program, table.lane, SHAPES)
            assert [len(found.entries) for found in (await tables_of(table)).tables] == [entries_left]
    await world.provisioner.ensure_tables(world.program, table.lane, SHAPES)
    [only] = (await tables_of(table)).tables
    assert len(only.entries) == len(wanted(table))
    assert set(only.entries) == wanted(table)


async def test_rival_runs_and_runs_for_several_lanes_at_once_all_succeed(world: World, open_table: OpenTable) -> None:
    first, second = await open_table(2), await open_table(2)
    lanes = (first.lane, second.lane, first.lane)
    await asyncio.gather(*(world.provisioner.ensure_tables(world.program, lane, SHAPES) for lane in lanes))
    for table in (first, second):
        assert (await tables_of(table)).usable >= wanted(table)


async def test_a_deactivated_table_is_not_used_but_named_and_replaced(world: World, open_table: OpenTable) -> None:
    table = await open_table(PLAYERS, LARGE)
    [before] = (await tables_of(table)).tables
    deactivate = Instruction(
        LOOKUP_TABLE_PROGRAM,
        struct.pack("<I", DEACTIVATE_LOOKUP_TABLE),
        [AccountMeta(before.address, False, True), AccountMeta(world.authority.pubkey(), True, False)],
    )
    lander = Lander(world.rpc, world.authority, priority_fee_micro_lamports=PRIORITY_FEE)
    await lander.land([Job("deactivating a table", [deactivate])])
    statement, ledger = await table.statement(NETS), world.ledger()
    expected = rf"table 0 \({before.address}\) of lane {table.lane} is deactivated"
    with pytest.raises(LedgerMisconfigured, match=expected):
        await ledger.sign(statement, world.prover.prove(statement), 1)
    await world.provisioner.ensure_tables(world.program, table.lane, SHAPES)
    after = await tables_of(table)
    assert [found.address for found in after.tables] != [before.address]
    assert after.usable == wanted(table)
    await settles(table)


async def test_vaults_beyond_what_tables_hold_are_refused_before_any_is_opened_unless_no_table_is_needed(
    world: World, open_table: OpenTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = await open_table(1)
    monkeypatch.setattr(table_filling, "max_tables", allowing(0))
    players, small = new_players(2), [shape for shape in SHAPES if shape not in LARGE]
    with pytest.raises(
        LedgerMisconfigured, match=r"no room for 3 vaults.*CROUPIER_MAX_BATCH_PLAYERS to 8 or less.*CROUPIER_LANES"
    ):
        await world.provisioner.ensure_vaults(world.program, table.lane, players, SHAPES)
    assert await world.ledger().vaults(table.lane, players) == {}
    assert (await tables_of(table)).next_number == 0
    assert await world.provisioner.ensure_vaults(world.program, table.lane, players, small) == 2
    with pytest.raises(LedgerMisconfigured, match="no room"):
        await world.provisioner.ensure_tables(world.program, table.lane, SHAPES)
    assert (await tables_of(table)).next_number == 0


async def test_lanes_whose_batches_are_small_get_no_tables(open_table: OpenTable) -> None:
    table = await open_table(1, [shape for shape in SHAPES if shape not in LARGE])
    assert (await tables_of(table)).next_number == 0


# What a healthy local ledger never says.


@dataclass
class ScriptedTables:
    """A lane with one registered table, as a scripted node shows it. From the third read on, the next slot has come."""

    chain: ScriptedChain
    rpc: RpcClient
    address: Pubkey = field(default_factory=lambda: Keypair().pubkey())
    entries: list[Pubkey] = field(default_factory=list[Pubkey])
    owner: Pubkey = LOOKUP_TABLE_PROGRAM
    closed: bool = False
    registry_owner: Pubkey = PROGRAM
    slot: int = 1_000
    extended_slot: int = 900
    extended_from: int = 0
    reads: int = 0

    def __post_init__(self) -> None:
        self.answers = self.chain.node.answers
        self.answers["getMultipleAccounts"] = self._accounts

    async def read(self) -> LaneTables:
        return await read_lane_tables(self.rpc, PROGRAM, LANE, "confirmed")

    def _accounts(self, params: list[Any]) -> Any:
        first = str(layout.table_address(PROGRAM, LANE, 0))
        registered = struct.pack("<BBHH32s", layout.Kind.TABLE, 255, LANE, 0, bytes(self.address))
        found = {first: account(self.registry_owner, registered)}
        if not self.closed:
            found[str(self.address)] = account(self.owner, self._state())
        self.reads += str(self.address) in params[0]
        return {"context": {"slot": self.slot + (self.reads > 2)}, "value": [found.get(key) for key in params[0]]}

    def _state(self) -> bytes:
        meta = struct.pack("<IQQBB32sH", 1, 2**64 - 1, self.extended_slot, self.extended_from, 1, bytes(PROGRAM), 0)
        return meta + b"".join(map(bytes, self.entries))


def account(owner: Pubkey, data: bytes) -> dict[str, Any]:
    return {
        "lamports": 1,
        "owner": str(owner),
        "executable": False,
        "data": [base64.b64encode(data).decode(), "base64"],
    }


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedTables]:
    async with serving(ScriptedNode()) as node, RpcClient(node.url) as rpc:
        yield ScriptedTables(ScriptedChain(node), rpc)


async def test_entries_count_from_the_slot_after_the_one_in_which_they_were_added(scripted: ScriptedTables) -> None:
    scripted.entries = [Keypair().pubkey() for _ in range(3)]
    scripted.extended_slot, scripted.extended_from = scripted.slot, 2
    [early] = (await scripted.read()).tables
    assert list(early.usable) == scripted.entries[:2]
    await scripted.read()
    [later] = (await scripted.read()).tables
    assert list(later.usable) == scripted.entries


async def test_a_registered_account_that_is_no_table_is_left_out_and_named(scripted: ScriptedTables) -> None:
    assert len((await scripted.read()).tables) == 1
    scripted.owner = SYSTEM_PROGRAM
    assert_defect(await scripted.read(), f"table 0 ({scripted.address}) of lane {LANE} belongs to {SYSTEM_PROGRAM}")
    scripted.closed = True
    assert_defect(await scripted.read(), "is closed")


def assert_defect(tables: LaneTables, expected: str) -> None:
    [defect] = tables.defects
    assert expected in defect
    assert tables.tables == ()
    assert tables.next_number == 1


async def test_a_registry_that_the_program_does_not_own_registers_nothing(scripted: ScriptedTables) -> None:
    scripted.registry_owner = SYSTEM_PROGRAM
    assert await scripted.read() == NO_TABLES


async def test_filling_returns_only_once_the_entries_are_usable(scripted: ScriptedTables) -> None:
    scripted.entries = shared_accounts(PROGRAM, LANE, LARGE)
    scripted.extended_slot = scripted.slot
    house = account(PROGRAM, struct.pack("<BBHIQ", layout.Kind.HOUSE, 255, LANE, 0, 0))
    scripted.answers |= {
        "getAccountInfo": lambda _: {"context": {"slot": scripted.slot}, "value": house},
        "getProgramAccounts": lambda _: [],
        "getEpochInfo": lambda _: {"absoluteSlot": 0, "blockHeight": 0},
    }
    authority = Keypair()
    lander = Lander(scripted.rpc, authority, priority_fee_micro_lamports=0)
    assert await TableFiller(scripted.rpc, lander, authority.pubkey(), PROGRAM, LANE, set()).fill(LARGE) == 0
    assert scripted.reads == 3


async def test_vaults_that_a_lagging_node_does_not_list_are_not_forgotten(scripted: ScriptedTables) -> None:
    house = account(PROGRAM, struct.pack("<BBHIQ", layout.Kind.HOUSE, 255, LANE, 1, 0))
    scripted.answers |= {
        "getAccountInfo": lambda _: {"context": {"slot": scripted.slot}, "value": house},
        "getProgramAccounts": lambda _: [],
    }
    authority = Keypair()
    lander = Lander(scripted.rpc, authority, priority_fee_micro_lamports=0)
    with pytest.raises(LedgerUnavailable, match=f"lists 0 vaults of lane {LANE}, which has 1"):
        await TableFiller(scripted.rpc, lander, authority.pubkey(), PROGRAM, LANE, set()).fill(LARGE)


async def test_tables_are_read_once_until_the_node_does_not_resolve_them(scripted: ScriptedTables) -> None:
    ledger, statement = scripted.chain.ledger(scripted.rpc), some_statement(PLAYERS)
    settle = settle_of(statement, scripted.chain.authority.pubkey())
    scripted.entries = [meta.pubkey for meta in settle.accounts[-PLAYERS:]]
    for attempt in (1, 2):
        assert await ledger.sign(statement, a_proof(statement), attempt)
    assert scripted.reads == 1

    def refuse(_: list[Any]) -> Any:
        raise Refusal(INVALID_PARAMS)

    simulate, scripted.answers["simulateTransaction"] = scripted.answers["simulateTransaction"], refuse
    with pytest.raises(LedgerUnavailable, match="does not resolve the lookup tables"):
        await ledger.sign(statement, a_proof(statement), 3)
    scripted.answers["simulateTransaction"] = simulate
    assert await ledger.sign(statement, a_proof(statement), 3)
    assert scripted.reads == 2


async def test_a_batch_whose_players_stand_in_tables_from_the_next_slot_on_waits_for_it(
    scripted: ScriptedTables,
) -> None:
    ledger, statement = scripted.chain.ledger(scripted.rpc), some_statement(PLAYERS)
    settle = settle_of(statement, scripted.chain.authority.pubkey())
    scripted.entries = [meta.pubkey for meta in settle.accounts[-PLAYERS:]]
    scripted.extended_slot = scripted.slot
    for _ in range(2):
        with pytest.raises(LedgerUnavailable, match="usable from the next slot on"):
            await ledger.sign(statement, a_proof(statement), 1)
    assert await ledger.sign(statement, a_proof(statement), 1)


async def test_tables_that_were_read_just_now_and_are_not_resolved_are_no_reason_to_try_for_ever(
    scripted: ScriptedTables,
) -> None:
    ledger, statement = scripted.chain.ledger(scripted.rpc), some_statement(PLAYERS)
    settle = settle_of(statement, scripted.chain.authority.pubkey())
    scripted.entries = [meta.pubkey for meta in settle.accounts[-PLAYERS:]]

    def refuse(_: list[Any]) -> Any:
        raise Refusal(INVALID_PARAMS)

    scripted.answers["simulateTransaction"] = refuse
    for reads in (1, 2):
        with pytest.raises(SettlementRefused, match="does not resolve the lookup tables"):
            await ledger.sign(statement, a_proof(statement), 1)
        assert scripted.reads == reads


async def test_a_table_of_another_authority_is_not_extended(
    scripted: ScriptedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_filling, "max_tables", allowing(1))
    house = account(PROGRAM, struct.pack("<BBHIQ", layout.Kind.HOUSE, 255, LANE, 0, 0))
    scripted.answers |= {
        "getAccountInfo": lambda _: {"context": {"slot": scripted.slot}, "value": house},
        "getProgramAccounts": lambda _: [],
    }
    authority = Keypair()
    lander = Lander(scripted.rpc, authority, priority_fee_micro_lamports=0)
    with pytest.raises(LedgerMisconfigured, match="no room for"):
        await TableFiller(scripted.rpc, lander, authority.pubkey(), PROGRAM, LANE, set()).fill(LARGE)
    assert scripted.chain.node.called("sendTransaction") == []
