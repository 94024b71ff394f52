"""The commitments: packs, the ids tree and its paths, the bets root and the public input, pinned by golden values."""

import hashlib
from itertools import product
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from settlement import commitment
from settlement.commitment import FIELD_MODULUS, Entry, FieldElement, Slot
from settlement.shapes import SHAPES, Shape

LARGEST_TREE: Final = 70
SMALL, LARGE = SHAPES[:2]

GOLDEN: Final = {
    "16x8": (
        "0084fb71d4c85e68b8685667929e401b2b8b5a2dc300e20641a7e137a4a331bc",
        "11128a21d702b7001eaf4302d828b86aea20cf89994ec5331fb5423e9fe7bb7a",
    ),
    "60x56": (
        "1ffdd9e1e28d0ce6d2d0c01616f83a0a37466aa561c6fabd13eb1c0183579078",
        "1c93c5c91385098f99dbd68c6be86dd1e3fef9e31b34c2fe6079e21be40611ec",
    ),
    "132x56": (
        "2e979224f8988e6c0fb9ff809e87634b1bdee71375a7cc3c28f2db542d21e773",
        "1c6e8c800588286e45589fbd56140a2a19b98fdcb98f26d77998bde866cb6fab",
    ),
    "280x56": (
        "1476a383241ea7681ea39c1f42d1399e1558846ca294ecdf785361198ee60364",
        "1f294787a5377035a4523285d90ef5d2f2402fee4f1d06cd8e4a15fcd07ec819",
    ),
}
"""Bets root and public input of `fixed_batch`: a change to these strands every batch and verifying key that is in use."""


def leaves(count: int) -> list[bytes]:
    return [hashlib.sha256(f"leaf {i}".encode()).digest() for i in range(count)]


def fixed_batch(shape: Shape) -> tuple[list[Entry], list[Slot]]:
    """A batch that leaves places and slots of `shape` empty, made of plain arithmetic."""
    players = shape.players - 1
    entries = [
        Entry(stake=10**9 + 7919 * i, guess=i % 2, outcome=i // 2 % 2, slot=i * 5 % players)
        for i in range(shape.bets - 2)
    ]
    nets = [0] * players
    for entry in entries:
        nets[entry.slot] += entry.stake if entry.guess == entry.outcome else -entry.stake
    return entries, [Slot(vault_index=3 + 1_000_003 * i, net=net) for i, net in enumerate(nets)]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_root_and_public_input_of_a_fixed_batch_stay_what_they_are(shape: Shape) -> None:
    entries, slots = fixed_batch(shape)
    root = commitment.bets_root(entries, commitment.ids_digest(leaves(len(entries))), shape)
    identity = commitment.identity(lane=7, number=123_456_789, bet_count=len(entries))
    public_input = commitment.public_input(identity, root, slots, shape)
    assert (f"{root:064x}", f"{public_input:064x}") == GOLDEN[shape.name]


def test_poseidon_is_circomlibs() -> None:
    """The values are those of circomlib's own tests (test/poseidoncircuit.js)."""
    assert commitment.poseidon([1, 2]) == 7853200120776062878684798364095072458815029376092732009249414926327459813530
    assert (
        commitment.poseidon([1, 2, 3, 4])
        == 18821383157269793795438455681495246036402687001665670618754263018637548127333
    )


@pytest.mark.parametrize("count", range(1, LARGEST_TREE + 1))
def test_every_position_of_every_size_has_a_path_to_the_root(count: int) -> None:
    digests = leaves(count)
    levels = commitment.ids_tree(digests)
    assert len(levels[-1]) == 1
    for position, leaf in enumerate(digests):
        path = commitment.ids_path(levels, position)
        root = commitment.ids_root_from_path(leaf, position, count, path)
        assert root == levels[-1][0]
        assert commitment.ids_digest_from_root(root, count) == commitment.ids_digest(digests)


@given(count=st.integers(2, LARGEST_TREE), data=st.data())
def test_a_path_leads_to_the_root_from_its_own_position_only(count: int, data: st.DataObject) -> None:
    position, other = data.draw(
        st.lists(st.integers(0, count - 1), min_size=2, max_size=2, unique=True), label="positions"
    )
    digests = leaves(count)
    levels = commitment.ids_tree(digests)
    path = commitment.ids_path(levels, position)
    assert not leads_to_root(digests[position], other, count, path, levels[-1][0])
    assert not leads_to_root(digests[other], position, count, path, levels[-1][0])


@given(count=st.integers(2, LARGEST_TREE), data=st.data())
def test_a_path_with_a_changed_byte_leads_elsewhere(count: int, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, count - 1), label="position")
    digests = leaves(count)
    levels = commitment.ids_tree(digests)
    path = commitment.ids_path(levels, position)
    step, byte = data.draw(st.tuples(st.integers(0, len(path) - 1), st.integers(0, 31)), label="changed")
    changed = bytearray(path[step])
    changed[byte] ^= data.draw(st.integers(1, 255), label="by")
    path[step] = bytes(changed)
    assert not leads_to_root(digests[position], position, count, path, levels[-1][0])


