"""The prover alone, on all cores: how many bets a second it could settle of some traffic. The ceiling of everything else.

The bets are cut into batches as a lane's Batcher would cut them if its queue were never short. So the ceiling of a mix of traffic is
that of the shapes it uses, as full as it fills them: bets a proof times proofs a second.
"""

import asyncio
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from typing import Final

from bench.site import Lanes
from bench.traffic import Crowd, by_lane
from prover.groth16 import Groth16Prover
from settlement.batches import Statement, statement_for
from settlement.bets import Bet
from settlement.netting import prefix_that_fits
from settlement.poseidon import remembered

THREADS: Final = os.cpu_count() or 1
VAULTS: Final = 2**16
"""Indices of the players' vaults are numbers up to this: what they are makes no difference to a proof."""


def cut(bets: Sequence[Bet], lanes: Lanes) -> Iterator[list[Bet]]:
    """The batches of one lane's bets, the last one included, which may not be full."""
    rest = list(bets)
    while rest:
        count = prefix_that_fits(
            rest[: lanes.max_batch_bets + 1], max_bets=lanes.max_batch_bets, max_players=lanes.max_batch_players
        )
        yield rest[:count]
        rest = rest[count:]


def statements(crowd: Crowd, lanes: Lanes, count: int) -> list[Statement]:
    """The first batches that the crowd's bets are cut into on the first lane, as statements."""
    [first, *_] = by_lane(list(crowd.stream()), lanes.lanes)
    indices = {player: number % VAULTS + 1 for number, player in enumerate(crowd.player_keys())}
    batches = list(itertools.islice(cut(first, lanes), count + 1))[:count]
    return [statement_for(0, number, bets, indices) for number, bets in enumerate(batches, start=1)]


async def bets_per_second(prover: Groth16Prover, batches: Sequence[Statement]) -> float:
    """Proves all of them, as many at once as the prover takes. All are new to it, as if they came from another machine."""
    remembered.cache_clear()
    began = time.perf_counter()
    await asyncio.gather(*(prover.prove(statement) for statement in batches))
    return sum(len(statement.entries) for statement in batches) / (time.perf_counter() - began)
