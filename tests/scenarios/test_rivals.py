"""Two that settle the same at once, and records that somebody else has made: each bet is settled once."""

import pytest

from settlement.lifecycle import BatchStatus
from tests.scenarios.audit import each_settled_once
from tests.scenarios.company import scenario
from tests.scenarios.mortal import When
from tests.scenarios.stage import Stage, bet, eventually, usual_bets
from workflows.settlement import Settlement


@pytest.mark.parametrize(
    ("when", "step"),
    [
        pytest.param(When.BEFORE, "journal.claim", marks=pytest.mark.slow),
        pytest.param(When.BEFORE, "journal.record_transition Proving", marks=pytest.mark.slow),
        (When.BEFORE, "journal.record_attempt"),
        (When.BEFORE, "ledger.broadcast"),
        pytest.param(When.BEFORE, "journal.confirm", marks=pytest.mark.slow),
    ],
)
@scenario
async def test_a_worker_given_up_for_dead_goes_on_beside_the_one_in_its_place(
    stage: Stage, when: When, step: str
) -> None:
    lost = stage.script.cut_off(step, when)
    bets = usual_bets()
    await stage.place(bets)
    await lost.reached()
    again = stage.script.hold(step, When.AFTER)
    await again.reached()

    # Both are at work on the same batch now, one of them unheard.
    lost.resume()
    again.resume()
    await stage.decided(bets)

    await each_settled_once(stage, bets)


@pytest.mark.parametrize("step", ["ledger.broadcast", pytest.param("journal.record_attempt", marks=pytest.mark.slow)])
@scenario
async def test_a_worker_given_up_for_dead_goes_on_after_all_is_settled(stage: Stage, step: str) -> None:
    lost = stage.script.cut_off(step)
    bets = usual_bets()
    await stage.place(bets)
    await lost.reached()
    await stage.decided(bets)
    done = len(stage.script.passed)

    lost.resume()
    await stage.passes(step, since=done)

    await each_settled_once(stage, bets)


@scenario
async def test_two_temporal_servers_settle_the_same_batch_on_one_journal(stage: Stage) -> None:
    other = await stage.open_branch()
    bets = usual_bets()
    both = [await stage.start_batch(bets), await stage.start_batch(bets, client=other)]

    async def ended() -> bool:
        stands = [(await settlement.query(Settlement.status)).status for settlement in both]
        for settlement, status in zip(both, stands, strict=True):
            # Each finds in the journal what it has not written. That is for a person to look at, who finds nothing amiss.
            if status is BatchStatus.FAILED:
                await settlement.signal(Settlement.retry)
        return set(stands) == {BatchStatus.CONFIRMED}

    await eventually("both call the batch Confirmed", ended)
    await each_settled_once(stage, bets)


@scenario
async def test_a_rival_attempt_has_made_the_record_of_this_batch(stage: Stage) -> None:
    signing = stage.script.hold("ledger.sign")
    bets = usual_bets()
    await stage.place(bets)
    await signing.reached()
    rival = await stage.rival(bets, 1)
    signing.resume()

    await stage.decided(bets)

    batch = await stage.reaches(bets, BatchStatus.CONFIRMED)
    assert batch.landing is not None
    assert batch.landing.signature == rival.signature
    assert await stage.attempts(bets) == []
    await each_settled_once(stage, bets)


@pytest.mark.parametrize("step", [pytest.param("ledger.sign", marks=pytest.mark.slow), "ledger.broadcast"])
@scenario
async def test_a_rival_has_made_a_record_of_other_bets_under_this_number(stage: Stage, step: str) -> None:
    held = stage.script.hold(step)
    bets, others = usual_bets(), [bet("other-1", 3, 50_000), bet("other-2", 4, 600_000, won=True)]
    await stage.place(bets)
    await held.reached()
    await stage.rival(others, 1)
    held.resume()

    await stage.decided(bets)

    assert (await stage.reaches(bets, BatchStatus.CONFIRMED)).number == 2
    await each_settled_once(stage, bets, foreign=[others])
