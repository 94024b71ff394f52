"""The settlement protocol, searched exhaustively within bounds: no crash, fault or delay loses money, moves it twice or ends nowhere.

How much was searched stands in the summary; `pytest -s tests/model` prints for each rule what happens without it. What is left out:
cover across batches (tests/workflow/test_cover_order.py), blocks of several transactions, slots without a block, bets' contents.
"""

from collections.abc import Callable
from typing import Final

import pytest

from settlement.lifecycle import LEGAL_TRANSITIONS
from tests.conftest import SHOWN
from tests.model import invariants, journal
from tests.model.protocol import Protocol
from tests.model.search import Search, explore
from tests.model.world import STATUSES, Bounds, Budget, Rule

ALL: Final = frozenset(Rule)
ONE_BET: Final = (0b1,)
TWO_BETS: Final = (0b11,)
SHARED_BET: Final = (0b11, 0b10)
"""Two batches, one of which has a bet of the other's."""

SEARCHES: Final = {
    "crashes": Bounds(TWO_BETS, Budget(crashes=2, drains=1, refills=1), max_attempts=2, unfinal_blocks=1),
    "given up for dead": Bounds(ONE_BET, Budget(overtakings=1, drains=1, refills=1), max_attempts=1, unfinal_blocks=1),
    "forks": Bounds(TWO_BETS, Budget(forks=1, drains=1, refills=1), max_attempts=2),
    "rival record": Bounds(TWO_BETS, Budget(foreign=1, forks=1, crashes=1), max_attempts=2),
    "parked": Bounds(ONE_BET, Budget(troubles=1, crashes=1), max_attempts=2, unfinal_blocks=1),
    "parked, given up": Bounds(ONE_BET, Budget(troubles=1, overtakings=1), max_attempts=1, unfinal_blocks=1),
    "shared bet": Bounds(SHARED_BET, Budget(), max_attempts=2, unfinal_blocks=1),
    "same bet": Bounds((0b1, 0b1), Budget(crashes=1), max_attempts=1, unfinal_blocks=1),
    "liar": Bounds(ONE_BET, Budget(denials=2), max_attempts=2, unfinal_blocks=1),
    "history lost, liar of two": Bounds(
        ONE_BET, Budget(wipes=1, denials=1, drains=1), max_attempts=1, unfinal_blocks=1, two_nodes=True
    ),
    "history lost, forks": Bounds(ONE_BET, Budget(wipes=1, forks=1, drains=1, refills=1), max_attempts=1),
    "history lost, lags": Bounds(
        ONE_BET, Budget(wipes=1, lags=1, drains=1), max_attempts=1, unfinal_blocks=1, kept_blocks=2
    ),
    "journal restored": Bounds(ONE_BET, Budget(restores=1), max_attempts=2, unfinal_blocks=1),
}
"""What may go wrong, and how often: each of these is searched to its end."""

RESTORED_AND_DRAINED: Final = Bounds(ONE_BET, Budget(restores=1, drains=1, refills=1), max_attempts=2, unfinal_blocks=1)
"""Larger than its worth as a search of its own."""

LEAST_STATES: Final = 350_000
"""That all searches visit together: far fewer, and something no longer happens in the model."""
LEAST_TRANSITIONS: Final = 1_100_000

TWICE: Final = "a bet's money moves twice"
REJECTED: Final = "a rejected bet is settled"
UNFOUNDED: Final = "a batch is Confirmed without a final record of its bets"
DEAD_END: Final = "no end can be reached from here"

