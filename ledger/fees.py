"""What a settlement offers per compute unit: what the accounts it writes to have cost of late, more at every further attempt.

It must never leave the bounds that the operator has set. A higher price is for a transaction that has expired and is signed
anew, so it never makes rivals of two live ones.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from solders.instruction import Instruction
from solders.pubkey import Pubkey

from ledger.rpc import MAX_PRIORITY_FEE_ACCOUNTS, RequestRefused, RpcClient
from settlement.errors import LedgerMisconfigured, LedgerUnavailable

ESTIMATE_PERCENTILE: Final = 90
"""Of the minima by slot. Most are 0 wherever blocks are not full, so a middle one would say nothing."""
BUMP_PERCENT: Final = 10
"""By so much at least each further attempt of a batch offers more."""
ESTIMATE_SECONDS: Final = 2.0
"""An estimate is worth no more time than that."""


@dataclass(frozen=True)
class PriceBounds:
    """The least and the most to offer, in millionths of a lamport per compute unit."""

    floor: int
    ceiling: int

    def __post_init__(self) -> None:
        assert 0 <= self.floor <= self.ceiling

    def price(self, estimate: int, earlier_attempts: int) -> int:
        """What to offer where `estimate` is usual and so many attempts of the batch were signed before."""
        price = max(estimate, self.floor)
        for _ in range(earlier_attempts):
            if price >= self.ceiling:
                break
            price += max(-(-price * BUMP_PERCENT // 100), 1)
        return min(price, self.ceiling)


async def estimated_price(rpc: RpcClient, settle: Instruction, payer: Pubkey) -> int:
    """What recent transactions that write to the same accounts have paid at least: 0 if there is none, or the node does not tell."""
    written = {payer: None} | {meta.pubkey: None for meta in settle.accounts if meta.is_writable}
    try:
        async with asyncio.timeout(ESTIMATE_SECONDS):
            fees = await rpc.recent_priority_fees(list(written)[:MAX_PRIORITY_FEE_ACCOUNTS])
    except (LedgerUnavailable, LedgerMisconfigured, RequestRefused, TimeoutError):
        # Not every node offers it, or to everybody: floor and bumps do without.
        return 0
    return _percentile([fee.prioritization_fee for fee in fees], ESTIMATE_PERCENTILE)


def _percentile(values: Sequence[int], percent: int) -> int:
    """The smallest of `values` that at least `percent` in a hundred do not exceed; 0 of none."""
    ranked = sorted(values)
    return ranked[-(-len(ranked) * percent // 100) - 1] if ranked else 0
