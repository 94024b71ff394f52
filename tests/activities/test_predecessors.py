"""A claim waits, for a while, until the batches cut before it are claimed, by this worker or by another."""

import asyncio
from collections.abc import Sequence
from typing import Final

import pytest

from activities import claiming
from activities.claiming import Claiming, ClaimOutcome, ClaimRequest
from settlement.batches import batch_id
from settlement.bets import Bet
from tests.activities.test_fencing import Bank, run
from tests.workflow.casino import LANE, bet

EARLIER: Final = (bet("earlier", player=0),)
LATEST: Final = (bet("latest", player=1),)
LATER: Final = (bet("later", player=0),)
FOREVER_SECONDS: Final = 600.0


def request(bets: tuple[Bet, ...], *after: tuple[Bet, ...]) -> ClaimRequest:
    """The claim of a batch that was cut after others."""
    return ClaimRequest(
        batch_id=batch_id(LANE, bets),
        lane=LANE,
        bets=bets,
        pending_detail="",
        taken=None,
        after=tuple(batch_id(LANE, others) for others in after),
    )


async def test_a_claim_goes_on_as_soon_as_the_batches_cut_before_it_are_claimed_here(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "PREDECESSOR_SECONDS", FOREVER_SECONDS)
    monkeypatch.setattr(claiming, "POLL_SECONDS", FOREVER_SECONDS)
    activity, asked = Claiming(bank.journal, bank.ledger), asyncio.Event()
    unknown = bank.journal.unknown

    async def counted(batch_ids: Sequence[str]) -> list[str]:
        answer = await unknown(batch_ids)
        asked.set()
        return answer

    monkeypatch.setattr(bank.journal, "unknown", counted)
    later = asyncio.create_task(run(activity.claim_batch, request(LATER, EARLIER, LATEST)))
    await asyncio.wait_for(asked.wait(), 30)
    for bets in (LATEST, EARLIER):
        assert (await run(activity.claim_batch, request(bets))).number
    outcome = await asyncio.wait_for(later, 30)
    assert (outcome.number, outcome.settling) == (3, 1)


async def test_what_another_worker_has_claimed_is_seen_a_moment_later(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "PREDECESSOR_SECONDS", FOREVER_SECONDS)
    monkeypatch.setattr(claiming, "POLL_SECONDS", 0.01)
    later = asyncio.create_task(run(Claiming(bank.journal, bank.ledger).claim_batch, request(LATER, EARLIER)))
    await asyncio.sleep(0)
    await run(Claiming(bank.journal, bank.ledger).claim_batch, request(EARLIER))
    assert (await asyncio.wait_for(later, 30)).number == 2


async def test_a_claim_says_after_a_while_which_batch_it_waits_for_and_has_claimed_nothing(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "PREDECESSOR_SECONDS", 0.05)
    monkeypatch.setattr(claiming, "POLL_SECONDS", 0.01)
    outcome: ClaimOutcome = await run(Claiming(bank.journal, bank.ledger).claim_batch, request(LATER, EARLIER))
    assert (outcome.number, outcome.statement) == (None, None)
    assert batch_id(LANE, EARLIER) in outcome.waiting_for
    assert await bank.journal.batch(batch_id(LANE, LATER)) is None
