"""A receipt leads from its bet to the batch's root, and from nothing else to it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from settlement import commitment
from settlement.batches import BetRecord, BetStatus, Landing, OnChainBatch
from settlement.bets import Bet, RejectionReason
from settlement.commitment import PACK_BITS, Entry
from settlement.receipts import Inclusion, Receipt, contradictions, inclusion_of, rejected_receipt, root_from
from settlement.shapes import SHAPES
from tests.domain.samples import PLAYERS, batches, bet, statement_of


def leads_elsewhere(bet: Bet, inclusion: Inclusion, root: int) -> bool:
    try:
        return root_from(bet, inclusion) != root
    except ValueError:
        return True


def sizes() -> list[int]:
    """Batches at the edges of packs, elements, nodes, trees and shapes."""
    return [1, 2, 3, 4, 15, 16, 17, 33, 34, 63, 64]


def batch_of(count: int) -> list[Bet]:
    return [
        bet(f"bet-{n}", player=PLAYERS[n % 5], stake=100 + n, outcome="heads" if n % 3 else "tails")
        for n in range(count)
    ]


@pytest.mark.parametrize("count", sizes())
def test_every_position_of_a_batch_leads_to_its_root(count: int) -> None:
    batch = batch_of(count)
    statement = statement_of(batch)
    for position, own in enumerate(batch):
        assert root_from(own, inclusion_of(position, batch, statement)) == statement.bets_root


@settings(max_examples=40)
@given(batches(), st.data())
def test_any_bet_of_any_batch_leads_to_its_root_and_no_other_bet_does(batch: list[Bet], data: st.DataObject) -> None:
    statement = statement_of(batch)
    position = data.draw(st.integers(0, len(batch) - 1))
    inclusion = inclusion_of(position, batch, statement)
    assert root_from(batch[position], inclusion) == statement.bets_root
    stranger = data.draw(st.sampled_from(batch))
    assert (stranger is batch[position]) != leads_elsewhere(stranger, inclusion, statement.bets_root)


@pytest.mark.parametrize("count", sizes())
@pytest.mark.parametrize(
    "change",
    [
        {"bet_id": "another"},
        {"player": PLAYERS[9]},
        {"stake": 99},
        {"guess": "tails"},
        {"outcome": "heads"},
        {"outcome": "tails", "guess": "tails"},
    ],
)
def test_a_bet_with_any_field_altered_leads_elsewhere(count: int, change: dict[str, Any]) -> None:
    batch = batch_of(count)
    statement = statement_of(batch)
    for position in {0, count // 2, count - 1}:
        altered = batch[position].model_copy(update=change)
        if altered != batch[position]:
            assert leads_elsewhere(altered, inclusion_of(position, batch, statement), statement.bets_root)


def alterations(inclusion: Inclusion) -> list[Inclusion]:
    """The inclusion with each one of its parts changed, left out or added to."""
    altered = [
        inclusion.model_copy(update={"position": inclusion.position + 1}),
        inclusion.model_copy(update={"slot": inclusion.slot + 1}),
        inclusion.model_copy(update={"ids_path": (*inclusion.ids_path, b"\0" * 32)}),
    ]
    if inclusion.bet_count > 1:
        altered.append(inclusion.model_copy(update={"bet_count": inclusion.bet_count - 1}))
    for name in ("packs", "elements", "nodes"):
        values: tuple[int, ...] = getattr(inclusion, name)
        for index in range(len(values)):
            changed = (*values[:index], values[index] + 1, *values[index + 1 :])
            altered.append(inclusion.model_copy(update={name: changed}))
        if values:
            altered.append(inclusion.model_copy(update={name: values[:-1]}))
    for index, sibling in enumerate(inclusion.ids_path):
        flipped = bytes([sibling[0] ^ 1]) + sibling[1:]
        changed_path = (*inclusion.ids_path[:index], flipped, *inclusion.ids_path[index + 1 :])
        altered.append(inclusion.model_copy(update={"ids_path": changed_path}))
    if inclusion.ids_path:
        altered.append(inclusion.model_copy(update={"ids_path": inclusion.ids_path[:-1]}))
    return altered


@pytest.mark.parametrize("count", sizes())
def test_an_inclusion_with_any_part_altered_leads_elsewhere_or_is_refused(count: int) -> None:
    batch = batch_of(count)
    statement = statement_of(batch)
    for position in {0, count - 1}:
        for altered in alterations(inclusion_of(position, batch, statement)):
            assert leads_elsewhere(batch[position], altered, statement.bets_root), altered


@pytest.mark.parametrize("count", [1, 17, 64])
def test_a_bet_count_that_is_not_the_batch_s_leads_elsewhere(count: int) -> None:
    batch = batch_of(count)
    statement = statement_of(batch)
    inclusion = inclusion_of(0, batch, statement)
    for claimed in {count - 1, count + 1, 2 * count, 0, -1} - {count}:
        wrong = inclusion.model_copy(update={"bet_count": claimed})
        assert leads_elsewhere(batch[0], wrong, statement.bets_root)


@pytest.mark.parametrize("position", [-1, 64, 1_000])
def test_a_position_outside_the_batch_is_refused(position: int) -> None:
    batch = batch_of(64)
    inclusion = inclusion_of(63, batch, statement_of(batch)).model_copy(update={"position": position})
    with pytest.raises(ValueError, match=r".+"):
        root_from(batch[63], inclusion)


def test_packs_that_run_into_each_other_are_refused() -> None:
    # Else an element could be read as other bets than the circuit has settled.
    batch = batch_of(3)
    inclusion = inclusion_of(1, batch, statement_of(batch))
    first, own, last = inclusion.packs
    forged = bet("bet-1", player=batch[1].player, stake=1, outcome=batch[1].outcome)
    stake_less_100 = own - 100
    packs = (first + ((own - stake_less_100) << PACK_BITS), stake_less_100, last)
    assert sum(part << PACK_BITS * i for i, part in enumerate(packs)) == inclusion.nodes[0]
    with pytest.raises(ValueError, match="longer than a pack"):
        root_from(forged, inclusion.model_copy(update={"packs": packs}))


@pytest.mark.parametrize("count", [1, 64])
def test_a_receipt_written_as_json_still_verifies(count: int) -> None:
    batch = batch_of(count)
    statement = statement_of(batch)
    receipt = Receipt(
        bet_id=batch[0].bet_id,
        status="settled",
        bet=batch[0],
        bets_root=statement.bets_root,
        inclusion=inclusion_of(0, batch, statement),
    )
    read = Receipt.model_validate_json(receipt.model_dump_json())
    assert read == receipt
    assert read.bet is not None
    assert read.inclusion is not None
    assert root_from(read.bet, read.inclusion) == read.bets_root


def test_a_rejected_receipt_says_why_and_where() -> None:
    refused = BetRecord(
        bet=bet("refused"),
        lane=3,
        batch_id="settlement-3-x",
        position=0,
        status=BetStatus.REJECTED,
        reason=RejectionReason.UNCOVERED,
        detail="not covered",
    )
    receipt = rejected_receipt(refused)
    assert (receipt.status, receipt.reason, receipt.detail) == ("rejected", RejectionReason.UNCOVERED, "not covered")
    assert (receipt.bet, receipt.batch_id, receipt.lane) == (refused.bet, "settlement-3-x", 3)
    assert receipt.inclusion is None


def settled_receipt(count: int = 5, position: int = 2) -> tuple[Receipt, OnChainBatch]:
    """A receipt and the record that it is of."""
    batch = batch_of(count)
    statement = statement_of(batch)
    receipt = Receipt(
        bet_id=batch[position].bet_id,
        status="settled",
        bet=batch[position],
        lane=statement.lane,
        number=statement.number,
        landing=Landing(signature="s", slot=77, compute_units=None, fee_lamports=None),
        bets_root=statement.bets_root,
        inclusion=inclusion_of(position, batch, statement),
    )
    record = OnChainBatch(
        lane=statement.lane,
        number=statement.number,
        circuit_id=statement.shape.circuit_id,
        bet_count=count,
        player_count=len(statement.slots),
        house_delta=statement.house_delta,
        slot=77,
        bets_root=statement.bets_root,
    )
    return receipt, record


def test_an_honest_receipt_is_contradicted_by_nothing() -> None:
    receipt, record = settled_receipt()
    assert contradictions(receipt, record) == ()
    assert contradictions(receipt.model_copy(update={"bets_root": None, "landing": None}), record) == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "rejected"}, "no settled bet's receipt"),
        ({"inclusion": None}, "no settled bet's receipt"),
        ({"bet": None}, "no settled bet's receipt"),
        ({"number": 9_999}, "the chain has no batch 9999"),
        ({"lane": 9}, "of lane 9"),
        ({"bet_id": "mine"}, "it is of mine, but the bet in it is bet-2"),
        ({"bet": batch_of(5)[1]}, "it is of bet-2, but the bet in it is bet-1"),
        ({"bets_root": 1}, "another bets root"),
        ({"landing": Landing(signature="s", slot=78, compute_units=None, fee_lamports=None)}, "slot 78, the chain 77"),
    ],
)
def test_a_receipt_that_the_record_contradicts_says_by_what(change: dict[str, Any], said: str) -> None:
    receipt, record = settled_receipt()
    assert said in "; ".join(contradictions(receipt.model_copy(update=change), record))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bets_root": 1}, "its inclusion proof leads to root"),
        ({"circuit_id": 2}, "its shape is not that of circuit 2"),
        ({"bet_count": 6}, "it counts 5 bets in the batch, the chain 6"),
    ],
)
def test_a_record_that_contradicts_a_receipt_says_by_what(change: dict[str, Any], said: str) -> None:
    receipt, record = settled_receipt()
    assert said in "; ".join(contradictions(receipt, record.model_copy(update=change)))


def test_a_bet_in_a_slot_that_is_no_player_s_does_not_hold_though_it_stands_under_the_root() -> None:
    """Two bets of one stake that cancel out there can be proven; nobody was paid for either."""
    honest, record = settled_receipt(1, 0)
    assert honest.bet is not None
    shape, batch = SHAPES[0], [honest.bet, bet("won", stake=5), bet("invented", stake=5, outcome="tails")]
    entries = [Entry.of(each, slot) for each, slot in zip(batch, (0, shape.players, shape.players), strict=True)]
    digest = commitment.ids_digest([each.digest for each in batch])
    root = commitment.bets_root(entries, digest, shape)
    statement = statement_of(batch[:1]).model_copy(update={"entries": tuple(entries), "bets_root": root})
    inclusion = inclusion_of(1, batch, statement)
    receipt = honest.model_copy(update={"bet_id": "won", "bet": batch[1], "bets_root": root, "inclusion": inclusion})
    record = record.model_copy(update={"bet_count": 3, "bets_root": root})
    assert contradictions(receipt, record) == ("its slot is 8, and the batch has 1 players, from slot 0 on",)


def test_a_made_up_shape_is_not_believed() -> None:
    """Under another shape the same hashes stand for other bets."""
    receipt, record = settled_receipt()
    assert receipt.inclusion is not None
    shape = receipt.inclusion.shape.model_copy(update={"players": 9})
    forged = receipt.model_copy(update={"inclusion": receipt.inclusion.model_copy(update={"shape": shape})})
    assert "its shape" in "; ".join(contradictions(forged, record))
