"""Vaults as several nodes show them: no bet is refused because a node lags, errs or says nothing."""

import base64
import struct
from typing import Final

import pytest
from solders.pubkey import Pubkey

from ledger import layout
from ledger.judging import MAX_LEAD_SLOTS
from ledger.rpc import MAX_ACCOUNTS_PER_REQUEST
from settlement.errors import LedgerUnavailable
from tests.ledger.panel import Panel, panel_of
from tests.ledger.scripted import FINALIZED_SLOT, LANE, PROGRAM, Json, Refusal, ScriptedChain
from tests.ledger.support import new_players

RENT: Final = 10
PLAYER: Final = str(Pubkey(bytes([5] * 32)))
OTHER: Final = str(Pubkey(bytes([6] * 32)))


def shows(chain: ScriptedChain, slot: int = FINALIZED_SLOT, **available: int) -> None:
    """As of `slot`, of all vaults those of `player` and `other`, if named, with so much in them."""
    named = {"player": PLAYER, "other": OTHER}
    vaults = {
        str(layout.vault_address(PROGRAM, LANE, Pubkey.from_string(named[name]))): a_vault(named[name], lamports)
        for name, lamports in available.items()
    }
    chain.node.answers["getMultipleAccounts"] = lambda params: {
        "context": {"slot": slot},
        "value": [vaults.get(address) for address in params[0]],
    }
    chain.node.answers["getMinimumBalanceForRentExemption"] = lambda _: RENT


def a_vault(player: str, available: int) -> Json:
    data = struct.pack("<BBHI32s", layout.Kind.VAULT, 255, LANE, 1, bytes(Pubkey.from_string(player)))
    return {
        "lamports": RENT + available,
        "owner": str(PROGRAM),
        "executable": False,
        "data": [base64.b64encode(data).decode(), "base64"],
    }


def is_silent(chain: ScriptedChain) -> None:
    """The node tells of its finality and not of vaults."""

    def answer(_: object) -> object:
        raise Refusal(-32005)

    chain.node.answers["getMultipleAccounts"] = answer


async def available(panel: Panel, *, by_quorum: bool = False) -> dict[str, int]:
    vaults = await panel.ledger.vaults(LANE, [PLAYER, OTHER], by_quorum=by_quorum)
    return {player: vault.available for player, vault in vaults.items()}


async def test_vaults_are_as_the_node_shows_them_that_has_seen_most(three: Panel) -> None:
    shows(three.chains[0], player=900)
    shows(three.chains[1], FINALIZED_SLOT + 2, player=100, other=7)
    shows(three.chains[2], FINALIZED_SLOT + 1, player=500)
    assert await available(three) == {PLAYER: 100, OTHER: 7}
    is_silent(three.chains[1])
    assert await available(three) == {PLAYER: 500}


@pytest.mark.parametrize("by_quorum", [False, True])
async def test_vaults_from_below_what_any_node_calls_final_are_no_word(pair: Panel, by_quorum: bool) -> None:
    lagging, ahead = pair.chains
    lagging.finalized_slot = FINALIZED_SLOT - MAX_LEAD_SLOTS
    shows(lagging, FINALIZED_SLOT - 1)
    is_silent(ahead)
    with pytest.raises(
        LedgerUnavailable, match=f"{lagging.node.url} shows vaults as of slot {FINALIZED_SLOT - 1}, behind"
    ):
        await available(pair, by_quorum=by_quorum)


async def test_a_false_finality_far_beyond_all_others_hides_no_vault(pair: Panel) -> None:
    shows(pair.chains[0], player=1)
    shows(pair.chains[1], 2**63)
    pair.chains[1].finalized_slot = 2**63
    assert await available(pair, by_quorum=True) == {PLAYER: 1}


async def test_what_vaults_lack_is_said_by_two_nodes_where_two_are_configured(pair: Panel) -> None:
    shows(pair.chains[0])
    is_silent(pair.chains[1])
    assert await available(pair) == {}
    with pytest.raises(
        LedgerUnavailable, match=f"{pair.chains[0].node.url} alone, which 2 nodes.*{pair.chains[1].node.url}"
    ):
        await available(pair, by_quorum=True)
    pair.nodes._failures.clear()  # pyright: ignore[reportPrivateUsage]
    shows(pair.chains[1])
    assert await available(pair, by_quorum=True) == {}


async def test_two_of_three_nodes_suffice_to_say_what_vaults_lack(three: Panel) -> None:
    for chain in three.chains[:2]:
        shows(chain, player=3)
    is_silent(three.chains[2])
    assert await available(three, by_quorum=True) == {PLAYER: 3}


async def test_a_quorum_lacks_no_vault_and_no_lamport_that_any_fit_node_shows(three: Panel) -> None:
    shows(three.chains[0], FINALIZED_SLOT + 30)
    shows(three.chains[1], FINALIZED_SLOT, player=100, other=7)
    shows(three.chains[2], FINALIZED_SLOT + 9, player=101, other=6)
    assert await available(three, by_quorum=True) == {PLAYER: 101, OTHER: 7}


async def test_one_node_alone_is_believed_whatever_it_says_as_of() -> None:
    async with panel_of(1) as panel:
        shows(panel.chains[0], 1, player=4)
        for by_quorum in (False, True):
            assert await available(panel, by_quorum=by_quorum) == {PLAYER: 4}
        assert "getEpochInfo" not in panel.calls(0)


async def test_more_vaults_than_one_request_takes_are_all_read(pair: Panel) -> None:
    for chain in pair.chains:
        shows(chain, player=5, other=6)
    players = [PLAYER, *new_players(MAX_ACCOUNTS_PER_REQUEST), OTHER]
    assert set(await pair.ledger.vaults(LANE, players)) == {PLAYER, OTHER}
    asked = [len(params[0]) for params in pair.chains[0].node.called("getMultipleAccounts")]
    assert asked == [MAX_ACCOUNTS_PER_REQUEST, 2]
