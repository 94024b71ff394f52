"""docs/performance-populations.md: what is computed there follows from the program's constants as they are."""

from math import ceil, sqrt
from pathlib import Path
from typing import Final

import pytest
from solders.litesvm import LiteSVM

from ledger import layout
from ledger.landing import MAX_IN_FLIGHT
from ledger.lookup_tables import max_tables, max_vaults, needing_tables
from ledger.provisioning import LANES_AT_ONCE, TRANSFERS_PER_TRANSACTION, VAULTS_PER_TRANSACTION
from ledger.table_filling import ENTRIES_PER_TRANSACTION
from ledger.transactions import MIN_COMPUTE_UNITS
from operations import top_ups
from settings import Settings
from settlement.limits import MAX_LANE
from settlement.shapes import SHAPES, Shape

TEXT: Final = (Path(__file__).parents[2] / "docs" / "performance-populations.md").read_text()
SOL: Final = 1_000_000_000
PLAYERS_PER_LANE: Final = 1_300
ENTRIES_PER_TABLE: Final = 256
TABLE_HEADER_BYTES: Final = 56
KEY_BYTES: Final = 32
SIGNATURE_FEE: Final = 5_000
SECONDS_TO_CONFIRM: Final = 1.3
BETS_A_YEAR: Final = 1_000_000 * 10 * 365
SECONDS_A_YEAR: Final = 365 * 24 * 3_600
SHARED: Final = 3 + len(needing_tables(SHAPES))

rent = LiteSVM().minimum_balance_for_rent_exemption


def shows(*cells: str) -> bool:
    """Whether one line has these cells in this order, whatever stands before."""
    rows = [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in TEXT.splitlines()]
    return any(row[-len(cells) :] == list(cells) for row in rows)


@pytest.mark.parametrize("players", [32, 48, 56])
def test_what_a_lane_holds(players: int) -> None:
    wide = [Shape(circuit_id=number, bets=64, players=players) for number in range(len(needing_tables(SHAPES)))]
    assert shows(f"{players}", f"{max_tables(players)}", f"{max_vaults(wide):,}")


def test_the_widest_circuits_are_those_that_are_told_of() -> None:
    assert max(shape.players for shape in SHAPES) == 56
    assert PLAYERS_PER_LANE + 5 * sqrt(PLAYERS_PER_LANE) < max_vaults(SHAPES)
    assert f"{(MAX_LANE + 1) * PLAYERS_PER_LANE:,}" in TEXT


def test_setting_up() -> None:
    columns: list[list[str]] = []
    for players in (10_000, 1_000_000):
        lanes = ceil(players / PLAYERS_PER_LANE)
        tables = lanes * ceil((ceil(players / lanes) + SHARED) / ENTRIES_PER_TABLE)
        entries = (players + lanes * SHARED) * (rent(KEY_BYTES) - rent(0))
        in_tables = entries + tables * (rent(TABLE_HEADER_BYTES) + rent(layout.TABLE_BYTES))
        vaults, houses = players * rent(layout.VAULT_BYTES), lanes * rent(layout.HOUSE_BYTES)
        sent = tables + sum(
            ceil(players / size)
            for size in (VAULTS_PER_TRANSACTION, ENTRIES_PER_TRANSACTION, TRANSFERS_PER_TRANSACTION)
        )
        amounts = [f"{amount / SOL:,.1f} SOL" for amount in (vaults, in_tables, vaults + in_tables + houses)]
        columns.append([f"{lanes:,}", f"{tables:,}", f"{sent:,}", *amounts])
    for ten_thousand, million in zip(*columns, strict=True):
        assert shows(ten_thousand, million), (ten_thousand, million)
    full = rent(TABLE_HEADER_BYTES + ENTRIES_PER_TABLE * KEY_BYTES)
    for lamports in (rent(layout.VAULT_BYTES), rent(layout.HOUSE_BYTES), rent(layout.TABLE_BYTES), full):
        assert f"{lamports:,}" in TEXT
    assert f"{rent(TABLE_HEADER_BYTES):,}" in TEXT
    opening = 1e6 * (1 / VAULTS_PER_TRANSACTION + 1 / ENTRIES_PER_TRANSACTION) / (LANES_AT_ONCE * MAX_IN_FLIGHT)
    deposits = 1e6 / TRANSFERS_PER_TRANSACTION / top_ups.MAX_IN_FLIGHT
    assert f"{opening * SECONDS_TO_CONFIRM:,.0f} + {deposits * SECONDS_TO_CONFIRM:,.0f} s" in TEXT


@pytest.mark.parametrize("bets", [60, 9, 2])
def test_a_year(bets: int) -> None:
    price: int = Settings.model_fields["priority_fee_micro_lamports"].default
    fee = SIGNATURE_FEE + MIN_COMPUTE_UNITS * price // 1_000_000
    batches, record = BETS_A_YEAR / bets, rent(layout.BATCH_BYTES)
    assert shows(
        f"{bets}",
        f"{batches:,.0f}",
        f"{batches / SECONDS_A_YEAR:.1f}",
        f"{batches * record / SOL:,.0f} SOL",
        f"{batches * fee / SOL:,.0f} SOL",
        f"{(record + fee) / bets:,.0f}",
    )
    assert f"{fee / 60:.0f}" == "86"
    assert f"{100 * record / (record + fee):.1f} %" in TEXT
