"""What a settlement offers: at least the floor, more where the accounts are dear or an attempt has expired, never above the ceiling."""

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator

import pytest
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from ledger import fees, layout
from ledger.fees import PriceBounds
from ledger.rpc import MAX_PRIORITY_FEE_ACCOUNTS, RpcClient
from ledger.transactions import compute_unit_limit
from settlement.batches import SignedAttempt
from tests.ledger.panel import Panel, panel_of
from tests.ledger.scripted import LANE, NUMBER, PROGRAM, UNITS, Refusal, a_proof

FLOOR = 1_000
CEILING = 5_000


@pytest.fixture
async def alone() -> AsyncIterator[Panel]:
    async with panel_of(1) as panel:
        panel.ledger = panel.chains[0].ledger(panel.nodes, price=FLOOR, ceiling=CEILING)
        yield panel


def price_of(attempt: SignedAttempt) -> int:
    """In millionths of a lamport per compute unit, from the signed bytes."""
    message = VersionedTransaction.from_bytes(base64.b64decode(attempt.raw)).message
    return int.from_bytes(message.instructions[1].data[1:9], "little")


def test_a_price_is_the_estimate_within_its_bounds() -> None:
    bounds = PriceBounds(FLOOR, CEILING)
    assert bounds.price(0, 0) == FLOOR
    assert bounds.price(FLOOR + 1, 0) == FLOOR + 1
    assert bounds.price(CEILING + 1, 0) == CEILING


def test_each_further_attempt_offers_a_tenth_more_at_least_up_to_the_ceiling() -> None:
    for floor in (0, 1, 7, 999, 1_000):
        bounds = PriceBounds(floor, 1_000_000)
        prices = [bounds.price(0, attempt) for attempt in range(40)]
        assert all(later * 10 >= earlier * 11 and later > earlier for earlier, later in itertools.pairwise(prices))
    assert PriceBounds(FLOOR, CEILING).price(0, 10**9) == CEILING
    assert PriceBounds(FLOOR, FLOOR).price(10**9, 1) == FLOOR


async def test_what_is_signed_offers_more_the_more_attempts_there_were(alone: Panel) -> None:
    assert [price_of(await alone.sign(attempt)) for attempt in range(3)] == [1_000, 1_100, 1_210]


@pytest.mark.parametrize(
    ("fees_of_late", "price"),
    [([0] * 80 + [1_500] * 15 + [4_000] * 5, 1_500), ([0] * 100, FLOOR), ([10**9], CEILING)],
    ids=["some slots full", "no slot full", "above the ceiling"],
)
async def test_what_is_signed_offers_a_high_percentile_of_what_landed_of_late(
    alone: Panel, fees_of_late: list[int], price: int
) -> None:
    alone.chains[0].fees = fees_of_late
    assert price_of(await alone.sign(0)) == price


async def test_what_is_signed_again_offers_what_is_usual_by_now(alone: Panel) -> None:
    alone.chains[0].fees = [0] * 100
    assert price_of(await alone.sign(0)) == FLOOR
    alone.chains[0].fees = [2_000] * 100
    # By what is known already: it was asked for a moment ago.
    assert price_of(await alone.sign(0)) == FLOOR
    assert price_of(await alone.sign(1)) == 2_200
    assert price_of(await alone.sign(0)) == 2_000


async def test_the_estimate_is_for_the_accounts_that_the_settlement_writes_to(alone: Panel) -> None:
    await alone.sign(0)
    [[addresses]] = alone.chains[0].node.called("getRecentPrioritizationFees")
    players = [Pubkey.from_string(slot.player) for slot in alone.statement.slots]
    expected = {
        str(alone.chains[0].authority.pubkey()),
        str(layout.house_address(PROGRAM, LANE)),
        str(layout.batch_address(PROGRAM, LANE, NUMBER)),
        *(str(layout.vault_address(PROGRAM, LANE, player)) for player in players),
    }
    assert expected <= set(addresses)
    assert len(addresses) == len(set(addresses)) <= MAX_PRIORITY_FEE_ACCOUNTS
    assert str(layout.config_address(PROGRAM)) not in addresses


@pytest.mark.parametrize("code", [-32601, -32602, -32010, -32000, -32603])
async def test_a_node_that_does_not_tell_of_fees_leaves_floor_and_bumps(alone: Panel, code: int) -> None:
    def refuse(_: list[object]) -> object:
        raise Refusal(code)

    alone.chains[0].node.answers["getRecentPrioritizationFees"] = refuse
    assert price_of(await alone.sign(1)) == 1_100


async def test_a_node_that_hangs_over_fees_leaves_floor_and_bumps(
    alone: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fees, "ESTIMATE_SECONDS", 0.05)

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(RpcClient, "recent_priority_fees", hang)
    async with asyncio.timeout(5):
        assert price_of(await alone.sign(1)) == 1_100


async def test_the_limit_of_units_follows_from_the_simulation_whatever_the_price(alone: Panel) -> None:
    attempt = await alone.ledger.sign(alone.statement, a_proof(alone.statement), 3)
    message = VersionedTransaction.from_bytes(base64.b64decode(attempt.raw)).message
    assert int.from_bytes(message.instructions[0].data[1:5], "little") == compute_unit_limit(UNITS)
