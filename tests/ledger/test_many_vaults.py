"""Hundreds of players are given vaults and money in bulk: few requests, tables shared by nobody, and nothing is done twice."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from solders.pubkey import Pubkey

from ledger import layout, lookup_tables, table_filling
from ledger.lookup_tables import max_tables, needing_tables, read_lane_tables, shared_accounts
from ledger.provisioning import TRANSFERS_PER_TRANSACTION, VAULTS_PER_TRANSACTION
from ledger.rpc import MAX_ACCOUNTS_PER_REQUEST, RpcClient
from ledger.table_filling import ENTRIES_PER_TRANSACTION
from operations import outbox
from operations.vaults import fund_vaults
from settings import Settings
from settlement.bets import lane_of
from settlement.shapes import SHAPES
from tests.ledger.conftest import LANES
from tests.ledger.support import World, new_players

PLAYERS_PER_LANE: Final = 300
LAMPORTS: Final = 1_000
READS_PER_LOOK: Final = 2 * PLAYERS_PER_LANE // MAX_ACCOUNTS_PER_REQUEST


@pytest.fixture
def settings(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(outbox, "FOLDER", tmp_path / "transfers")
    authority = tmp_path / "authority.json"
    authority.write_text(json.dumps(list(bytes(world.authority))))
    authority.chmod(0o600)
    return Settings.model_validate(
        {
            "rpc_url": world.node.url,
            "program_id": str(world.program),
            "authority_keypair": authority,
            "lanes": LANES,
        }
    )


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the node was called, by method."""
    counted: Counter[str] = Counter()
    call = RpcClient._call  # pyright: ignore[reportPrivateUsage]

    async def counting(self: RpcClient, method: str, params: list[Any], result_type: Any) -> Any:
        counted[method] += 1
        return await call(self, method, params, result_type)

    monkeypatch.setattr(RpcClient, "_call", counting)
    return counted


def players_of(lane: int) -> list[str]:
    found: list[str] = []
    while len(found) < PLAYERS_PER_LANE:
        found += [player for player in new_players(LANES) if lane_of(player, LANES) == lane]
    return found[:PLAYERS_PER_LANE]


async def test_vaults_on_several_lanes_are_opened_filled_and_put_into_tables_at_once_and_only_once(
    world: World, lanes: Iterator[int], settings: Settings, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup_tables, "LOOKUP_TABLE_MAX_ADDRESSES", 100)
    # Hardly more slots than tables to be made, so that two lanes would come upon the same.
    monkeypatch.setattr(table_filling, "_SLOT_CANDIDATES", 9)
    assert max_tables(max(shape.players for shape in SHAPES)) * 100 > PLAYERS_PER_LANE
    players = {lane: players_of(lane) for lane in (next(lanes), next(lanes))}
    everybody = [player for of_lane in players.values() for player in of_lane]
    await fund_vaults(settings, dict.fromkeys(everybody, LAMPORTS))
    minimum = await world.rpc.rent_minimum(layout.VAULT_BYTES)
    addresses: set[Pubkey] = set()
    for lane, of_lane in players.items():
        vaults = [layout.vault_address(world.program, lane, Pubkey.from_string(player)) for player in of_lane]
        assert await world.provisioner.balances(vaults) == [minimum + LAMPORTS] * PLAYERS_PER_LANE
        tables = await read_lane_tables(world.rpc, world.program, lane, "confirmed")
        entries = [entry for table in tables.tables for entry in table.usable]
        shared = shared_accounts(world.program, lane, needing_tables(SHAPES))
        assert Counter(entries) == Counter([*vaults, *shared])
        addresses.update(table.address for table in tables.tables)
    assert len(addresses) == 2 * 4
    transactions = 2 * (
        4  # tables
        + PLAYERS_PER_LANE // ENTRIES_PER_TRANSACTION
        + 4  # the rest of each
        + PLAYERS_PER_LANE // VAULTS_PER_TRANSACTION
        + PLAYERS_PER_LANE // TRANSFERS_PER_TRANSACTION
    )
    assert calls["sendTransaction"] <= transactions + transactions // 4  # some are sent again
    calls.clear()
    await fund_vaults(settings, dict.fromkeys(everybody, LAMPORTS))
    assert "sendTransaction" not in calls
    assert calls["getMultipleAccounts"] <= 2 * READS_PER_LOOK + 4 * 2 * 2 + 2
    assert calls.total() <= calls["getMultipleAccounts"] + 8
