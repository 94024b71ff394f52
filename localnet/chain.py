"""Blocks, blockhash expiry and commitment levels: the ledger's sense of time.

A slot is open while its transactions execute, then becomes a block. Levels hang off the newest block that is on disk,
so nothing can look confirmed that a crash could take back. `finalized` never goes backwards, whatever happens; the
levels above it do so by a fork only.

Sources: agave `runtime/src/blockhash_queue`, solana-sdk `clock` (MAX_PROCESSING_AGE, slots per epoch) and
`slot-hashes` (MAX_ENTRIES), solana-docs "commitment".
"""

import hashlib
import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from solders.hash import Hash

BLOCKHASH_BLOCKS_MAX: Final = 150
"""A blockhash is accepted in the 150 blocks that follow its own."""
CONFIRMED_DEPTH_BLOCKS: Final = 1
"""Confirmed is this far below the newest stored block, hence two below the open slot."""
FINALIZED_DEPTH_BLOCKS: Final = 31
"""Finalized (the root) is this far below the newest stored block, hence 32 below the open slot."""
SLOT_HASHES_MAX: Final = 512
SLOTS_PER_EPOCH: Final = 432_000
GENESIS_BLOCKS: Final = 40
"""Mined before the first request: with fewer, everything would be final at once."""

Commitment: TypeAlias = Literal["processed", "confirmed", "finalized"]


@dataclass(frozen=True, slots=True)
class Block:
    """A completed slot. `height` counts blocks, `slot` also the skipped ones; times are Unix seconds."""

    slot: int
    height: int
    blockhash: Hash
    unix_time: int
    epoch_start_time: int
    transaction_count: int
    """Transactions since genesis, this block's included."""


@dataclass(frozen=True, slots=True)
class Sight:
    """How far a node sees: the heights of the newest completed, confirmed and finalized block that it knows."""

    completed: int
    confirmed: int
    finalized: int

    def blocks_ago(self, blocks: int) -> "Sight":
        return Sight(self.completed - blocks, self.confirmed - blocks, self.finalized - blocks)

    def at_most(self, other: "Sight") -> "Sight":
        return Sight(
            min(self.completed, other.completed),
            min(self.confirmed, other.confirmed),
            min(self.finalized, other.finalized),
        )


@dataclass(frozen=True, slots=True)
class View:
    """The chain as one commitment level sees it. `blockhash` was produced by the block of `blockhash_height`."""

    slot: int
    height: int
    blockhash: Hash
    blockhash_height: int
    transaction_count: int


