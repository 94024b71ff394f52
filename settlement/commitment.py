"""What a proof is about: the ids digest, the bets root and the one public input, as circuit and program compute them.

Every value is an element of BN254's scalar field. The circuit is `prover/circuits/settlement.circom`, the program
`program/settlement.c`; tests hold the three together.
"""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from settlement.bets import Bet
from settlement.poseidon import FIELD_MODULUS, MAX_INPUTS, poseidon
from settlement.shapes import Shape

FIELD_BYTES: Final = 32

STAKE_BITS: Final = 63
SLOT_BITS: Final = 8
PACK_BITS: Final = STAKE_BITS + 2 + SLOT_BITS
PACKS_PER_ELEMENT: Final = 3
ELEMENTS_PER_NODE: Final = 11
"""A node of the bets tree hashes up to this many elements, which leaves a Poseidon of 12 room for the ids digest at the root."""

VAULTS_PER_ELEMENT: Final = 7
VAULT_INDEX_BITS: Final = 32
NETS_PER_ELEMENT: Final = 3
NET_STRIDE_BITS: Final = 80
"""From one net of an element to the next: so wide that the circuit need not hold its sums of deltas to 64 bits."""
NET_OFFSET: Final = 2**63
"""Added to a signed 64-bit amount to make it unsigned."""


def _field_element(value: object) -> object:
    return int(value, 16) if isinstance(value, str) else value


FieldElement = Annotated[
    int,
    BeforeValidator(_field_element),
    Field(ge=0, lt=FIELD_MODULUS),
    PlainSerializer(lambda value: f"{value:064x}", return_type=str, when_used="json"),
]
"""A scalar-field element; 64 hex digits in JSON, where a number of its size would lose digits in many readers."""

_LEAF, _NODE, _ROOT = b"\x00", b"\x01", b"\x02"


class Entry(BaseModel):
    """A bet as the circuit sees it: stake in lamports, guess and outcome as heads = 1, slot = the player's position."""

    model_config = ConfigDict(frozen=True)

    stake: int
    guess: int
    outcome: int
    slot: int

    @classmethod
    def of(cls, bet: Bet, slot: int) -> Self:
        """`bet` of the player at `slot`."""
        return cls(stake=bet.stake, guess=int(bet.guess == "heads"), outcome=int(bet.outcome == "heads"), slot=slot)

    @property
    def pack(self) -> int:
        """`stake + 2^63·guess + 2^64·outcome + 2^65·slot`, below 2^73. Zero for an empty place."""
        return (
            self.stake + (self.guess << STAKE_BITS) + (self.outcome << STAKE_BITS + 1) + (self.slot << STAKE_BITS + 2)
        )


class Slot(BaseModel):
    """A player's place in a batch: vault index (≥ 1 on chain; 0 is an empty slot) and signed net in lamports."""

    model_config = ConfigDict(frozen=True)

    vault_index: int
    net: int


