"""The chain of the model: what may happen on it by itself, and what a node shows of it.

It grows by empty blocks or such with one transaction, becomes final, or forks, which undoes blocks that are not final. Only what is
signed, valid at that height and not on the chain yet can land; the marker lets a number be settled once.
"""

from collections.abc import Iterator

from tests.model.world import EMPTY, EXPIRED, FOREIGN, FOREIGN_BIT, FOREIGN_NUMBER, Attempt, Bounds, Rule, Try, World

Step = tuple[str, World]


def places(mask: int) -> Iterator[int]:
    """The places of a mask's bits."""
    place = 0
    while mask:
        if mask & 1:
            yield place
        mask >>= 1
        place += 1


def succeeded(world: World, slot: int) -> int:
    """All that has succeeded up to `slot`, as a mask of places; `FOREIGN_BIT` for the rival system's."""
    mask = world.landed
    for block in world.blocks[:slot]:
        if block > 0:
            mask |= FOREIGN_BIT if block == FOREIGN else 1 << block - 1
    return mask


def failed(world: World, slot: int) -> int:
    """All that has failed on chain up to `slot`."""
    mask = world.failed
    for block in world.blocks[:slot]:
        if block < 0:
            mask |= 1 << -block - 1
    return mask


def record(world: World, number: int, slot: int) -> int | None:
    """The root, that is the bets, under which `number` was settled up to `slot`."""
    mask = succeeded(world, slot)
    if mask & FOREIGN_BIT and number == FOREIGN_NUMBER:
        return FOREIGN
    return next((world.signed[p].bets for p in places(mask & ~FOREIGN_BIT) if world.signed[p].number == number), None)


def highest_number(world: World) -> int:
    """The highest number that was ever settled, as a node shows it that does not lag."""
    mask = succeeded(world, len(world.blocks))
    numbers = [world.signed[place].number for place in places(mask & ~FOREIGN_BIT)]
    return max((*numbers, FOREIGN_NUMBER if mask & FOREIGN_BIT else 0))


def broadcast(world: World, mask: int) -> World:
    """Nodes have these attempts now. They keep what can still land, for as long as they like."""
    mask &= ~(world.landed | world.failed)
    alive = sum(1 << place for place in places(mask) if world.signed[place].expires > world.final)
    return world if world.pool | alive == world.pool else world._replace(pool=world.pool | alive)


def moves(world: World, bounds: Bounds, rules: frozenset[Rule], uncovered_bet: int) -> Iterator[Step]:
    """What the chain may do next."""
    if len(world.blocks) - world.final < bounds.unfinal_blocks:
        yield from _blocks(world, rules, uncovered_bet)
    if world.final < len(world.blocks):
        yield "a block becomes final", _finalized(world, bounds)
        if world.left.forks:
            left = world.left._replace(forks=world.left.forks - 1)
            for depth in range(1, len(world.blocks) - world.final + 1):
                yield f"a fork undoes {depth} blocks", world._replace(blocks=world.blocks[:-depth], left=left)
    if world.covered and world.left.drains:
        left = world.left._replace(drains=world.left.drains - 1)
        yield "the player withdraws what covered the last bet", world._replace(covered=False, left=left)
    if not world.covered and world.left.refills:
        left = world.left._replace(refills=world.left.refills - 1)
        yield "the player deposits: the last bet is covered again", world._replace(covered=True, left=left)


def _blocks(world: World, rules: frozenset[Rule], uncovered_bet: int) -> Iterator[Step]:
    yield "an empty block", world._replace(blocks=(*world.blocks, EMPTY))
    height, newest = len(world.blocks) + 1, len(world.blocks)
    done = succeeded(world, newest) | failed(world, newest)
    for place in places(world.pool & ~done):
        attempt = world.signed[place]
        if attempt.expires < height:
            continue
        if Rule.MARKER in rules and record(world, attempt.number, newest) is not None:
            continue
        if attempt.bets & uncovered_bet and not world.covered:
            yield f"transaction {place} fails in a block", world._replace(blocks=(*world.blocks, -place - 1))
        else:
            yield f"transaction {place} lands in a block", world._replace(blocks=(*world.blocks, place + 1))
    if world.left.foreign and record(world, FOREIGN_NUMBER, newest) is None:
        left = world.left._replace(foreign=world.left.foreign - 1)
        yield "another system settles number 1", world._replace(blocks=(*world.blocks, FOREIGN), left=left)


def _finalized(world: World, bounds: Bounds) -> World:
    final = world.final + 1
    pool = sum(1 << place for place in places(world.pool) if world.signed[place].expires > final)
    world = world._replace(final=final, pool=pool)
    if world.final <= bounds.kept_blocks:
        return world
    oldest = world.blocks[0]
    landed, lost = world.landed, world.failed
    if oldest > 0:
        landed |= FOREIGN_BIT if oldest == FOREIGN else 1 << oldest - 1
    elif oldest < 0:
        lost |= 1 << -oldest - 1
    return world._replace(
        blocks=world.blocks[1:],
        final=world.final - 1,
        landed=landed,
        failed=lost,
        signed=tuple(_aged(attempt) for attempt in world.signed),
        tries=tuple((_older(first), _older(second)) for first, second in world.tries),
    )


def _aged(attempt: Attempt) -> Attempt:
    return attempt if attempt.expires == EXPIRED else attempt._replace(expires=attempt.expires - 1)


def _older(running: Try | None) -> Try | None:
    """With heights and slots that are counted from the oldest block that is kept."""
    if running is None:
        return None
    return running._replace(
        finalized=max(EXPIRED, running.finalized - 1),
        status_slot=max(EXPIRED, running.status_slot - 1),
        record_slot=max(EXPIRED, running.record_slot - 1),
        attempt=running.attempt and _aged(running.attempt),
    )
