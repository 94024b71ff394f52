"""The journal of the model: each function is one of its transactions, as in the package `journal`.

A transition is checked by the domain's own table; every one that is taken is noted.
"""

from settlement.errors import BatchUnknown, JournalConflict
from settlement.lifecycle import LEGAL_TRANSITIONS, check_transition
from tests.model.world import (
    CLAIMED,
    CONFIRMED,
    NOBODY,
    PENDING,
    REJECTED,
    SETTLED,
    STATUSES,
    Attempt,
    Batch,
    Bet,
    Rule,
    Run,
    World,
    replaced,
)

GAP = -1
"""A transition that never reached the journal: the batch was parked before."""

taken_transitions: set[tuple[int, int]] = set()
"""By any batch in any search."""


def check(current: int, following: int) -> None:
    """Raises `IllegalTransition` unless the domain allows it."""
    if (current, following) not in taken_transitions:
        check_transition(STATUSES[current], STATUSES[following])
        taken_transitions.add((current, following))


def may_follow(current: int, following: int) -> bool:
    """Whether the domain allows it."""
    return STATUSES[following] in LEGAL_TRANSITIONS[STATUSES[current]]


def batch_of(world: World, place: int) -> Batch:
    """The batch, which must have been claimed."""
    batch = world.batches[place]
    if batch is None:
        raise BatchUnknown("the journal holds no such batch")
    return batch


def live_bets(world: World, place: int) -> int:
    """The bets of a batch that are not rejected, as a mask."""
    return sum(1 << at for at, bet in enumerate(world.bets) if bet.owner == place and bet.status != REJECTED)


def rejected_bets(world: World, place: int) -> int:
    """The bets of a batch that are rejected."""
    return sum(1 << at for at, bet in enumerate(world.bets) if bet.owner == place and bet.status == REJECTED)


def claim(world: World, place: int, asked: int, run: Run, rules: frozenset[Rule]) -> World:
    """Gives the batch its number and those of its bets that are free; a batch that is known goes back to Pending.

    What the workflow knows and the journal has lost is put back: number and refusals.
    """
    batch = world.batches[place]
    if batch is not None:
        if batch.status == CONFIRMED:
            return world
        if batch.status != PENDING:
            batch = _appended(batch, batch.sequence + 1, PENDING)
        if run.number > batch.number:
            _require_free(world, place, run.number)
            batch = batch._replace(number=run.number, statement=None)
        return _rejected(_written(world, place, batch), place, run.refused)
    if run.number:
        _require_free(world, place, run.number)
        number, highest = run.number, world.highest
    else:
        number = _free_number(world, world.highest) if Rule.UNIQUE_NUMBERS in rules else max(world.highest, 1)
        highest = number
    bets = tuple(
        Bet(owner=place) if asked >> at & 1 and (bet.owner == NOBODY or Rule.DEDUPE_BY_CLAIM not in rules) else bet
        for at, bet in enumerate(world.bets)
    )
    return _rejected(_written(world._replace(bets=bets, highest=highest), place, Batch(number)), place, run.refused)


def resume(world: World, place: int, run: Run) -> World:
    """Puts a batch back to Pending as the journal holds it, for a run that was started with nothing but its id."""
    batch_of(world, place)
    return claim(world, place, 0, run, frozenset(Rule))


def record_transition(world: World, place: int, sequence: int, status: int) -> World:
    """Idempotent by `sequence`."""
    batch = batch_of(world, place)
    return (
        world if _is_recorded(batch, sequence, status) else _written(world, place, _appended(batch, sequence, status))
    )


def eject(world: World, place: int, refused: int, as_of: int, judged: int, rules: frozenset[Rule]) -> World:
    """Rejects bets, unless the batch has gone on meanwhile."""
    batch = batch_of(world, place)
    if Rule.EJECT_FENCE in rules and batch.sequence != as_of:
        raise JournalConflict("the batch went on while its bets were being looked at")
    if Rule.JUDGED_ATTEMPTS in rules and any(not judged >> at & 1 for _, at in batch.attempts):
        raise JournalConflict("an attempt was kept while the batch's bets were being looked at")
    return _rejected(world, place, refused)


def _rejected(world: World, place: int, refused: int) -> World:
    bets = list(world.bets)
    for at, bet in enumerate(bets):
        if refused >> at & 1 and bet.owner == place:
            if bet.status == SETTLED:
                raise JournalConflict("a settled bet cannot be ejected")
            bets[at] = bet._replace(status=REJECTED)
    if tuple(bets) == world.bets:
        return world
    return _written(world._replace(bets=tuple(bets)), place, batch_of(world, place)._replace(statement=None))


