"""What a player or an auditor gets for a bet, and how to check it against nothing but the batch record on chain."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

from settlement import commitment
from settlement.batches import BetRecord, BetStatus, Landing, OnChainBatch, Statement, statement_for
from settlement.bets import Bet, RejectionReason
from settlement.commitment import ELEMENTS_PER_NODE, PACKS_PER_ELEMENT, FieldElement
from settlement.errors import JournalConflict
from settlement.limits import MAX_BATCH_NUMBER, MAX_LANE
from settlement.ports import Journal, LedgerReader
from settlement.poseidon import poseidon
from settlement.shapes import SHAPES, Shape


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        return bytes.fromhex(value)
    if isinstance(value, bytes):
        return value
    raise ValueError("must be a string of hex digits")


Hex = Annotated[
    bytes,
    PlainValidator(_bytes),
    PlainSerializer(lambda value: value.hex(), return_type=str, when_used="json"),
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Inclusion(_Frozen):
    """A bet's place under its batch's bets root.

    `position` of `bet_count` bets; `slot`: the player's place in the batch; `ids_path`: sibling hashes of the ids tree;
    `packs`: the packs of the field element that holds the bet; `elements`: those of its node (empty where the root hashes elements
    directly); `nodes`: what the root hashes besides the ids digest.
    """

    shape: Shape
    position: int
    bet_count: int
    slot: int
    ids_path: tuple[Hex, ...]
    packs: tuple[FieldElement, ...]
    elements: tuple[FieldElement, ...]
    nodes: tuple[FieldElement, ...]


class Receipt(_Frozen):
    """The end of a bet. A settled one names the batch that settled it, where it landed, and how the bet stands under its root."""

    bet_id: str
    status: Literal["settled", "rejected"]
    bet: Bet | None = None
    reason: RejectionReason | None = None
    detail: str = ""
    batch_id: str | None = None
    lane: Annotated[int, Field(ge=0, le=MAX_LANE)] | None = None
    number: Annotated[int, Field(ge=0, le=MAX_BATCH_NUMBER)] | None = None
    landing: Landing | None = None
    bets_root: FieldElement | None = None
    inclusion: Inclusion | None = None


def inclusion_of(position: int, bets: Sequence[Bet], statement: Statement) -> Inclusion:
    """The inclusion proof of the bet at `position` among a batch's settled `bets`."""
    packs = [entry.pack for entry in statement.entries]
    elements = commitment.elements_of(packs, statement.shape)
    nodes = commitment.nodes_of(elements)
    element = position // PACKS_PER_ELEMENT
    first_pack, first_element = element * PACKS_PER_ELEMENT, element // ELEMENTS_PER_NODE * ELEMENTS_PER_NODE
    in_nodes = len(elements) > ELEMENTS_PER_NODE
    return Inclusion(
        shape=statement.shape,
        position=position,
        bet_count=len(bets),
        slot=statement.entries[position].slot,
        ids_path=tuple(commitment.ids_path(commitment.ids_tree([bet.digest for bet in bets]), position)),
        packs=tuple(packs[first_pack : first_pack + PACKS_PER_ELEMENT]),
        elements=tuple(elements[first_element : first_element + ELEMENTS_PER_NODE]) if in_nodes else (),
        nodes=tuple(nodes),
    )