class Chain:
    """The last `SLOT_HASHES_MAX` blocks, those of the hindsight, and the open slot on top of them."""

    def __init__(self, blocks: Sequence[Block], final_height_min: int = 0, hindsight_blocks: int = 0) -> None:
        """
        Args:
            blocks: stored blocks, oldest first, at least down to the root.
            final_height_min: the chain was final up to here already, however low its tip is now.
            hindsight_blocks: how far before the root a node may be asked to look; never before the root of now.
        """
        self._blocks: deque[Block] = deque(blocks, maxlen=SLOT_HASHES_MAX + hindsight_blocks)
        self._height_by_hash = {block.blockhash: block.height for block in self._blocks}
        self._stored_height = self.tip.height
        self._final_height = max(self._stored_height - FINALIZED_DEPTH_BLOCKS, final_height_min)
        self._first_final_height = self._final_height
        self._hindsight_blocks = hindsight_blocks
        self.open_slot = self.tip.slot + 1

    @property
    def tip(self) -> Block:
        """The newest completed block, stored or not."""
        return self._blocks[-1]

    @property
    def open_height(self) -> int:
        return self.tip.height + 1

    @property
    def blocks(self) -> Iterable[Block]:
        return self._blocks

    @property
    def confirmed(self) -> Block:
        return self._at_height(self.sight.confirmed)

    @property
    def finalized(self) -> Block:
        return self._at_height(self._final_height)

    @property
    def sight(self) -> Sight:
        """How far a node sees that is in good order."""
        confirmed = max(self._stored_height - CONFIRMED_DEPTH_BLOCKS, self._final_height)
        return Sight(self.tip.height, confirmed, self._final_height)

    @property
    def unstored_blocks(self) -> int:
        return self.tip.height - self._stored_height

    def skip_to(self, slot: int) -> None:
        """Leave slots without a block up to `slot`."""
        if slot <= self.tip.slot:
            raise ValueError(f"slot {slot} is not after {self.tip.slot}")
        self.open_slot = slot

    def complete(self, block: Block) -> None:
        """Close the open slot with `block` and open the next one."""
        if block.slot != self.open_slot or block.height != self.open_height:
            raise ValueError(f"block {block.slot} does not close slot {self.open_slot}")
        if len(self._blocks) == self._blocks.maxlen:
            del self._height_by_hash[self._blocks[0].blockhash]
        self._blocks.append(block)
        self._height_by_hash[block.blockhash] = block.height
        self.open_slot = block.slot + 1

    def stored(self, height: int) -> None:
        """The block of this height is on disk: confirmed and finalized may follow."""
        self._stored_height = height
        self._final_height = max(self._final_height, height - FINALIZED_DEPTH_BLOCKS)

    def undo(self, height: int, slot: int) -> None:
        """Take back every block above `height`, which must all be stored and none final; go on at `slot`."""
        if not self._final_height <= height <= self._stored_height == self.tip.height:
            raise ValueError(f"blocks above {height} cannot be taken back")
        if slot <= self.open_slot:
            raise ValueError(f"slot {slot} is not after {self.open_slot}")
        while self.tip.height > height:
            del self._height_by_hash[self._blocks.pop().blockhash]
        self._stored_height = height
        self.open_slot = slot

    def view(self, commitment: Commitment, transactions_in_open_slot: int, sight: Sight | None = None) -> View:
        """The chain at a level, to a node that sees as far as `sight`; a healthy one by default."""
        sight = sight or self.sight
        if commitment != "processed":
            block = self._in_sight(sight.confirmed if commitment == "confirmed" else sight.finalized)
            return View(block.slot, block.height, block.blockhash, block.height, block.transaction_count)
        parent = self._in_sight(sight.completed)
        if parent.height < self.tip.height:
            block = self._at_height(parent.height + 1)
            return View(block.slot, block.height, parent.blockhash, parent.height, block.transaction_count)
        return View(
            slot=self.open_slot,
            height=self.open_height,
            blockhash=parent.blockhash,
            blockhash_height=parent.height,
            transaction_count=parent.transaction_count + transactions_in_open_slot,
        )

    def blockhash_is_valid(self, blockhash: Hash, view: View) -> bool:
        """Whether `view` knows the blockhash and a transaction with it could still land in the view's block."""
        height = self._height_by_hash.get(blockhash)
        return height is not None and height <= view.blockhash_height and view.height <= last_valid_block_height(height)

    def slot_hashes(self) -> list[tuple[int, Hash]]:
        """Newest first, as in the sysvar."""
        newest = itertools.islice(reversed(self._blocks), SLOT_HASHES_MAX)
        return [(block.slot, block.blockhash) for block in newest]

    def recent_slots(self, view: View) -> list[int]:
        """The slots in the slot-hashes sysvar of `view`."""
        end = view.blockhash_height - self._blocks[0].height + 1
        return [block.slot for block in itertools.islice(self._blocks, max(end - SLOT_HASHES_MAX, 0), end)]

    def block_at(self, height: int) -> Block:
        if not self._blocks[0].height <= height <= self.tip.height:
            raise ValueError(f"block {height} is not kept")
        return self._at_height(height)

    def slot_at(self, height: int) -> int:
        """The slot of the block at `height`, or of the oldest that is kept here."""
        return self._at_height(max(height, self._blocks[0].height)).slot

    def _in_sight(self, height: int) -> Block:
        """The block at `height`, as far back as accounts are kept."""
        oldest = max(self._first_final_height, self._final_height - self._hindsight_blocks)
        return self._at_height(min(max(height, oldest), self.tip.height))

    def _at_height(self, height: int) -> Block:
        return self._blocks[height - self.tip.height - 1]


def last_valid_block_height(blockhash_height: int) -> int:
    """The last block that accepts the blockhash of the block at `blockhash_height`."""
    return blockhash_height + BLOCKHASH_BLOCKS_MAX


def next_blockhash(parent: Hash, slot: int, signatures: Iterable[bytes]) -> Hash:
    """A block's hash: SHA-256 over its parent's, its slot and its transactions.

    The chain starts at a random genesis hash, so no two ledgers share a blockhash, and a block that is produced again
    after a crash with other contents has another hash.
    """
    digest = hashlib.sha256(bytes(parent) + slot.to_bytes(8, "little"))
    for signature in signatures:
        digest.update(signature)
    return Hash(digest.digest())


def epoch_of(slot: int) -> int:
    return slot // SLOTS_PER_EPOCH