@given(count=st.integers(1, LARGEST_TREE), data=st.data())
def test_a_path_of_a_wrong_length_is_refused(count: int, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, count - 1), label="position")
    digests = leaves(count)
    path = commitment.ids_path(commitment.ids_tree(digests), position)
    with pytest.raises(ValueError, match="too long"):
        commitment.ids_root_from_path(digests[position], position, count, [*path, bytes(32)])
    if path:
        with pytest.raises(ValueError, match="too short"):
            commitment.ids_root_from_path(digests[position], position, count, path[:-1])


@pytest.mark.parametrize("position", [-1, 5])
def test_a_position_outside_the_batch_is_refused(position: int) -> None:
    with pytest.raises(ValueError, match="outside the batch"):
        commitment.ids_root_from_path(bytes(32), position, 5, [])


def leads_to_root(leaf: bytes, position: int, count: int, path: list[bytes], root: bytes) -> bool:
    try:
        return commitment.ids_root_from_path(leaf, position, count, path) == root
    except ValueError:
        return False


def test_the_ids_digest_is_a_field_element_and_depends_on_order_and_count() -> None:
    digests = leaves(6)
    swapped = [digests[1], digests[0], *digests[2:]]
    alternatives = [digests, swapped, digests[:5], [*digests, digests[5]]]
    found = {commitment.ids_digest(alternative) for alternative in alternatives}
    assert len(found) == len(alternatives)
    assert all(digest < 2**248 for digest in found)


def test_an_inner_node_does_not_pass_for_a_leaf() -> None:
    """Leaves and nodes are hashed under different prefixes, so no tree of two can be read as a leaf."""
    digests = leaves(2)
    pair = b"".join(commitment.ids_tree(digests)[0])
    assert commitment.ids_tree([pair])[-1] != commitment.ids_tree(digests)[-1]


def test_packs_at_the_bounds_are_all_different_and_fit_their_bits() -> None:
    bounds = list(product((0, 1, 2**62, 2**63 - 1), (0, 1), (0, 1), (0, 1, 127, 255)))
    packs = {Entry(stake=a, guess=g, outcome=o, slot=s).pack for a, g, o, s in bounds}
    assert len(packs) == len(bounds)
    assert max(packs) == 2**commitment.PACK_BITS - 1


@given(st.integers(0, 2**63 - 1), st.integers(0, 1), st.integers(0, 1), st.integers(0, 255))
def test_a_pack_can_be_read_back(stake: int, guess: int, outcome: int, slot: int) -> None:
    pack = Entry(stake=stake, guess=guess, outcome=outcome, slot=slot).pack
    assert (pack % 2**63, pack >> 63 & 1, pack >> 64 & 1, pack >> 65) == (stake, guess, outcome, slot)