def renumber(world: World, place: int, taken: int, above: int, as_of: int, rules: frozenset[Rule]) -> World:
    """Gives the batch a new number if it still has the one that is taken."""
    batch = batch_of(world, place)
    if batch.number != taken:
        return world
    if batch.status == CONFIRMED:
        raise JournalConflict("a confirmed batch cannot get another number")
    if Rule.EJECT_FENCE in rules and batch.sequence != as_of:
        raise JournalConflict("the batch went on while its number was being looked at")
    number = _free_number(world, max(world.highest, above))
    if above <= world.highest:
        world = world._replace(highest=number)
    return _written(world, place, batch._replace(number=number, statement=None))


def _free_number(world: World, above: int) -> int:
    return max(above, *(batch.number for batch in world.batches if batch is not None), 0) + 1


def _require_free(world: World, place: int, number: int) -> None:
    if any(at != place and batch is not None and batch.number == number for at, batch in enumerate(world.batches)):
        raise JournalConflict("another batch has the number")


def record_statement(world: World, place: int, number: int, bets: int) -> World:
    """Keeps what was proven, if it is about the batch as it stands."""
    batch = batch_of(world, place)
    if batch.status == CONFIRMED:
        if batch.statement is not None and batch.statement[1] == bets:
            return world
        raise JournalConflict("the batch is Confirmed with another statement")
    if (number, bets) != (batch.number, live_bets(world, place)):
        raise JournalConflict("the statement is not about the batch as it stands")
    return _written(world, place, batch._replace(statement=(number, bets)))


def record_attempt(
    world: World, place: int, attempt_number: int, attempt: Attempt, sent_as: int | None
) -> tuple[World, int]:
    """Keeps a signed attempt, or answers the one that has its number already; with its place among all that were signed.

    `sent_as`: its place if it is among them before it is kept, which only a search without a rule lets happen.
    """
    batch = batch_of(world, place)
    kept = dict(batch.attempts).get(attempt_number)
    if kept is not None:
        return world, kept
    if batch.statement is None:
        raise BatchUnknown("the journal holds no statement of what is signed")
    if (attempt.number, attempt.bets) != (batch.number, batch.statement[1]):
        raise JournalConflict("the attempt is not signed for the batch's number and recorded statement")
    if sent_as is None:
        world = world._replace(signed=(*world.signed, attempt))
    at = len(world.signed) - 1 if sent_as is None else sent_as
    return _written(world, place, batch._replace(attempts=(*batch.attempts, (attempt_number, at)))), at


def restore_attempts(world: World, place: int, lost: tuple[int, ...]) -> World:
    """Puts back what the history knows and the journal has lost."""
    batch = batch_of(world, place)
    kept = {at for _, at in batch.attempts}
    for at in lost:
        if at not in kept:
            number = max((number for number, _ in batch.attempts), default=-1) + 1
            batch = batch._replace(attempts=(*batch.attempts, (number, at)))
    return world if batch == world.batches[place] else _written(world, place, batch)


def confirm(world: World, place: int, landing: int, sequence: int) -> World:
    """Marks the batch Confirmed and its remaining bets settled."""
    batch = batch_of(world, place)
    if batch.landing == landing:
        return world
    if batch.landing is not None:
        raise JournalConflict("the batch has landed otherwise")
    if batch.statement is None:
        raise BatchUnknown("the journal holds no statement of what was proven")
    if batch.statement[1] != live_bets(world, place):
        raise JournalConflict("the batch does not conserve money")
    if _is_recorded(batch, sequence, CONFIRMED):
        raise JournalConflict("the batch is Confirmed already, but without a landing")
    bets = tuple(
        bet._replace(status=SETTLED) if bet.owner == place and bet.status == CLAIMED else bet for bet in world.bets
    )
    return _written(world._replace(bets=bets), place, _appended(batch, sequence, CONFIRMED)._replace(landing=landing))


def _is_recorded(batch: Batch, sequence: int, status: int) -> bool:
    if sequence > batch.sequence:
        return False
    if batch.transitions[sequence] == GAP:
        return False
    if batch.transitions[sequence] != status:
        raise JournalConflict(f"transition {sequence} is recorded otherwise")
    return True


def _appended(batch: Batch, sequence: int, status: int) -> Batch:
    if sequence < batch.sequence:
        raise JournalConflict("the transition is missing, but a later one is there")
    if sequence > batch.sequence + 1 and not may_follow(batch.status, status):
        raise BatchUnknown("the journal has lost what was between")
    check(batch.status, status)
    gap = (GAP,) * (sequence - len(batch.transitions))
    return batch._replace(transitions=(*batch.transitions, *gap, status))


def _written(world: World, place: int, batch: Batch) -> World:
    return world._replace(batches=replaced(world.batches, place, batch))
