"""What the journal answers: in order, within bounds, and the whole truth of what was written."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from journal.adapter import SqlJournal
from journal.database import Database
from journal.reading import MAX_ROWS_PER_READ
from journal.tables import batches
from settlement.batches import BetStatus, ClaimedBatch
from settlement.bets import RejectionReason
from settlement.lifecycle import BatchStatus
from settlement.reconciliation import Finding, FindingKind, ReconciliationReport
from tests.journal.samples import (
    LANE,
    NOON,
    PLAYERS,
    bet,
    claim,
    landing,
    proof,
    refusal,
    rejection,
    some_bets,
    statement,
    step,
)


async def _settle(journal: SqlJournal, claimed: ClaimedBatch) -> None:
    await journal.record_transition(claimed.batch_id, step(1, BatchStatus.PROVING))
    await journal.record_statement(claimed.batch_id, statement(claimed), proof(statement(claimed)))
    await journal.confirm(claimed.batch_id, landing(claimed), step(2, BatchStatus.CONFIRMED))


async def test_what_is_not_there_is_none_or_empty(journal: SqlJournal) -> None:
    assert await journal.bet("nobody") is None
    assert await journal.bet("no\0body\ud800") is None
    assert await journal.batch("settlement-0-none") is None
    assert await journal.bets_of("settlement-0-none") == []
    assert await journal.claimed_bets("settlement-0-none") == 0
    assert await journal.batches(LANE, 0, 10) == []
    assert await journal.players_waiting(LANE, 10, []) == []
    assert await journal.rejections(10) == []


async def test_batches_of_a_lane_are_paged_by_number(journal: SqlJournal) -> None:
    claimed = [await journal.claim(claim(some_bets(1, f"b{n}"))) for n in range(5)]
    await journal.claim(claim(some_bets(1, "elsewhere"), lane=LANE + 1))
    first = await journal.batches(LANE, 0, 3)
    assert [summary.batch_id for summary in first] == [batch.batch_id for batch in claimed[:3]]
    second = await journal.batches(LANE, first[-1].number, 3)
    assert [summary.batch_id for summary in second] == [batch.batch_id for batch in claimed[3:]]
    assert second[0] == await journal.batch(claimed[3].batch_id)


async def test_a_read_sees_one_state_while_others_write(url: str, journal: SqlJournal) -> None:
    database = Database(url)
    count = select(func.count()).select_from(batches)
    async with database.read() as connection:
        assert await connection.scalar(count) == 0
        await journal.claim(claim(some_bets(1)))
        assert await connection.scalar(count) == 0
    async with database.read() as connection:
        assert await connection.scalar(count) == 1
    await database.close()


async def test_recent_batches_are_of_all_lanes_newest_first(journal: SqlJournal) -> None:
    ids: list[str] = []
    for n in range(4):
        asked = claim(some_bets(1, f"b{n}"), lane=n % 2)
        later = asked.transition.model_copy(update={"at": NOON + timedelta(seconds=n)})
        ids.append((await journal.claim(asked.model_copy(update={"transition": later}))).batch_id)
    assert [summary.batch_id for summary in await journal.recent_batches(3)] == ids[:0:-1]


async def test_players_wait_for_earlier_batches_of_their_lane_that_are_not_confirmed(journal: SqlJournal) -> None:
    settled = await journal.claim(claim([bet("settled", player=0)]))
    await _settle(journal, settled)
    failed = await journal.claim(claim([bet("failed", player=1)]))
    await journal.record_transition(failed.batch_id, step(1, BatchStatus.FAILED))
    ejected = await journal.claim(claim([bet("ejected", player=2)]))
    await journal.eject(ejected.batch_id, [refusal(ejected.bets[0])], ejected.sequence, 0)
    await journal.claim(claim([bet("other lane".replace(" ", "-"), player=3)], lane=LANE + 1))
    await journal.claim(claim([bet("pending", player=4)]))
    mine = await journal.claim(claim([bet(f"mine-{n}", player=n) for n in range(6)]))
    assert await journal.players_waiting(LANE, mine.number, PLAYERS[5::-1]) == [PLAYERS[4], PLAYERS[1]]
    assert await journal.players_waiting(LANE, failed.number, PLAYERS) == []


async def test_rejections_are_told_newest_first_whether_of_a_batch_or_of_none(journal: SqlJournal) -> None:
    await journal.record_rejections([rejection("old"), rejection("new", at=NOON + timedelta(minutes=1))])
    claimed = await journal.claim(claim([bet("a"), bet("b")]))
    await journal.eject(claimed.batch_id, [refusal(claimed.bets[1], "the vault is empty")], claimed.sequence, 0)
    in_batch, *rest = await journal.rejections(10)
    assert (in_batch.bet_id, in_batch.reason, in_batch.detail) == (
        "b",
        RejectionReason.UNCOVERED,
        "the vault is empty",
    )
    assert in_batch.rejection_id == f"{claimed.batch_id}/1"
    assert '"stake":100' in in_batch.payload
    assert rest == [rejection("new", at=NOON + timedelta(minutes=1)), rejection("old")]
    assert await journal.rejections(2) == [in_batch, rest[0]]


async def test_rejections_of_one_bet_id_are_found_among_all_others(journal: SqlJournal) -> None:
    refused_at_the_door = rejection("door").model_copy(update={"bet_id": "b"})
    await journal.record_rejections([refused_at_the_door, rejection("nameless")])
    claimed = await journal.claim(claim([bet("a"), bet("b")]))
    await journal.eject(claimed.batch_id, [refusal(found) for found in claimed.bets], claimed.sequence, 0)
    in_batch, *rest = await journal.rejections(10, bet_id="b")
    assert in_batch.rejection_id == f"{claimed.batch_id}/1"
    assert rest == [refused_at_the_door]
    assert await journal.rejections(1, bet_id="b") == [in_batch]
    assert await journal.rejections(10, bet_id="nobody") == []


async def test_a_rejection_recorded_twice_is_there_once_as_first_told(journal: SqlJournal) -> None:
    await journal.record_rejections([rejection("a", detail="first"), rejection("a", detail="same call")])
    await journal.record_rejections([rejection("a", detail="second"), rejection("b")])
    await journal.record_rejections([])
    assert sorted((found.rejection_id, found.detail) for found in await journal.rejections(10)) == [
        ("a", "first"),
        ("b", "no lane"),
    ]


async def test_counts_cover_every_bet_and_every_rejection(journal: SqlJournal) -> None:
    await _settle(journal, await journal.claim(claim(some_bets(3))))
    claimed = await journal.claim(claim([bet("x"), bet("y"), bet("bet-0", stake=9)]))
    await journal.eject(claimed.batch_id, [refusal(claimed.bets[0])], claimed.sequence, 0)
    await journal.record_rejections([rejection("a"), rejection("b")])
    counts = await journal.counts()
    assert counts.bets == {BetStatus.SETTLED: 3, BetStatus.CLAIMED: 1, BetStatus.REJECTED: 1}
    assert counts.rejections == {
        RejectionReason.UNCOVERED: 1,
        RejectionReason.CONFLICT: 1,
        RejectionReason.MALFORMED: 2,
    }


def _report(run_id: str, lane: int, minute: int, findings: int) -> ReconciliationReport:
    return ReconciliationReport(
        run_id=run_id,
        lane=lane,
        at=NOON + timedelta(minutes=minute),
        batches=9,
        batches_compared=7,
        players_compared=3,
        open_batches=1,
        findings=tuple(
            Finding(kind=FindingKind.NOT_ON_CHAIN, subject=f"batch {n}", journal="Confirmed", chain="nothing")
            for n in range(findings)
        ),
    )


async def test_reports_are_told_newest_first_with_their_findings(journal: SqlJournal) -> None:
    reports = [_report("one", 1, 0, 12), _report("one", 2, 1, 0), _report("two", 1, 2, 2)]
    for report in reports:
        await journal.record_reconciliation(report)
    assert await journal.latest_reconciliations(2) == [reports[2], reports[1]]
    assert await journal.latest_reconciliations(10) == reports[::-1]
    assert await journal.latest_reconciliations(1, lane=2) == [reports[1]]


async def test_the_first_report_of_a_run_and_lane_stays(journal: SqlJournal) -> None:
    first = _report("one", 1, 0, 2)
    for report in (first, first, _report("one", 1, 5, 3)):
        await journal.record_reconciliation(report)
    assert await journal.latest_reconciliations(10) == [first]


async def test_a_read_beyond_its_bound_is_refused(journal: SqlJournal) -> None:
    too_many = MAX_ROWS_PER_READ + 1
    for read in (
        journal.recent_batches(too_many),
        journal.batches(LANE, 0, too_many),
        journal.rejections(too_many),
        journal.latest_reconciliations(too_many),
        journal.players_waiting(LANE, 1, PLAYERS[:1] * too_many),
        journal.recent_batches(-1),
    ):
        with pytest.raises(ValueError, match="outside 0…1000"):
            await read


async def test_unsettled_batches_are_those_with_bets_that_may_still_cost(journal: SqlJournal) -> None:
    mine, other = bet("mine", player=0), bet("other", player=1)
    both = await journal.claim(claim([mine, other]))
    later = await journal.claim(claim([bet("later", player=1)]))
    await journal.claim(claim([bet("elsewhere", player=0)], lane=LANE + 1))

    async def of(player: str | None) -> list[str]:
        return [batch.batch_id for batch in await journal.unsettled_batches(LANE, player, 10)]

    assert await of(PLAYERS[0]) == [both.batch_id]
    assert await of(PLAYERS[1]) == await of(None) == [both.batch_id, later.batch_id]
    assert await of(PLAYERS[2]) == []
    assert len(await journal.unsettled_batches(LANE, None, 1)) == 1

    await journal.eject(both.batch_id, [refusal(mine)], 0, 0)
    assert await of(PLAYERS[0]) == [], "a rejected bet costs nothing"
    await journal.record_transition(later.batch_id, step(1, BatchStatus.FAILED))
    assert await of(PLAYERS[1]) == [both.batch_id, later.batch_id], "a parked batch may be retried"
    await _settle(journal, await journal.claim(claim([bet("done", player=3)])))
    assert await of(PLAYERS[3]) == []
