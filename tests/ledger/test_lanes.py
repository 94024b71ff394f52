"""The number of lanes is the one that a deployment was set up with: with another, players' bets would miss their vaults."""

import base64
import struct
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from solders.pubkey import Pubkey

from ledger import layout
from ledger.lanes import require_lanes
from ledger.rpc import RpcClient
from settlement.errors import LedgerMisconfigured
from settlement.limits import MAX_LANE
from tests.ledger.conftest import LANES
from tests.ledger.scripted import PROGRAM, Answer, ScriptedNode, serving
from tests.ledger.support import World

OPENED = struct.Struct("<BBHIQ")
Vaults = Sequence[int | None]
"""How many each lane's house has; None: the lane has no house."""


@pytest.fixture
async def scripted() -> AsyncGenerator[ScriptedNode]:
    async with serving(ScriptedNode()) as node:
        yield node


def answering(vaults: Vaults, owner: Pubkey = PROGRAM) -> Answer:
    houses = {
        str(layout.house_address(PROGRAM, lane)): OPENED.pack(layout.Kind.HOUSE, 255, lane, count, 0)
        for lane, count in enumerate(vaults)
        if count is not None
    }

    def account(key: str) -> dict[str, Any] | None:
        if key not in houses:
            return None
        data = [base64.b64encode(houses[key]).decode(), "base64"]
        return {"lamports": 1, "owner": str(owner), "data": data, "executable": False}

    return lambda params: {"context": {"slot": 1}, "value": [account(key) for key in params[0]]}


@pytest.mark.parametrize(
    ("vaults", "lanes"),
    [
        ([], 1),
        ([], 3),
        ([5], 1),
        ([0, 7, 0], 3),
        ([0, 0], 3),  # Nobody has a vault that more lanes could strand.
        ([None, None, 0], 3),  # Interrupted: the last lane's house is opened first.
        ([None, 4, 0], 3),
        ([0] * 2 + [1], 3),
    ],
)
async def test_the_lanes_that_it_was_set_up_with_are_taken(scripted: ScriptedNode, vaults: Vaults, lanes: int) -> None:
    scripted.answers["getMultipleAccounts"] = answering(vaults)
    async with RpcClient(scripted.url) as rpc:
        await require_lanes(rpc, PROGRAM, lanes)


@pytest.mark.parametrize(
    ("vaults", "lanes", "found"),
    [
        ([0, 0], 1, 2),
        ([None, 0, 0], 1, 3),
        ([0] * 250, 1, 250),
        ([9], 2, 1),
        ([0, 3, 0], 5, 3),
    ],
)
async def test_other_lanes_are_refused_and_how_many_there_were_is_told(
    scripted: ScriptedNode, vaults: Vaults, lanes: int, found: int
) -> None:
    scripted.answers["getMultipleAccounts"] = answering(vaults)
    async with RpcClient(scripted.url) as rpc:
        with pytest.raises(LedgerMisconfigured, match=f"with {found} lanes, and CROUPIER_LANES is {lanes}: set it to"):
            await require_lanes(rpc, PROGRAM, lanes)


async def test_lamports_sent_to_a_houses_address_are_no_house(scripted: ScriptedNode) -> None:
    scripted.answers["getMultipleAccounts"] = answering([1, 1], owner=Pubkey.default())
    async with RpcClient(scripted.url) as rpc:
        await require_lanes(rpc, PROGRAM, 1)


async def test_no_lane_is_looked_for_beyond_the_last_that_there_can_be(scripted: ScriptedNode) -> None:
    house = answering([1])([[str(layout.house_address(PROGRAM, 0))]])["value"]
    scripted.answers["getMultipleAccounts"] = lambda _: {"context": {"slot": 1}, "value": house}
    async with RpcClient(scripted.url) as rpc:
        await require_lanes(rpc, PROGRAM, MAX_LANE + 1)
    assert scripted.called("getMultipleAccounts")[0][0] == [str(layout.house_address(PROGRAM, MAX_LANE))]


async def test_houses_that_the_program_opened_are_counted(world: World) -> None:
    await require_lanes(world.rpc, world.program, LANES)
    with pytest.raises(LedgerMisconfigured, match=f"with {LANES} lanes"):
        await require_lanes(world.rpc, world.program, LANES - 1)


async def test_the_last_house_is_opened_first_so_that_an_interrupted_run_tells_how_many_there_are(world: World) -> None:
    async def opened_in(lane: int) -> int:
        history = await world.rpc.signatures_for(layout.house_address(world.program, lane), "confirmed", None)
        return history[-1].slot

    last = await opened_in(LANES - 1)
    for lane in (0, LANES // 2, LANES - 2):
        assert last < await opened_in(lane)
