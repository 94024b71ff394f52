"""A batch as it travels from claim to receipt: what was claimed, what is to be proven, what was signed and what landed."""

import hashlib
from collections.abc import Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from settlement import commitment
from settlement.bets import Bet, PlayerKey, RejectionReason
from settlement.commitment import Entry, FieldElement, Slot
from settlement.lifecycle import BatchStatus, Transition
from settlement.netting import net_by_player
from settlement.shapes import Shape, smallest_shape

BATCH_DIGEST_BYTES = 16


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


def batch_id(lane: int, bets: Sequence[Bet]) -> str:
    """The settlement's workflow id, `settlement-<lane>-<digest of the ordered bets>`: equal only for equal content."""
    digest = hashlib.sha256(b"".join(bet.digest for bet in bets)).digest()
    return f"settlement-{lane}-{digest[:BATCH_DIGEST_BYTES].hex()}"


class BetStatus(StrEnum):
    """Where a bet stands. *Settled*: its batch is confirmed on chain."""

    CLAIMED = "claimed"
    SETTLED = "settled"
    REJECTED = "rejected"


class BetRecord(_Frozen):
    """A bet as the journal holds it. `position` is its place in the batch as cut, kept when others are ejected."""

    bet: Bet
    lane: int
    batch_id: str
    position: int
    status: BetStatus
    reason: RejectionReason | None = None
    detail: str = ""


class RefusedBet(_Frozen):
    """A bet of a batch that will not be settled in it, and why."""

    bet_id: str
    reason: RejectionReason
    detail: str


class DuplicateBet(_Frozen):
    """A bet that another batch (`batch_id`) already holds with the same content."""

    bet_id: str
    batch_id: str


class Claim(_Frozen):
    """Asks the journal to give `bets`, in order, to one batch and to number it.

    `transition`: to Pending; a batch that the journal knows already takes it under the next sequence of its own.
    `number`: the one that the batch has had, for a journal that has lost the batch or is behind with its number; `refused` and
    `duplicates`: what was decided of its bets then.
    `highest_on_chain`: the highest number on chain, read before; a new number is given only by it.
    `complete_up_to`: up to which number the journal was seen to hold every batch that the chain holds.
    """

    batch_id: str
    lane: int
    bets: tuple[Bet, ...]
    transition: Transition
    number: int | None = None
    refused: tuple[RefusedBet, ...] = ()
    duplicates: tuple[DuplicateBet, ...] = ()
    highest_on_chain: int | None = None
    complete_up_to: int = 0


class ClaimedBatch(_Frozen):
    """What the journal gave: the bets to settle in order, those refused (conflicts included), and the duplicates left out.

    `status`, `sequence`: the batch's latest transition; Pending, unless it is Confirmed already.
    """

    batch_id: str
    lane: int
    number: int
    status: BatchStatus
    sequence: int
    bets: tuple[Bet, ...]
    refused: tuple[RefusedBet, ...]
    duplicates: tuple[DuplicateBet, ...]


class Vault(_Frozen):
    """A player's vault on chain. `available` is its balance above the rent-exempt minimum, in lamports."""

    player: PlayerKey
    index: int
    available: int


class House(_Frozen):
    """A lane's house account. `available` as in `Vault`; `highest_batch`: the highest batch number ever settled on the lane."""

    lane: int
    available: int
    vault_count: int
    highest_batch: int


class PlayerSlot(_Frozen):
    """A player's place in a statement; slots stand in the order of strictly increasing vault indices."""

    player: PlayerKey
    vault_index: int
    net: int


class Statement(_Frozen):
    """Everything that one proof says, private parts included. Amounts in lamports; `entries` in the order of the bets."""

    lane: int
    number: int
    shape: Shape
    entries: tuple[Entry, ...]
    slots: tuple[PlayerSlot, ...]
    ids_digest: FieldElement
    bets_root: FieldElement
    public_input: FieldElement

    @property
    def house_delta(self) -> int:
        """What the house gains (or loses, negative) in lamports."""
        return -sum(slot.net for slot in self.slots)