def ids_tree(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """The levels of the SHA-256 tree over bet digests, leaves first; an odd node moves up as it is (RFC 6962, section 2.1)."""
    level = [hashlib.sha256(_LEAF + leaf).digest() for leaf in leaves]
    levels = [level]
    while len(level) > 1:
        level = [
            hashlib.sha256(_NODE + level[i] + level[i + 1]).digest() if i + 1 < len(level) else level[i]
            for i in range(0, len(level), 2)
        ]
        levels.append(level)
    return levels


def ids_digest_from_root(root: bytes, count: int) -> int:
    """Binds the number of leaves and cuts to 248 bits, so that the digest is a field element."""
    return int.from_bytes(hashlib.sha256(_ROOT + count.to_bytes(4, "big") + root).digest()[1:], "big")


def ids_path(levels: Sequence[Sequence[bytes]], position: int) -> list[bytes]:
    """Siblings from leaf `position` to the root."""
    path: list[bytes] = []
    for level in levels[:-1]:
        sibling = position ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        position //= 2
    return path


def ids_root_from_path(leaf: bytes, position: int, count: int, path: Sequence[bytes]) -> bytes:
    """The root that `path` leads to from bet digest `leaf` at `position` of `count`; raises `ValueError` if it has a wrong length."""
    if not 0 <= position < count:
        raise ValueError("the position lies outside the batch")
    node, siblings = hashlib.sha256(_LEAF + leaf).digest(), iter(path)
    width = count
    try:
        while width > 1:
            if position ^ 1 < width:
                sibling = next(siblings)
                pair = sibling + node if position & 1 else node + sibling
                node = hashlib.sha256(_NODE + pair).digest()
            position, width = position // 2, (width + 1) // 2
    except StopIteration:
        raise ValueError("the path is too short") from None
    if next(siblings, None) is not None:
        raise ValueError("the path is too long")
    return node


def ids_digest(leaves: Sequence[bytes]) -> int:
    """The digest (248 bits) over a batch's bet digests (32 bytes each, in order) that the bets root starts from."""
    return ids_digest_from_root(ids_tree(leaves)[-1][0], len(leaves))


def elements_of(packs: Sequence[int], shape: Shape) -> list[int]:
    """Packs, three to a field element, padded with empty places to the shape's ⌈bets/3⌉ elements."""
    padded = [*packs, *[0] * (shape.bets - len(packs))]
    return _packed(padded, PACKS_PER_ELEMENT, PACK_BITS)


def vault_elements(vault_indices: Sequence[int], shape: Shape) -> list[int]:
    """Vault indices, seven to a field element, padded with zeros (empty slots) to the shape's ⌈players/7⌉ elements."""
    return _packed([*vault_indices, *[0] * (shape.players - len(vault_indices))], VAULTS_PER_ELEMENT, VAULT_INDEX_BITS)


def nodes_of(elements: Sequence[int]) -> list[int]:
    """What the root hashes besides the ids digest: the elements themselves if one node holds them, else nodes of 11."""
    if len(elements) <= ELEMENTS_PER_NODE:
        return list(elements)
    return [poseidon(elements[i : i + ELEMENTS_PER_NODE]) for i in range(0, len(elements), ELEMENTS_PER_NODE)]


def bets_root(entries: Sequence[Entry], digest: int, shape: Shape) -> int:
    """The root over a batch's bets: Poseidon(ids digest, nodes…)."""
    return poseidon([digest, *nodes_of(elements_of([entry.pack for entry in entries], shape))])


def identity(lane: int, number: int, bet_count: int) -> int:
    """`number + 2^64·lane + 2^80·bet_count`: which batch a proof is for."""
    return number + (lane << 64) + (bet_count << 80)


def scope(batch_identity: int, vault_indices: Sequence[int], shape: Shape) -> int:
    """Which batch a proof is for and whose vaults it is about, as one element: the circuit passes it on unread."""
    return _chained([batch_identity, *vault_elements(vault_indices, shape)])


def public_input(batch_identity: int, root: int, slots: Sequence[Slot], shape: Shape) -> int:
    """The circuit's one public input. Raises `ValueError` if a net or the house's opposite leaves 64 signed bits."""
    nets = [*(slot.net for slot in slots), *[0] * (shape.players - len(slots))]
    house = -sum(nets)
    if any(not -NET_OFFSET <= amount < NET_OFFSET for amount in (house, *nets)):
        raise ValueError("an amount does not fit in 64 signed bits")
    elements = _packed([net + NET_OFFSET for net in nets], NETS_PER_ELEMENT, NET_STRIDE_BITS)
    of = scope(batch_identity, [slot.vault_index for slot in slots], shape)
    return _chained([of, root, house + NET_OFFSET, *elements])


def _chained(inputs: Sequence[int]) -> int:
    """Poseidon over the first 12; then, for each following 11, over the last result and those."""
    digest = poseidon(inputs[:MAX_INPUTS])
    for start in range(MAX_INPUTS, len(inputs), MAX_INPUTS - 1):
        digest = poseidon([digest, *inputs[start : start + MAX_INPUTS - 1]])
    return digest


def _packed(values: Sequence[int], per_element: int, bits: int) -> list[int]:
    return [
        sum(value << bits * i for i, value in enumerate(values[start : start + per_element]))
        for start in range(0, len(values), per_element)
    ]
