"""The bets root of a batch, from its specification: what of a batch stands on chain besides counts and sums.

It must never take anything from the code that it judges. The specification: the ids tree is RFC 6962's (section 2.1) over bet digests;
its root and the count are cut to 248 bits; a bet's place is `stake + 2^63 guess + 2^64 outcome + 2^65 slot` with heads as 1 and the
slot by ascending vault index; three places make an element, places beyond the bets are 0 up to the circuit's; up to eleven elements are
hashed as they are, more of them first in groups of eleven; root = Poseidon(ids digest, elements or groups…).
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from chaos.checking.bets import Bet
from chaos.checking.poseidon import poseidon

PLACE_BITS: Final = 73
PLACES_PER_ELEMENT: Final = 3
ELEMENTS_PER_GROUP: Final = 11
SLOTS_END: Final = 2**8
"""Slots have 8 bits."""


def bets_root(bets: Sequence[Bet], vault_indices: Mapping[str, int], circuit_bets: int) -> int:
    """The root of `bets` in this order in a circuit of so many places, given each player's vault index on the lane."""
    assert 0 < len(bets) <= circuit_bets
    slots = {
        player: slot for slot, player in enumerate(sorted({bet.player for bet in bets}, key=vault_indices.__getitem__))
    }
    assert len(slots) <= SLOTS_END
    places = [_place(bet, slots[bet.player]) for bet in bets]
    places += [0] * (circuit_bets - len(bets))
    elements = [
        sum(place << PLACE_BITS * nth for nth, place in enumerate(three))
        for three in _in_groups(places, PLACES_PER_ELEMENT)
    ]
    if len(elements) > ELEMENTS_PER_GROUP:
        elements = [poseidon(group) for group in _in_groups(elements, ELEMENTS_PER_GROUP)]
    return poseidon([_ids_digest(bets), *elements])


def _place(bet: Bet, slot: int) -> int:
    return slot << 65 | bet.outcome_heads << 64 | bet.guess_heads << 63 | bet.stake


def _ids_digest(bets: Sequence[Bet]) -> int:
    root = _tree_hash([bet.digest for bet in bets])
    return int.from_bytes(hashlib.sha256(b"\2" + len(bets).to_bytes(4, "big") + root).digest()[1:], "big")


def _tree_hash(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962's recursion: split at the largest power of two below the number of leaves."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + _tree_hash(leaves[:half]) + _tree_hash(leaves[half:])).digest()


def _in_groups(values: Sequence[int], size: int) -> list[Sequence[int]]:
    return [values[start : start + size] for start in range(0, len(values), size)]