def test_elements_and_public_inputs_never_leave_the_field() -> None:
    full = commitment.elements_of([2**commitment.PACK_BITS - 1] * LARGE.bets, LARGE)
    assert len(full) == 20
    assert max(full) < FIELD_MODULUS
    assert max(commitment.vault_elements([2**32 - 1] * LARGE.players, LARGE)) < FIELD_MODULUS


def test_the_bets_root_depends_on_every_bet_and_on_the_ids() -> None:
    entries, _ = fixed_batch(LARGE)
    roots = {commitment.bets_root(entries, 1, LARGE), commitment.bets_root(entries, 2, LARGE)}
    for i, entry in enumerate(entries):
        changed = entry.model_copy(update={"stake": entry.stake + 1})
        roots.add(commitment.bets_root([*entries[:i], changed, *entries[i + 1 :]], 1, LARGE))
    assert len(roots) == len(entries) + 2


def test_the_public_input_depends_on_identity_root_and_every_vault_and_net() -> None:
    _, slots = fixed_batch(LARGE)
    seen = {commitment.public_input(identity, root, slots, LARGE) for identity, root in product((1, 2), (3, 4))}
    for i, slot in enumerate(slots):
        for changes in ({"vault_index": slot.vault_index + 1}, {"net": slot.net + 1}):
            changed = [*slots[:i], slot.model_copy(update=changes), *slots[i + 1 :]]
            seen.add(commitment.public_input(1, 3, changed, LARGE))
    assert len(seen) == 4 + 2 * len(slots)


def test_a_shape_of_more_than_twelve_inputs_chains_its_hashes() -> None:
    """280x56 has 3 + 19 inputs: Poseidon of the first 12, then of that and the other 10. Its last element holds two nets."""
    shape = Shape(circuit_id=0, bets=280, players=56)
    nets = [sum((i == 0) + 2**63 << 80 * j for j, i in enumerate(range(at, min(at + 3, 56)))) for at in range(0, 56, 3)]
    scope = commitment.poseidon([5, 9, 0, 0, 0, 0, 0, 0, 0])
    first = commitment.poseidon([scope, 6, 2**63 - 1, *nets[:9]])
    expected = commitment.poseidon([first, *nets[9:]])
    assert commitment.public_input(5, 6, [Slot(vault_index=9, net=1)], shape) == expected


@pytest.mark.parametrize("nets", [[2**63], [-(2**63) - 1], [-(2**63)], [2**62, 2**62, 2**62]])
def test_an_amount_that_leaves_64_signed_bits_has_no_public_input(nets: list[int]) -> None:
    slots = [Slot(vault_index=i + 1, net=net) for i, net in enumerate(nets)]
    with pytest.raises(ValueError, match="64 signed bits"):
        commitment.public_input(1, 1, slots, SMALL)


@pytest.mark.parametrize("house", [2**63 - 1, -(2**63)])
def test_the_houses_extremes_have_a_public_input(house: int) -> None:
    slots = [Slot(vault_index=1, net=-(house // 2)), Slot(vault_index=2, net=-(house - house // 2))]
    assert 0 <= commitment.public_input(1, 1, slots, SMALL) < FIELD_MODULUS


@given(st.integers(0, FIELD_MODULUS - 1))
def test_a_field_element_survives_json_as_64_hex_digits(value: int) -> None:
    class Holder(BaseModel):
        element: FieldElement

    text = Holder(element=value).model_dump_json()
    assert text == f'{{"element":"{value:064x}"}}'
    assert Holder.model_validate_json(text).element == value


@pytest.mark.parametrize("text", [f"{FIELD_MODULUS:064x}", "-1", "not hex", ""])
def test_what_is_no_field_element_is_refused(text: str) -> None:
    class Holder(BaseModel):
        element: FieldElement

    with pytest.raises(ValidationError):
        Holder(element=text)  # pyright: ignore[reportArgumentType]
