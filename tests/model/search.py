"""Visits every state that can be reached, breadth first, so that what leads to a violation is as short as can be."""

import gc
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from settlement.errors import IllegalTransition
from tests.model.protocol import Protocol
from tests.model.world import World

MAX_STATES = 2_000_000
"""A search that goes beyond is endless: something counts without a bound."""


@dataclass(frozen=True)
class Search:
    """What was visited. `violation` and `trace`: what is wrong, if anything is, and the steps to it from the start."""

    states: int
    transitions: int
    violation: str | None = None
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.states} states, {self.transitions} transitions"]
        lines += [f"{number:3} {step}" for number, step in enumerate(self.trace, start=1)]
        return "\n".join([*lines, f"    violates: {self.violation}"] if self.violation else lines)


def explore(
    protocol: Protocol,
    violated: Callable[[World], str | None],
    over: Callable[[World], bool],
    *,
    for_dead_ends: bool = True,
) -> Search:
    """Searches until a state is `violated`, or everything is visited; then for states from which none that is `over` can be reached."""
    # A million small tuples, none of which is garbage: collecting takes longer than searching.
    gc.disable()
    try:
        return _explored(protocol, violated, over, for_dead_ends=for_dead_ends)
    finally:
        gc.enable()


def _explored(
    protocol: Protocol, violated: Callable[[World], str | None], over: Callable[[World], bool], *, for_dead_ends: bool
) -> Search:
    start = protocol.start()
    ids: dict[World, int] = {start: 0}
    worlds = [start]
    parents = array("q", [-1])
    labels: list[str] = [""]
    heads, tails = array("q"), array("q")

    def found(what: str, at: int, *steps: str) -> Search:
        trace = list(reversed(steps))
        while at > 0:
            trace.append(labels[at])
            at = parents[at]
        return Search(len(worlds), len(heads), what, tuple(reversed(trace)))

    at = 0
    while at < len(worlds):
        world = worlds[at]
        try:
            for label, following in protocol.steps(world):
                known = ids.get(following)
                if known is None:
                    known = ids[following] = len(worlds)
                    worlds.append(following)
                    parents.append(at)
                    labels.append(label)
                    if what := violated(following):
                        return found(what, known)
                heads.append(at)
                tails.append(known)
        except IllegalTransition as error:
            return found(str(error), at, "the workflow changes its status")
        if len(worlds) > MAX_STATES:
            raise RuntimeError("endless")
        at += 1
    if for_dead_ends and (dead := _first_dead_end([over(world) for world in worlds], heads, tails)) is not None:
        return found("no end can be reached from here", dead)
    return Search(len(worlds), len(heads))


def _first_dead_end(alive: list[bool], heads: Sequence[int], tails: Sequence[int]) -> int | None:
    """The first state that leads to none of those that are `alive`."""
    before: list[list[int]] = [[] for _ in alive]
    for head, tail in zip(heads, tails, strict=True):
        before[tail].append(head)
    waiting = [at for at, lives in enumerate(alive) if lives]
    while waiting:
        for head in before[waiting.pop()]:
            if not alive[head]:
                alive[head] = True
                waiting.append(head)
    return next((at for at, lives in enumerate(alive) if not lives), None)