def statement_for(lane: int, number: int, bets: Sequence[Bet], vault_indices: dict[str, int]) -> Statement:
    """The statement that settles `bets` (at least one), given each player's vault index."""
    nets = net_by_player(bets)
    players = sorted(nets, key=lambda player: vault_indices[player])
    position = {player: slot for slot, player in enumerate(players)}
    shape = smallest_shape(len(bets), len(players))
    entries = tuple(Entry.of(bet, position[bet.player]) for bet in bets)
    slots = tuple(PlayerSlot(player=p, vault_index=vault_indices[p], net=nets[p]) for p in players)
    digest = commitment.ids_digest([bet.digest for bet in bets])
    root = commitment.bets_root(entries, digest, shape)
    return Statement(
        lane=lane,
        number=number,
        shape=shape,
        entries=entries,
        slots=slots,
        ids_digest=digest,
        bets_root=root,
        public_input=commitment.public_input(
            commitment.identity(lane, number, len(bets)),
            root,
            [Slot(vault_index=slot.vault_index, net=slot.net) for slot in slots],
            shape,
        ),
    )


class Proof(_Frozen):
    """A Groth16 proof that was verified by the prover. `proof`: 256 bytes in EIP-197 order, as hex. Never compare proofs by bytes."""

    circuit_id: int
    public_input: FieldElement
    proof: str
    milliseconds: int


class SignedAttempt(_Frozen):
    """One signed transaction for a batch: its signature (base58), bytes (base64) and the last block height at which it can land.

    `number`, `bets_root`: what it settles, if it lands.
    """

    attempt: int
    number: int
    bets_root: FieldElement
    signature: str
    raw: str
    last_valid_block_height: int


class OnChainBatch(_Frozen):
    """A batch record on chain."""

    lane: int
    number: int
    circuit_id: int
    bet_count: int
    player_count: int
    house_delta: int
    slot: int
    bets_root: FieldElement


class Landing(_Frozen):
    """How a batch landed, as the chain told. `compute_units` and `fee_lamports` are None where the node keeps no history of it."""

    signature: str
    slot: int
    compute_units: int | None
    fee_lamports: int | None


class Movement(_Frozen):
    """What one settlement transaction did to the balances, read from the chain: lamports by player, and the house's."""

    succeeded: bool
    slot: int
    house_delta: int
    net_by_player: dict[str, int]


class Standing(StrEnum):
    """Where all attempts of a batch stand. *Settled*: its record, with its root, is on chain at the configured commitment."""

    SETTLED = "settled"
    PENDING = "pending"
    NONE_LIVE = "none_live"


class Sighting(StrEnum):
    """What a node shows of a batch's attempts. A hint when to ask for a verdict, never one. *Decided*: one has landed or failed."""

    UNSEEN = "unseen"
    SEEN = "seen"
    DECIDED = "decided"


class Verdict(_Frozen):
    """The chain's answer on a batch. Pending: an attempt may still land. None live: proven that no attempt can.

    `final`: settled, and no fork can undo it any more.
    """

    standing: Standing
    landing: Landing | None = None
    final: bool = False


class BatchSummary(_Frozen):
    """A batch as the journal holds it now. Bets are read apart. `circuit_id`…`landing` are None until they exist."""

    batch_id: str
    lane: int
    number: int
    status: BatchStatus
    bet_count: int
    player_count: int
    house_delta: int
    transitions: tuple[Transition, ...]
    circuit_id: int | None
    bets_root: FieldElement | None
    proof_milliseconds: int | None
    landing: Landing | None

    @property
    def under_way(self) -> bool:
        """Whether its workflow is still bringing it onto the chain."""
        return self.status in (BatchStatus.PENDING, BatchStatus.PROVING, BatchStatus.PROVED, BatchStatus.SUBMITTED)
