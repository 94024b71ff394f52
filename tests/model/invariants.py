"""What must hold in every state of the model."""

from tests.model import chain
from tests.model.world import CONFIRMED, FAILED, FOREIGN_BIT, REJECTED, SETTLED, Bounds, World


def violated(world: World) -> str | None:
    """The first invariant that does not hold, in words."""
    moved = 0
    for place in chain.places(chain.succeeded(world, len(world.blocks)) & ~FOREIGN_BIT):
        bets = world.signed[place].bets
        if bets & moved:
            return "a bet's money moves twice"
        moved |= bets
    rejected = sum(1 << at for at, bet in enumerate(world.bets) if bet.status == REJECTED)
    if moved & rejected:
        return "a rejected bet is settled"
    numbers = [batch.number for batch in world.batches if batch is not None]
    if len(set(numbers)) != len(numbers):
        return "two batches have one number"
    for place, batch in enumerate(world.batches):
        if batch is not None and batch.status == CONFIRMED:
            settled = sum(1 << at for at, bet in enumerate(world.bets) if bet.owner == place and bet.status == SETTLED)
            if chain.record(world, batch.number, world.final) != settled or not settled:
                return "a batch is Confirmed without a final record of its bets"
        run = world.runs[place]
        if run.status == CONFIRMED and chain.record(world, run.number, world.final) != run.bets:
            return "a workflow says Confirmed without a final record of its bets"
    return None


def over(world: World, bounds: Bounds) -> bool:
    """Whether every batch has come to its end: each of its bets is settled, rejected, or another batch's.

    A rejection of a batch of which nothing was left to settle is not put back into a journal that has lost it: no money depends on it.
    """
    if any(run.doing != "nothing" for run in world.runs):
        return False
    if all(batch is None and run.status == FAILED for batch, run in zip(world.batches, world.runs, strict=True)):
        return True
    return all(
        bet.status in (SETTLED, REJECTED)
        for at, bet in enumerate(world.bets)
        if any(mask >> at & 1 for mask in bounds.asked)
    )


def cut(world: World, bounds: Bounds) -> bool:
    """Whether the search goes no further only because of its bound on attempts: none of those signed can land any more."""
    live = any(
        attempt.expires > world.final and not (world.landed | world.failed) >> place & 1
        for place, attempt in enumerate(world.signed)
    )
    return len(world.signed) >= bounds.max_attempts and not live
