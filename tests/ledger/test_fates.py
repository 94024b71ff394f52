"""A transfer is called failed or expired, so that it may be made again, only where two nodes prove it; one is enough to say it landed."""

import base64
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from solders.keypair import Keypair
from solders.system_program import TransferParams, transfer
from solders.transaction import Transaction

from ledger import landing
from ledger.landing import Job, Lander
from ledger.rpc import ConfirmedAt
from ledger.transfers import Fate, Flight, HistoryForgotten, Outcome, draft, outcome
from settlement.errors import LedgerUnavailable
from tests.ledger.panel import Panel, panel_of
from tests.ledger.scripted import FINALIZED_SLOT, LAST_VALID, RECORD_SLOT, ScriptedChain
from tests.money.bank import Heard

SIGNATURE = "1" * 64
SIGNED_AFTER = 4_000
FLIGHT = Flight(SIGNATURE, "AQID", LAST_VALID, SIGNED_AFTER)
ERROR = {"InstructionError": [2, {"Custom": 1}]}
PAYER = Keypair()
TRANSFER = transfer(TransferParams(from_pubkey=PAYER.pubkey(), to_pubkey=PAYER.pubkey(), lamports=1))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "FIRST_POLL_SECONDS", 0.001)
    monkeypatch.setattr(landing, "LAST_POLL_SECONDS", 0.01)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "STALL_SECONDS", 0.1)


@pytest.fixture
async def pair() -> AsyncGenerator[Panel]:
    async with panel_of(2) as panel:
        yield panel


@pytest.fixture
async def three() -> AsyncGenerator[Panel]:
    async with panel_of(3) as panel:
        yield panel


def shows(chain: ScriptedChain, level: str = "finalized", err: Any = None, signature: str = SIGNATURE) -> None:
    chain.statuses[signature] = {"slot": RECORD_SLOT, "err": err, "confirmationStatus": level}


async def ended(panel: Panel, commitment: ConfirmedAt = "finalized") -> Outcome:
    return await outcome(panel.nodes, FLIGHT, commitment, Heard())


@pytest.mark.parametrize("teller", [0, 1])
async def test_the_null_of_one_node_does_not_expire_what_another_shows_landed(pair: Panel, teller: int) -> None:
    shows(pair.chains[teller])
    assert await ended(pair) == Outcome(Fate.LANDED, RECORD_SLOT)


async def test_two_nodes_that_prove_it_expire_a_transfer(pair: Panel) -> None:
    assert await ended(pair) == Outcome(Fate.EXPIRED)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("other", ["is silent", "has not got so far", "lags", "shows it"])
async def test_one_node_alone_expires_nothing(pair: Panel, other: str) -> None:
    second = pair.chains[1]
    match other:
        case "is silent":
            pair.fails(1)
        case "has not got so far":
            second.heights["finalized"] = LAST_VALID
        case "lags":
            second.status_slot -= 1
        case _:
            shows(second, "confirmed")
            second.statuses[SIGNATURE]["slot"] = FINALIZED_SLOT + 1
    with pytest.raises(LedgerUnavailable, match=f"2 nodes must say that {SIGNATURE} can never land, and .*: "):
        await ended(pair)


async def test_a_failure_needs_a_second_node_too(three: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    shows(three.chains[0], err=ERROR)
    shows(three.chains[1], err=ERROR)
    assert (await ended(three)).fate is Fate.FAILED
    del three.chains[1].statuses[SIGNATURE]
    monkeypatch.setattr(landing, "STALL_SECONDS", 0.1)
    with pytest.raises(LedgerUnavailable, match="2 nodes must say"):
        await ended(three)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("lag", [0, 1_000])
async def test_what_a_node_saw_in_a_fork_that_the_others_have_undone_neither_landed_nor_lives(
    three: Panel, lag: int
) -> None:
    stuck = three.chains[2]
    shows(stuck, "processed" if lag == 0 else "confirmed", err=ERROR if lag == 0 else None)
    stuck.finalized_slot -= lag
    stuck.status_slot -= lag
    assert await ended(three, "confirmed") == Outcome(Fate.EXPIRED)


async def test_history_that_one_of_two_lacks_is_said_to_be_lacking(pair: Panel) -> None:
    pair.chains[1].first_available = SIGNED_AFTER + 1
    with pytest.raises(
        HistoryForgotten, match=r"has forgotten the blocks before slot 4,001.*CROUPIER_FURTHER_RPC_URLS"
    ):
        await ended(pair)
    shows(pair.chains[0])
    assert (await ended(pair)).fate is Fate.LANDED


async def test_a_node_that_forgot_is_outvoted_by_two_that_did_not(three: Panel) -> None:
    three.chains[0].first_available = SIGNED_AFTER + 1
    assert (await ended(three)).fate is Fate.EXPIRED


async def test_a_node_that_names_too_low_a_last_height_expires_nothing_early(pair: Panel) -> None:
    for chain in pair.chains:
        chain.heights["finalized"] = LAST_VALID
    drafted = await draft(pair.nodes, [TRANSFER], PAYER.pubkey(), micro_lamports_per_unit=0)
    assert drafted.last_valid_block_height >= LAST_VALID + 150
    assert drafted.signed_after_slot == FINALIZED_SLOT


async def test_what_a_lander_sends_is_not_signed_again_for_one_nodes_null(pair: Panel) -> None:
    """The second node is slower: it shows what has landed only some looks after the first has called it expired."""
    first, second = pair.chains
    sent: list[str] = []
    looks = 0

    def takes(params: list[Any]) -> str:
        signature = str(Transaction.from_bytes(base64.b64decode(params[0])).signatures[0])
        sent.append(signature)
        first.heights["finalized"] = LAST_VALID * 10
        return signature

    def tells(params: list[Any]) -> Any:
        nonlocal looks
        looks += 1
        if looks == 3:
            shows(second, "confirmed", signature=params[0][0])
        return {"context": {"slot": FINALIZED_SLOT}, "value": [second.statuses.get(params[0][0])]}

    first.node.answers["sendTransaction"] = second.node.answers["sendTransaction"] = takes
    second.node.answers["getSignatureStatuses"] = tells
    await Lander(pair.nodes, PAYER, priority_fee_micro_lamports=0).land([Job("a test", [TRANSFER], preflight=False)])
    assert looks == 3
    assert len(set(sent)) == 1
