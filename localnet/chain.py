"""Blocks, blockhash expiry and commitment levels: the ledger's sense of time.

A slot is open while its transactions execute, then becomes a block. Levels hang off the newest block that is on disk,
so nothing can look confirmed that a crash could take back, and no level ever goes backwards over a restart.

Sources: agave `runtime/src/blockhash_queue`, solana-sdk `clock` (MAX_PROCESSING_AGE, slots per epoch) and
`slot-hashes` (MAX_ENTRIES), solana-docs "commitment".
"""

import hashlib
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
class View:
    """The chain as one commitment level sees it. `blockhash` was produced by the block of `blockhash_height`."""

    slot: int
    height: int
    blockhash: Hash
    blockhash_height: int
    transaction_count: int


class Chain:
    """The last `SLOT_HASHES_MAX` blocks and the open slot on top of them."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        """`blocks`: stored blocks, oldest first, at least down to the root."""
        self._blocks: deque[Block] = deque(blocks, maxlen=SLOT_HASHES_MAX)
        self._height_by_hash = {block.blockhash: block.height for block in self._blocks}
        self._stored_height = self.tip.height
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
        return self._at_height(self._stored_height - CONFIRMED_DEPTH_BLOCKS)

    @property
    def finalized(self) -> Block:
        return self._at_height(self._stored_height - FINALIZED_DEPTH_BLOCKS)

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
        if len(self._blocks) == SLOT_HASHES_MAX:
            del self._height_by_hash[self._blocks[0].blockhash]
        self._blocks.append(block)
        self._height_by_hash[block.blockhash] = block.height
        self.open_slot = block.slot + 1

    def stored(self, height: int) -> None:
        """The block of this height is on disk: confirmed and finalized may follow."""
        self._stored_height = height

    def view(self, commitment: Commitment, transactions_in_open_slot: int) -> View:
        if commitment == "processed":
            tip = self.tip
            return View(
                slot=self.open_slot,
                height=self.open_height,
                blockhash=tip.blockhash,
                blockhash_height=tip.height,
                transaction_count=tip.transaction_count + transactions_in_open_slot,
            )
        block = self.confirmed if commitment == "confirmed" else self.finalized
        return View(block.slot, block.height, block.blockhash, block.height, block.transaction_count)

    def blockhash_is_valid(self, blockhash: Hash, view: View) -> bool:
        """Whether `view` knows the blockhash and a transaction with it could still land in the view's block."""
        height = self._height_by_hash.get(blockhash)
        return height is not None and height <= view.blockhash_height and view.height <= last_valid_block_height(height)

    def slot_hashes(self) -> list[tuple[int, Hash]]:
        """Newest first, as in the sysvar."""
        return [(block.slot, block.blockhash) for block in reversed(self._blocks)]

    def recent_slots(self) -> list[int]:
        return [block.slot for block in self._blocks]

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
