"""Comparing one batch: nothing to find on honest data, and the right kind of finding for each thing that is changed."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings

from settlement.batches import BatchSummary, BetRecord, BetStatus, Landing, Movement, OnChainBatch
from settlement.bets import Bet, RejectionReason
from settlement.lifecycle import BatchStatus
from settlement.netting import house_delta, net_by_player
from settlement.reconciliation import FindingKind, SettledBatch, compare_batch, compare_open_batch, not_in_journal
from tests.domain.samples import PLAYERS, VAULTS, batches, bet, statement_of

LANE, NUMBER, SLOT = 3, 7, 900
BETS = [bet(f"bet-{n}", player=PLAYERS[n % 3], stake=100 + n, outcome="heads" if n % 4 else "tails") for n in range(6)]


def settled(batch: list[Bet]) -> SettledBatch:
    """Both sides of a batch that was settled honestly; one bet of it was refused before."""
    statement = statement_of(batch, LANE, NUMBER)
    nets = net_by_player(batch)
    records = [
        BetRecord(bet=own, lane=LANE, batch_id="batch", position=position, status=BetStatus.SETTLED)
        for position, own in enumerate(batch)
    ]
    refused = BetRecord(
        bet=bet("refused by the chain".replace(" ", "-"), player=PLAYERS[19]),
        lane=LANE,
        batch_id="batch",
        position=len(batch),
        status=BetStatus.REJECTED,
        reason=RejectionReason.NO_VAULT,
    )
    return SettledBatch(
        summary=BatchSummary(
            batch_id="batch",
            lane=LANE,
            number=NUMBER,
            status=BatchStatus.CONFIRMED,
            bet_count=len(batch),
            player_count=len(nets),
            house_delta=statement.house_delta,
            transitions=(),
            circuit_id=statement.shape.circuit_id,
            bets_root=statement.bets_root,
            proof_milliseconds=1,
            landing=Landing(signature="signature", slot=SLOT, compute_units=None, fee_lamports=None),
        ),
        bets=(*records, refused),
        record=OnChainBatch(
            lane=LANE,
            number=NUMBER,
            circuit_id=statement.shape.circuit_id,
            bet_count=len(batch),
            player_count=len(nets),
            house_delta=statement.house_delta,
            slot=SLOT,
            bets_root=statement.bets_root,
        ),
        movement=Movement(succeeded=True, slot=SLOT, house_delta=house_delta(nets.values()), net_by_player=nets),
        vault_indices=VAULTS,
    )


HONEST = settled(BETS)


def summary(**fields: Any) -> dict[str, Any]:
    return {"summary": HONEST.summary.model_copy(update=fields)}


def record(**fields: Any) -> dict[str, Any]:
    assert HONEST.record is not None
    return {"record": HONEST.record.model_copy(update=fields)}


def movement(**fields: Any) -> dict[str, Any]:
    assert HONEST.movement is not None
    return {"movement": HONEST.movement.model_copy(update=fields)}


def first_bet(status: BetStatus = BetStatus.SETTLED, **fields: Any) -> dict[str, Any]:
    first = HONEST.bets[0]
    changed = first.model_copy(update={"bet": first.bet.model_copy(update=fields), "status": status})
    return {"bets": (changed, *HONEST.bets[1:])}


@settings(max_examples=30)
@given(batches())
def test_honest_batches_show_no_difference(batch: list[Bet]) -> None:
    assert list(compare_batch(settled(batch))) == []


CHANGES: dict[str, tuple[dict[str, Any], set[FindingKind]]] = {
    "no record": ({"record": None}, {FindingKind.NOT_ON_CHAIN}),
    "circuit on chain": (record(circuit_id=31_337), {FindingKind.CIRCUIT_DIFFERS}),
    "circuit in the journal": (summary(circuit_id=4), {FindingKind.CIRCUIT_DIFFERS}),
    "root on chain": (record(bets_root=5), {FindingKind.ROOT_DIFFERS}),
    "root in the journal": (summary(bets_root=5), {FindingKind.ROOT_DIFFERS}),
    "bet count on chain": (record(bet_count=5), {FindingKind.COUNTS_DIFFER}),
    "player count on chain": (record(player_count=4), {FindingKind.COUNTS_DIFFER}),
    "house delta on chain": (record(house_delta=0), {FindingKind.HOUSE_DELTA_DIFFERS}),
    "no transaction": ({"movement": None}, {FindingKind.TRANSACTION_UNKNOWN}),
    "failed transaction": (movement(succeeded=False), {FindingKind.TRANSACTION_DIFFERS}),
    "slot of the transaction": (movement(slot=SLOT + 1), {FindingKind.TRANSACTION_DIFFERS}),
    "no landing in the journal": (summary(landing=None), {FindingKind.TRANSACTION_DIFFERS}),
    "house's movement": (movement(house_delta=0), {FindingKind.BALANCE_DIFFERS}),
    "players' movements": (movement(net_by_player={}), {FindingKind.BALANCE_DIFFERS}),
    "a stranger's movement": (
        movement(net_by_player={**net_by_player(BETS), PLAYERS[9]: 1}),
        {FindingKind.BALANCE_DIFFERS},
    ),
    "id of a bet": (first_bet(bet_id="another"), {FindingKind.ROOT_DIFFERS}),
    "stake of a bet": (
        first_bet(stake=1),
        {FindingKind.ROOT_DIFFERS, FindingKind.HOUSE_DELTA_DIFFERS, FindingKind.BALANCE_DIFFERS},
    ),
    "player of a bet": (first_bet(player=PLAYERS[1]), {FindingKind.ROOT_DIFFERS, FindingKind.BALANCE_DIFFERS}),
    "outcome of a bet": (
        first_bet(outcome="heads"),
        {FindingKind.ROOT_DIFFERS, FindingKind.HOUSE_DELTA_DIFFERS, FindingKind.BALANCE_DIFFERS},
    ),
    "a settled bet called refused": (
        first_bet(BetStatus.REJECTED),
        {
            FindingKind.ROOT_DIFFERS,
            FindingKind.COUNTS_DIFFER,
            FindingKind.HOUSE_DELTA_DIFFERS,
            FindingKind.BALANCE_DIFFERS,
        },
    ),
    "a bet that does not exist": (
        {"bets": (*HONEST.bets, HONEST.bets[0].model_copy(update={"bet": bet("invented", player=PLAYERS[0])}))},
        {
            FindingKind.ROOT_DIFFERS,
            FindingKind.COUNTS_DIFFER,
            FindingKind.HOUSE_DELTA_DIFFERS,
            FindingKind.BALANCE_DIFFERS,
        },
    ),
    "order of the bets": ({"bets": HONEST.bets[::-1]}, {FindingKind.ROOT_DIFFERS}),
    "a vault that is not there": (
        {"vault_indices": {player: index for player, index in VAULTS.items() if player != PLAYERS[0]}},
        {FindingKind.JOURNAL_INCONSISTENT},
    ),
    "no bets": ({"bets": ()}, {FindingKind.JOURNAL_INCONSISTENT}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_is_found_as_what_it_is(name: str) -> None:
    changes, kinds = CHANGES[name]
    findings = list(compare_batch(HONEST.model_copy(update=changes)))
    assert {finding.kind for finding in findings} == kinds
    assert all(finding.subject and finding.journal and finding.chain for finding in findings)


def test_a_bet_left_claimed_in_a_confirmed_batch_is_inconsistent() -> None:
    findings = list(compare_batch(HONEST.model_copy(update=first_bet(BetStatus.CLAIMED))))
    assert findings[0].kind is FindingKind.JOURNAL_INCONSISTENT
    assert "1 bets still claimed" in findings[0].journal


def test_a_balance_that_differs_names_player_and_both_amounts() -> None:
    nets = {**net_by_player(BETS), PLAYERS[0]: 5}
    (finding,) = compare_batch(HONEST.model_copy(update=movement(net_by_player=nets)))
    assert finding.subject.startswith(PLAYERS[0])
    assert (finding.journal, finding.chain) == (str(net_by_player(BETS)[PLAYERS[0]]), "5")


Compared = Callable[[BatchStatus, BetStatus, bool], set[FindingKind]]


@pytest.mark.parametrize("status", [status for status in BatchStatus if status is not BatchStatus.CONFIRMED])
@pytest.mark.parametrize("on_chain", [False, True])
@pytest.mark.parametrize("bet_status", [BetStatus.CLAIMED, BetStatus.SETTLED])
def test_an_open_batch_differs_only_if_it_is_given_up_but_settled_or_has_settled_bets(
    status: BatchStatus, on_chain: bool, bet_status: BetStatus
) -> None:
    open_batch = HONEST.summary.model_copy(update={"status": status})
    bets = tuple(own.model_copy(update={"status": bet_status}) for own in HONEST.bets)
    found = {finding.kind for finding in compare_open_batch(open_batch, bets, HONEST.record if on_chain else None)}
    expected: set[FindingKind] = set()
    if bet_status is BetStatus.SETTLED:
        expected.add(FindingKind.JOURNAL_INCONSISTENT)
    if on_chain and status is BatchStatus.FAILED:
        expected.add(FindingKind.SETTLED_UNRECORDED)
    assert found == expected


def test_a_record_without_a_batch_is_not_in_the_journal() -> None:
    assert HONEST.record is not None
    finding = not_in_journal(HONEST.record)
    assert finding.kind is FindingKind.NOT_IN_JOURNAL
    assert "lane 3, number 7" in finding.subject
    assert f"by circuit {HONEST.record.circuit_id}," in finding.chain


def test_a_record_of_a_batch_that_was_given_up_names_the_circuit_that_settled_it() -> None:
    assert HONEST.record is not None
    given_up = HONEST.summary.model_copy(update={"status": BatchStatus.FAILED})
    (finding,) = compare_open_batch(given_up, (), HONEST.record.model_copy(update={"circuit_id": 31_337}))
    assert "by circuit 31337 " in finding.chain
