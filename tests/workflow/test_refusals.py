"""What the chain refuses is taken out of its batch and recorded with its reason; the rest is proven again and settled."""

from settlement.batches import BetStatus, Statement, batch_id
from settlement.bets import RejectionReason
from settlement.errors import LedgerUnavailable, ProofRejected
from settlement.lifecycle import BatchStatus
from tests.workflow.casino import LANE, PLAYERS, STRANGER, Casino, bet, some_bets
from tests.workflow.fakes import Fate
from tests.workflow.test_settlement import ALL_THE_WAY, statuses
from workflows.settlement import Settlement


async def refusal(casino: Casino, bet_id: str) -> tuple[BetStatus, RejectionReason | None]:
    record = await casino.journal.bet(bet_id)
    assert record is not None
    return record.status, record.reason


async def test_a_bet_without_a_vault_is_ejected_and_the_rest_settles(casino: Casino) -> None:
    bets = some_bets(3)
    result = await casino.settle([bets[0], bet("homeless", player=STRANGER), *bets[1:]])
    assert (result.settled, result.refused) == (3, 1)
    assert await refusal(casino, "homeless") == (BetStatus.REJECTED, RejectionReason.NO_VAULT)
    (rejection,) = await casino.rejections(1)
    assert STRANGER in rejection.detail
    assert await statuses(casino) == ALL_THE_WAY
    await casino.assert_settled_once(bets)


async def test_an_uncovered_loss_is_ejected_and_the_player_s_other_bets_settle(casino: Casino) -> None:
    casino.ledger.fund_vault(LANE, PLAYERS[0], 150)
    covered = [bet("won", stake=100, won=True), bet("lost", stake=200), bet("other", player=1, stake=70)]
    too_much = bet("too-much", stake=100)
    result = await casino.settle([*covered, too_much])
    assert (result.settled, result.refused) == (3, 1)
    assert await refusal(casino, "too-much") == (BetStatus.REJECTED, RejectionReason.UNCOVERED)
    (rejection,) = await casino.rejections(1)
    assert "a loss of 100 lamports is not covered" in rejection.detail
    assert casino.ledger.balances[LANE, PLAYERS[0]] == 50
    await casino.assert_settled_once(covered)


async def test_an_uncovered_loss_waits_for_an_earlier_batch_that_may_cover_it(casino: Casino) -> None:
    casino.ledger.fund_vault(LANE, PLAYERS[0], 0)
    casino.ledger.fates.append(Fate.WAITS)
    win, loss = [bet("win", stake=100, won=True)], [bet("loss", stake=100), bet("other", player=1)]
    earlier = await casino.start_batch(win)
    await casino.reaches(win, BatchStatus.SUBMITTED)
    later = await casino.start_batch(loss)

    async def waiting() -> str:
        return (await casino.batch_status(loss)).waiting_for

    assert PLAYERS[0] in await casino.soon(waiting)
    casino.ledger.release()
    assert (await casino.result(earlier)).settled == 1
    assert (await casino.result(later)).settled == 2
    await casino.assert_settled_once([*win, *loss])


async def test_a_loss_that_the_earlier_batch_does_not_cover_is_ejected_once_that_is_final(casino: Casino) -> None:
    casino.ledger.fund_vault(LANE, PLAYERS[0], 100)
    casino.ledger.fates.append(Fate.WAITS)
    first, second = [bet("first", stake=100)], [bet("second", stake=100), bet("other", player=1)]
    earlier = await casino.start_batch(first)
    await casino.reaches(first, BatchStatus.SUBMITTED)
    # The vault still covers the second loss when it is claimed; it is refused when it is signed, or lands.
    casino.ledger.fates.append(Fate.WAITS)
    later = await casino.start_batch(second)
    await casino.reaches(second, BatchStatus.SUBMITTED)
    casino.ledger.release()
    assert (await casino.result(earlier)).settled == 1
    result = await casino.result(later)
    assert (result.settled, result.refused) == (1, 1)
    assert await refusal(casino, "second") == (BetStatus.REJECTED, RejectionReason.UNCOVERED)
    await casino.assert_settled_once([*first, second[1]])


def empty_vault_once(casino: Casino, player: str) -> None:
    """Lets a player withdraw everything right before the next transaction executes."""

    def withdraw(_: Statement) -> None:
        casino.ledger.on_broadcast = None
        casino.ledger.fund_vault(LANE, player, 0)

    casino.ledger.on_broadcast = withdraw


async def test_a_vault_emptied_before_signing_leads_back_to_pending_and_the_rest_settles(casino: Casino) -> None:
    casino.prover.gate.clear()
    bets = some_bets(3)[1:]
    doomed = bet("doomed", player=3)
    handle = await casino.start_batch([doomed, *bets])
    await casino.being_proven()
    casino.ledger.fund_vault(LANE, PLAYERS[3], 0)
    casino.prover.gate.set()
    result = await casino.result(handle)
    assert (result.settled, result.refused) == (2, 1)
    assert await refusal(casino, "doomed") == (BetStatus.REJECTED, RejectionReason.UNCOVERED)
    assert [len(statement.entries) for statement in casino.prover.proven] == [3, 2]
    assert await statuses(casino) == [*ALL_THE_WAY[:3], *ALL_THE_WAY]
    (batch,) = await casino.batches()
    assert batch.transitions[3].detail.startswith("VaultUncovered")
    await casino.assert_settled_once(bets)