def root_from(bet: Bet, inclusion: Inclusion) -> int:
    """The bets root that `inclusion` claims for `bet`; to be compared with the batch record on chain.

    Raises `ValueError` if the inclusion contradicts the bet or itself.
    """
    _check_form(inclusion)
    element = inclusion.position // PACKS_PER_ELEMENT
    pack = commitment.Entry.of(bet, inclusion.slot).pack
    if inclusion.packs[inclusion.position % PACKS_PER_ELEMENT] != pack:
        raise ValueError("the bet is not what the inclusion's packs hold at its position")
    value = sum(part << commitment.PACK_BITS * i for i, part in enumerate(inclusion.packs))
    siblings, index = (
        (inclusion.elements, element % ELEMENTS_PER_NODE) if inclusion.elements else (inclusion.nodes, element)
    )
    if siblings[index] != value:
        raise ValueError("the packs are not the element that the node holds")
    if inclusion.elements and inclusion.nodes[element // ELEMENTS_PER_NODE] != poseidon(inclusion.elements):
        raise ValueError("the elements are not the node that the root holds")
    ids_root = commitment.ids_root_from_path(bet.digest, inclusion.position, inclusion.bet_count, inclusion.ids_path)
    digest = commitment.ids_digest_from_root(ids_root, inclusion.bet_count)
    return poseidon([digest, *inclusion.nodes])


def contradictions(receipt: Receipt, record: OnChainBatch | None) -> tuple[str, ...]:
    """What keeps a settled bet's receipt from holding; `record`: what the chain has under its lane and number.

    Nothing: the chain has settled this very bet, with this stake and outcome, in that batch.
    """
    bet, inclusion = receipt.bet, receipt.inclusion
    if receipt.status != "settled" or bet is None or inclusion is None or receipt.number is None:
        return ("it is no settled bet's receipt with an inclusion proof",)
    if record is None or (record.lane, record.number) != (receipt.lane, receipt.number):
        return (f"the chain has no batch {receipt.number} of lane {receipt.lane}",)
    found: list[str] = []
    if receipt.bet_id != bet.bet_id:
        found.append(f"it is of {receipt.bet_id}, but the bet in it is {bet.bet_id}")
    # Under another shape the same hashes would stand for other bets.
    if inclusion.shape not in SHAPES or inclusion.shape.circuit_id != record.circuit_id:
        found.append(f"its shape is not that of circuit {record.circuit_id}, by which the batch was proven")
    if inclusion.bet_count != record.bet_count:
        found.append(f"it counts {inclusion.bet_count} bets in the batch, the chain {record.bet_count}")
    # Bets in a slot that no player has can be proven where they cancel out, and move nothing (`settlement.circom`).
    if not 0 <= inclusion.slot < record.player_count:
        found.append(f"its slot is {inclusion.slot}, and the batch has {record.player_count} players, from slot 0 on")
    try:
        root = root_from(bet, inclusion)
    except ValueError as error:
        found.append(str(error))
    else:
        if root != record.bets_root:
            found.append(f"its inclusion proof leads to root {root:064x}, the chain has {record.bets_root:064x}")
    if receipt.bets_root not in (None, record.bets_root):
        found.append("it names another bets root than the chain")
    if receipt.landing is not None and receipt.landing.slot != record.slot:
        found.append(
            f"it says slot {receipt.landing.slot}, the chain {record.slot}: if it was given before the batch was final, a fork has"
            " moved that, and a receipt of now says where to"
        )
    return tuple(found)


def _check_form(inclusion: Inclusion) -> None:
    """Raises `ValueError` unless each part is as long as shape, count and position make it, and no pack runs into the next."""
    shape, position, bet_count = inclusion.shape, inclusion.position, inclusion.bet_count
    if not 0 <= position < bet_count <= shape.bets:
        raise ValueError("the position lies outside the batch, or the batch outside its shape")
    element, element_count = position // PACKS_PER_ELEMENT, -(-shape.bets // PACKS_PER_ELEMENT)
    packs = min(PACKS_PER_ELEMENT, bet_count - element * PACKS_PER_ELEMENT)
    elements, nodes = 0, element_count
    if element_count > ELEMENTS_PER_NODE:
        elements = min(ELEMENTS_PER_NODE, element_count - element // ELEMENTS_PER_NODE * ELEMENTS_PER_NODE)
        nodes = -(-element_count // ELEMENTS_PER_NODE)
    if (len(inclusion.packs), len(inclusion.elements), len(inclusion.nodes)) != (packs, elements, nodes):
        raise ValueError("the inclusion has more or fewer parts than its shape")
    if any(pack >> commitment.PACK_BITS for pack in inclusion.packs):
        raise ValueError("a pack of the inclusion is longer than a pack can be")


def rejected_receipt(record: BetRecord) -> Receipt:
    """The receipt of a bet that was refused in its batch."""
    return Receipt(
        bet_id=record.bet.bet_id,
        status="rejected",
        bet=record.bet,
        reason=record.reason,
        detail=record.detail,
        batch_id=record.batch_id,
        lane=record.lane,
    )


def conflict_receipt(bet: Bet, other: BetRecord) -> Receipt:
    """The receipt of a bet whose id another bet has."""
    return Receipt(
        bet_id=bet.bet_id,
        status="rejected",
        bet=bet,
        reason=RejectionReason.CONFLICT,
        detail=f"another bet with this id is in batch {other.batch_id}",
        lane=other.lane,
    )


async def read_receipt(bet_id: str, journal: Journal, ledger: LedgerReader) -> Receipt | None:
    """A bet's receipt, or None while it is neither settled nor rejected in a batch.

    Raises `JournalConflict` if the journal's bets do not give the root that was settled.
    """
    record = await journal.bet(bet_id)
    if record is None or record.status is BetStatus.CLAIMED:
        return None
    if record.status is BetStatus.REJECTED:
        return rejected_receipt(record)
    batch = await journal.batch(record.batch_id)
    assert batch is not None, "the journal's foreign keys tie each bet to a batch"
    bets = [other.bet for other in await journal.bets_of(record.batch_id) if other.status is BetStatus.SETTLED]
    vaults = await ledger.vaults(batch.lane, sorted({bet.player for bet in bets}))
    statement = statement_for(batch.lane, batch.number, bets, {player: vault.index for player, vault in vaults.items()})
    if statement.bets_root != batch.bets_root:
        raise JournalConflict(
            f"the journal's bets of {batch.batch_id} do not give the root that was settled: "
            "run `python starter.py reconcile`"
        )
    return Receipt(
        bet_id=bet_id,
        status="settled",
        bet=record.bet,
        batch_id=batch.batch_id,
        lane=batch.lane,
        number=batch.number,
        landing=batch.landing,
        bets_root=statement.bets_root,
        inclusion=inclusion_of([bet.bet_id for bet in bets].index(bet_id), bets, statement),
    )
