"""The journal fails while a batch is on its way, or has forgotten it: each bet is settled once."""

import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from typing import Final

import pytest

from settlement.lifecycle import BatchStatus
from tests.scenarios.audit import each_settled_once
from tests.scenarios.company import scenario
from tests.scenarios.mortal import When
from tests.scenarios.stage import HEALTHY, JOURNAL, SHAPE, Stage, bet, eventually, usual_bets

READ_ONLY: Final = ("query_only = ON",)
FULL: Final = ("max_page_count = 1",)
"""No page more than the file has."""


@asynccontextmanager
async def locked(stage: Stage) -> AsyncGenerator[None]:
    """Another process writes, and does not end."""
    with closing(sqlite3.connect(stage.folder / JOURNAL, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@asynccontextmanager
async def read_only(stage: Stage) -> AsyncGenerator[None]:
    """SQLite refuses all writes."""
    stage.journal_pragmas = READ_ONLY
    yield
    stage.journal_pragmas = HEALTHY


@asynccontextmanager
async def full(stage: Stage) -> AsyncGenerator[None]:
    """SQLite has no room for another page, and none to spare."""
    with closing(sqlite3.connect(stage.folder / JOURNAL)) as other:
        other.execute("VACUUM")
    stage.journal_pragmas = FULL
    yield
    stage.journal_pragmas = HEALTHY


@pytest.mark.parametrize(
    ("step", "ail", "complaint"),
    [
        ("journal.claim", locked, "locked by another process"),
        pytest.param("journal.confirm", locked, "locked by another process", marks=pytest.mark.slow),
        pytest.param("journal.record_attempt", read_only, "read-only", marks=pytest.mark.slow),
        ("journal.confirm", read_only, "read-only"),
        ("journal.claim", full, "disk is full"),
    ],
)
@scenario
async def test_the_journal_takes_no_writes_for_a_while(
    stage: Stage, step: str, ail: Callable[[Stage], AbstractAsyncContextManager[None]], complaint: str
) -> None:
    held = stage.script.hold(step, When.BEFORE)
    # So many and so long that they need another page.
    bets = [bet(f"bet-{n:060}", n % 6, 1_000 + n) for n in range(SHAPE.bets)]
    await stage.place(bets)
    await held.reached()

    async with ail(stage):
        held.resume()
        await eventually("the journal has refused", lambda: stage.complains(bets, complaint))
    await stage.decided(bets)

    await each_settled_once(stage, bets)


@scenario
async def test_the_journal_is_restored_from_a_copy_older_than_a_batch_on_its_way(stage: Stage) -> None:
    """The workflow knows what the journal has lost: number, attempts and bets."""
    older = stage.copy_journal()
    sent = stage.script.hold("ledger.broadcast", When.AFTER)
    bets = usual_bets()
    await stage.place(bets)
    await sent.reached()
    stage.restore_journal(older)
    sent.resume()

    await stage.decided(bets)

    await each_settled_once(stage, bets)


@scenario
async def test_the_journal_is_restored_from_a_copy_older_than_a_settled_batch(stage: Stage) -> None:
    """Nothing new is numbered before the reconciliation has put back what only the chain knows."""
    older = stage.copy_journal()
    bets, more = usual_bets(), [bet("more-1", 3, 70), bet("more-2", 0, 800, won=True)]
    await stage.place(bets)
    await stage.decided(bets)
    await stage.idle()
    stage.restore_journal(older)
    await stage.place(more)
    await stage.reaches_anywhere(more, BatchStatus.FAILED)
    assert await stage.journal.bet(more[0].bet_id) is None, "no number was given"

    await stage.reconcile()
    await stage.decided([*bets, *more])

    await each_settled_once(stage, [*bets, *more])