async def test_a_failure_on_chain_leads_back_to_pending_and_the_rest_settles(casino: Casino) -> None:
    bets = some_bets(3)[1:]
    doomed = bet("doomed", player=3)
    empty_vault_once(casino, PLAYERS[3])
    result = await casino.settle([doomed, *bets])
    assert (result.settled, result.refused) == (2, 1)
    assert await refusal(casino, "doomed") == (BetStatus.REJECTED, RejectionReason.UNCOVERED)
    assert await statuses(casino) == [*ALL_THE_WAY[:4], *ALL_THE_WAY]
    assert casino.ledger.payments == 1
    await casino.assert_settled_once(bets)


async def test_a_batch_refused_again_and_again_settles_what_is_left(casino: Casino) -> None:
    bets = [bet(f"bet-{n}", player=n) for n in range(4)]
    emptied = iter(PLAYERS[:3])

    def withdraw(_: Statement) -> None:
        if player := next(emptied, None):
            casino.ledger.fund_vault(LANE, player, 0)

    casino.ledger.on_broadcast = withdraw
    result = await casino.settle(bets)
    assert (result.settled, result.refused) == (1, 3)
    await casino.assert_settled_once(bets[3:])


async def test_a_number_that_the_chain_has_given_away_is_replaced_at_the_next_claim(casino: Casino) -> None:
    casino.prover.script.fail("prove", ProofRejected("the proof does not verify"))
    bets = some_bets(3)
    handle = await casino.start_batch(bets)
    await casino.reaches(bets, BatchStatus.FAILED)
    for number in (1, 2, 3):
        casino.ledger.take_number(LANE, number)
    await handle.signal(Settlement.retry)
    result = await casino.result(handle)
    assert result.number == 4
    assert await statuses(casino) == [*ALL_THE_WAY[:2], BatchStatus.FAILED, *ALL_THE_WAY]
    assert [statement.number for statement in casino.prover.proven] == [4]
    assert casino.ledger.payments == 1


async def test_a_number_taken_while_it_was_proven_is_replaced_and_proven_again(casino: Casino) -> None:
    casino.prover.gate.clear()
    bets = some_bets(3)
    handle = await casino.start_batch(bets)
    await casino.being_proven()
    casino.ledger.take_number(LANE, 1)
    casino.prover.gate.set()
    result = await casino.result(handle)
    assert (result.number, result.settled) == (2, 3)
    assert [statement.number for statement in casino.prover.proven] == [1, 2]
    assert await statuses(casino) == [*ALL_THE_WAY[:3], *ALL_THE_WAY]
    assert casino.ledger.payments == 1


async def test_a_number_taken_before_the_attempt_landed_is_replaced_and_proven_again(casino: Casino) -> None:
    taken = False

    def take(statement: Statement) -> None:
        nonlocal taken
        if not taken:
            taken = True
            casino.ledger.take_number(statement.lane, statement.number)

    casino.ledger.on_broadcast = take
    bets = some_bets(3)
    result = await casino.settle(bets)
    assert (result.number, result.settled) == (2, 3)
    assert await statuses(casino) == [*ALL_THE_WAY[:4], *ALL_THE_WAY]
    assert casino.ledger.payments == 1


async def test_a_batch_of_duplicates_ends_failed_and_settles_nothing(casino: Casino) -> None:
    bets = some_bets(4)
    await casino.settle(bets)
    result = await casino.settle(bets[::-1])
    assert (result.status, result.settled, result.duplicates) == (BatchStatus.FAILED, 0, 4)
    assert result.landing is None
    batch = await casino.journal.batch(batch_id(LANE, bets[::-1]))
    assert batch is not None
    assert [(step.status, step.detail) for step in batch.transitions] == [
        (BatchStatus.PENDING, ""),
        (BatchStatus.FAILED, "no bet is left to settle"),
    ]
    assert casino.ledger.payments == 1
    await casino.assert_settled_once(bets)


async def test_a_batch_of_refused_bets_ends_failed_and_settles_nothing(casino: Casino) -> None:
    result = await casino.settle([bet("homeless", player=STRANGER), bet("too-much", stake=10**18)])
    assert (result.status, result.settled, result.refused) == (BatchStatus.FAILED, 0, 2)
    assert {rejection.reason for rejection in await casino.rejections(2)} == {
        RejectionReason.NO_VAULT,
        RejectionReason.UNCOVERED,
    }
    assert casino.ledger.payments == 0


async def test_a_batch_that_overlaps_another_settles_only_what_that_has_not(casino: Casino) -> None:
    bets = some_bets(5)
    await casino.settle(bets[:3])
    result = await casino.settle(bets[1:])
    assert (result.settled, result.duplicates) == (2, 2)
    await casino.assert_settled_once(bets)


async def test_no_bet_is_ejected_while_the_ledger_cannot_be_asked(casino: Casino) -> None:
    casino.ledger.fund_vault(LANE, PLAYERS[0], 50)
    casino.ledger.script.fail("judge", *[LedgerUnavailable("no answer")] * 5)
    handle = await casino.start_batch([bet("too-much", stake=100), bet("other", player=1)])

    async def asked() -> bool:
        return "judge" in casino.ledger.script.calls

    await casino.soon(asked)
    casino.ledger.fund_vault(LANE, PLAYERS[0], 100)
    result = await casino.result(handle)
    assert (result.settled, result.refused) == (2, 0)
