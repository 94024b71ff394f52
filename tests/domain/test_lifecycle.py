"""A batch's life has six states and only these transitions."""

import itertools

import pytest

from settlement.errors import IllegalTransition
from settlement.lifecycle import LEGAL_TRANSITIONS, BatchStatus, check_transition

PENDING, PROVING, PROVED, SUBMITTED, CONFIRMED, FAILED = BatchStatus
LEGAL = {
    (PENDING, PROVING),
    (PROVING, PROVED),
    (PROVED, SUBMITTED),
    (SUBMITTED, CONFIRMED),
    # Settled by a rival run of the same batch.
    (PENDING, CONFIRMED),
    (PROVING, CONFIRMED),
    (PROVED, CONFIRMED),
    # Claimed again, for the answer was lost.
    (PROVING, PENDING),
    # Refused by the chain.
    (PROVED, PENDING),
    (SUBMITTED, PENDING),
    # Parked, and woken.
    (PENDING, FAILED),
    (PROVING, FAILED),
    (PROVED, FAILED),
    (SUBMITTED, FAILED),
    (FAILED, PENDING),
    (FAILED, SUBMITTED),
}


def test_the_states_have_the_names_that_people_and_the_journal_know() -> None:
    assert [status.value for status in BatchStatus] == [
        "Pending",
        "Proving",
        "Proved",
        "Submitted",
        "Confirmed",
        "Failed",
    ]


@pytest.mark.parametrize(("current", "following"), list(itertools.product(BatchStatus, repeat=2)))
def test_only_legal_transitions_are_let_through(current: BatchStatus, following: BatchStatus) -> None:
    if (current, following) in LEGAL:
        check_transition(current, following)
        return
    with pytest.raises(IllegalTransition, match=f"from {current} to {following}"):
        check_transition(current, following)


def test_confirmed_is_final_and_can_be_reached_from_every_other_state() -> None:
    assert not LEGAL_TRANSITIONS[CONFIRMED]
    reaching: set[BatchStatus] = {CONFIRMED}
    while more := {current for current, next_ones in LEGAL_TRANSITIONS.items() if next_ones & reaching} - reaching:
        reaching |= more
    assert reaching == set(BatchStatus)
