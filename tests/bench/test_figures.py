"""Rates, windows and percentiles are what they are said to be."""

import pytest

from bench.figures import TooShort, percentile, rate_of, split, steady_window, tenths


def test_a_steady_rate_leaves_out_how_a_run_begins_and_ends() -> None:
    ramp_up = [(float(second), 1) for second in range(20)]
    steady = [(20.0 + second, 10) for second in range(60)]
    drain = [(80.0 + 5 * second, 2) for second in range(10)]
    assert steady_window(ramp_up + steady + drain).rate == pytest.approx(10)


def test_the_first_batch_of_a_window_only_tells_when_it_begins() -> None:
    window = steady_window([(0.0, 100), (1.0, 100), (2.0, 100), (3.0, 100), (4.0, 100)])
    assert (window.start, window.end, window.done) == (0.0, 3.0, 300)


@pytest.mark.parametrize("done", [[], [(0.0, 5)], [(0.0, 5), (0.0, 5), (0.0, 5), (0.0, 5), (0.0, 5)]])
def test_no_rate_is_claimed_of_a_run_too_short_to_have_a_middle(done: list[tuple[float, int]]) -> None:
    with pytest.raises(TooShort, match="too few to tell a rate"):
        steady_window(done)
    with pytest.raises(TooShort, match="too few to tell early from late"):
        tenths(done)


def test_a_run_that_slows_down_shows_it_from_tenth_to_tenth() -> None:
    moments = [0.0]
    for number in range(100):
        moments.append(moments[-1] + 1 + number / 100)
    rates = tenths([(at, 50) for at in moments])
    assert len(rates) == 10
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] / rates[0] == pytest.approx(1.045 / 1.945, rel=0.01)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, percent) for percent in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([7.0], 50) == percentile([7.0], 99) == 7
    with pytest.raises(ValueError, match="of nothing"):
        percentile([], 50)


def test_what_came_first_is_told_apart_from_the_rest_which_begins_when_it_ends() -> None:
    done = [(float(at), 50) for at in range(10)]
    first, rest = split(done, 125)
    assert (first[-1], rest[0], rest[-1]) == ((2.0, 50), (2.0, 50), (9.0, 50))
    assert rate_of(first) == rate_of(rest) == 50
    with pytest.raises(TooShort):
        split(done, 501)
    with pytest.raises(TooShort):
        rate_of(done[:1])
