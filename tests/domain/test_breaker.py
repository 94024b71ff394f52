"""A lane's circuit breaker: when it opens, when one batch is tried, and what closes it."""

from datetime import UTC, datetime, timedelta

from settlement.breaker import FIRST_PROBE_AFTER, LONGEST_PROBE_AFTER, Breaker, BreakerStatus

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def stuck(*batch_ids: str, opens_after: int = 3) -> Breaker:
    breaker = Breaker()
    for batch_id in batch_ids:
        breaker.note_stuck(batch_id, "no node answers", NOON, opens_after)
    return breaker


def test_so_many_different_settlements_in_a_row_open_it_and_one_alone_does_not_however_often_it_says_so() -> None:
    assert stuck("a", "a", "a", "b").status is BreakerStatus.CLOSED
    assert stuck("a", "b", "c").status is BreakerStatus.OPEN


def test_a_settlement_that_closes_in_between_begins_the_row_anew() -> None:
    breaker = stuck("a", "b")
    breaker.note_closed()
    breaker.note_stuck("c", "", NOON, 3)
    assert breaker.status is BreakerStatus.CLOSED


def test_a_batch_that_is_cut_while_it_is_open_is_the_one_tried() -> None:
    breaker = stuck("a", "b", "c")
    assert breaker.probe_at == NOON + FIRST_PROBE_AFTER
    breaker.note_cut("d")
    assert breaker.status is BreakerStatus.PROBING
    breaker.note_stuck("a", "", NOON, 3)
    assert breaker.status is BreakerStatus.PROBING


def test_each_batch_that_gets_stuck_when_tried_doubles_the_wait_up_to_a_bound() -> None:
    breaker, now = stuck("a", "b", "c"), NOON
    waits: list[timedelta] = []
    for n in range(7):
        assert breaker.probe_at is not None
        waits.append(breaker.probe_at - now)
        now = breaker.probe_at
        breaker.note_cut(f"probe-{n}")
        breaker.note_stuck(f"probe-{n}", "", now, 3)
        assert breaker.status is BreakerStatus.OPEN
    assert waits[:3] == [FIRST_PROBE_AFTER, 2 * FIRST_PROBE_AFTER, 4 * FIRST_PROBE_AFTER]
    assert waits[-1] == LONGEST_PROBE_AFTER


def test_any_settlement_that_closes_closes_it_be_it_the_one_tried_or_one_that_was_stuck() -> None:
    breaker = stuck("a", "b", "c")
    breaker.note_closed()
    assert breaker == Breaker()
