"""Whatever order claims, ejections and confirmations come in, each bet is in one place and the money sums to zero."""

from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from journal.adapter import SqlJournal
from settlement.batches import BetStatus, Claim
from settlement.bets import Bet
from settlement.errors import JournalConflict
from settlement.lifecycle import BatchStatus
from tests.journal.samples import bet, claim, landing, proof, refusal, statement, step

EXAMPLES = 25
BET_IDS = 6

# Few ids and stakes, so that bets collide with the same and with other content.
drawn_bets = st.tuples(st.integers(0, BET_IDS - 1), st.integers(0, 2), st.integers(1, 2), st.booleans())
claims = st.tuples(st.just("claim"), st.lists(drawn_bets, min_size=1, max_size=5))
later = st.tuples(st.sampled_from(["claim again", "prove", "eject", "confirm"]), st.integers(0, 20))

_lanes = count()


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(commands=st.lists(st.one_of(claims, later), max_size=12))
async def test_each_bet_has_one_fate_and_money_is_conserved(
    journal: SqlJournal, commands: list[tuple[str, list[tuple[int, int, int, bool]] | int]]
) -> None:
    lane = next(_lanes)
    asked: list[Claim] = []
    fates: dict[str, tuple[Bet, BetStatus]] = {}
    for command, argument in commands:
        if isinstance(argument, list):
            asked.append(
                claim([bet(f"{lane}-{n}", player, stake, won=won) for n, player, stake, won in argument], lane)
            )
            for found in asked[-1].bets:
                fates.setdefault(found.bet_id, (found, BetStatus.CLAIMED))
            await journal.claim(asked[-1])
        elif asked:
            chosen = asked[argument % len(asked)]
            before = await journal.claim(chosen)
            if command == "eject" and before.bets:
                out = before.bets[argument % len(before.bets)]
                if fates[out.bet_id][1] == BetStatus.SETTLED:
                    with pytest.raises(JournalConflict):
                        await journal.eject(chosen.batch_id, [refusal(out)], before.sequence, 0)
                else:
                    await journal.eject(chosen.batch_id, [refusal(out)], before.sequence, 0)
                    fates[out.bet_id] = (out, BetStatus.REJECTED)
            elif command == "prove" and before.status == BatchStatus.PENDING:
                await journal.record_transition(chosen.batch_id, step(before.sequence + 1, BatchStatus.PROVING))
            elif command == "confirm" and before.bets:
                if fates[before.bets[0].bet_id][1] == BetStatus.CLAIMED:
                    await journal.record_statement(chosen.batch_id, statement(before), proof(statement(before)))
                await journal.confirm(
                    chosen.batch_id, landing(before), step(before.sequence + 1, BatchStatus.CONFIRMED)
                )
                fates.update({found.bet_id: (found, BetStatus.SETTLED) for found in before.bets})
            assert (await journal.claim(chosen)).number == before.number

    records = {bet_id: await journal.bet(bet_id) for bet_id in fates}
    assert {bet_id: (record.bet, record.status) for bet_id, record in records.items() if record is not None} == fates
    for claimed in asked:
        answer = await journal.claim(claimed)
        # Nothing silent: each bet that was sent is settled here, refused here, or a duplicate.
        assert len(answer.bets) + len(answer.refused) + len(answer.duplicates) == len(claimed.bets)
    held = await journal.batches(lane, 0, 100)
    assert [summary.number for summary in held] == list(range(1, len({one.batch_id for one in asked}) + 1))
    house = sum(summary.house_delta for summary in held if summary.status == BatchStatus.CONFIRMED)
    assert house + sum(found.delta for found, status in fates.values() if status == BetStatus.SETTLED) == 0