NEEDED: Final[dict[tuple[Rule, ...], tuple[str, str]]] = {
    (Rule.DURABLE_BEFORE_BROADCAST,): ("rival record", TWICE),
    # Held by what nodes say of their slots as well: it is what is left where a node says nothing true of it.
    (Rule.ORDER_OF_READS, Rule.CONTEXT_SLOTS): ("history lost, forks", REJECTED),
    (Rule.CONTEXT_SLOTS,): ("history lost, lags", REJECTED),
    (Rule.FINALIZED_HEIGHT,): ("history lost, forks", REJECTED),
    (Rule.EXPIRY_PROOF,): ("history lost, forks", REJECTED),
    (Rule.FINALITY,): ("forks", UNFOUNDED),
    (Rule.ROOT_COMPARISON,): ("rival record", UNFOUNDED),
    (Rule.JUDGED_ATTEMPTS,): ("given up for dead", REJECTED),
    # Held by the attempts that were judged as well.
    (Rule.EJECT_FENCE, Rule.JUDGED_ATTEMPTS): ("given up for dead", REJECTED),
    (Rule.DEDUPE_BY_CLAIM,): ("same bet", UNFOUNDED),
    (Rule.UNIQUE_NUMBERS,): ("same bet", "two batches have one number"),
    (Rule.MARKER,): ("liar", TWICE),
    (Rule.TWO_NODES,): ("history lost, liar of two", REJECTED),
    (Rule.ONLY_WHAT_FOLLOWS,): ("parked", "a batch cannot go from Confirmed to Failed"),
    (Rule.RETRY,): ("parked", DEAD_END),
    (Rule.HISTORY,): ("", REJECTED),
}
"""By the rules that are left out: where that is found, and what goes wrong."""


def searched(bounds: Bounds, without: tuple[Rule, ...] = ()) -> Search:
    """A search to the end, or to what is violated."""
    return explore(
        Protocol(bounds, ALL - set(without)),
        invariants.violated,
        lambda world: invariants.over(world, bounds) or invariants.cut(world, bounds),
    )


@pytest.fixture(scope="module")
def searches() -> dict[str, Search]:
    """Every search with all rules."""
    return {name: searched(bounds) for name, bounds in SEARCHES.items()}


@pytest.mark.parametrize("name", SEARCHES)
def test_no_disturbance_moves_money_twice_settles_what_was_rejected_or_leads_nowhere(
    searches: dict[str, Search], name: str, record_property: Callable[[str, object], None]
) -> None:
    found = searches[name]
    bounds = SEARCHES[name]
    disturbed = ", ".join(f"{count} {what}" for what, count in bounds.budget._asdict().items() if count)
    record_property(SHOWN, f"{name}: up to {disturbed or 'nothing'}, {bounds.max_attempts} attempts: {found}")
    assert found.violation is None, str(found)


def test_so_much_was_searched_that_it_means_something(
    searches: dict[str, Search], record_property: Callable[[str, object], None]
) -> None:
    states = sum(found.states for found in searches.values())
    transitions = sum(found.transitions for found in searches.values())
    record_property(SHOWN, f"in all {states} states, {transitions} transitions")
    assert states >= LEAST_STATES
    assert transitions >= LEAST_TRANSITIONS


@pytest.mark.usefixtures("searches")
def test_every_transition_that_the_domain_allows_is_taken_in_some_run() -> None:
    allowed = {
        (STATUSES.index(current), STATUSES.index(following))
        for current, others in LEGAL_TRANSITIONS.items()
        for following in others
    }
    never = [
        f"{STATUSES[current]} → {STATUSES[following]}" for current, following in allowed - journal.taken_transitions
    ]
    assert not never, f"no run needs {never}: take it out of settlement/lifecycle.py, or find the run"


@pytest.mark.parametrize("without", NEEDED, ids=lambda rules: " and ".join(rule.name.lower() for rule in rules))
def test_without_a_rule_the_search_finds_what_the_rule_prevents(without: tuple[Rule, ...]) -> None:
    name, expected = NEEDED[without]
    found = searched(SEARCHES.get(name, RESTORED_AND_DRAINED), without)
    print(f"\nwithout: {'; '.join(without)}\n{found}")
    assert found.violation == expected
    assert found.trace or expected == DEAD_END


def test_a_journal_set_back_at_any_step_of_a_batch_needs_no_person() -> None:
    assert searched(SEARCHES["journal restored"], (Rule.RETRY,)).violation is None


def test_every_rule_is_shown_to_be_needed() -> None:
    assert {rule for rules in NEEDED for rule in rules} == ALL


def test_the_order_of_reads_is_enough_where_no_node_lags_but_none_says_its_slot() -> None:
    assert searched(SEARCHES["history lost, forks"], (Rule.CONTEXT_SLOTS,)).violation is None
