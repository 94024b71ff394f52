"""A journal that was changed behind the system's back is caught by `starter.py reconcile`, and only then."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator

import pytest

from settlement.bets import Bet
from tests.e2e.machine import Machine

Tamper = Callable[[str], None]


@pytest.fixture
def tamper(machine: Machine) -> Iterator[Tamper]:
    """Changes the journal by SQL; after the test it is as it was."""
    with (
        contextlib.closing(sqlite3.connect(machine.var / "journal.db")) as journal,
        contextlib.closing(sqlite3.connect(":memory:")) as copy,
    ):
        journal.backup(copy)

        def changed(statement: str) -> None:
            with journal:
                assert journal.execute(statement).rowcount == 1

        yield changed
        journal.rollback()
        copy.backup(journal)


async def check_agreed(machine: Machine) -> None:
    done = await machine.starter("reconcile")
    assert (done.status, done.err) == (0, "")
    assert "lane 0: agreed" in done.out


async def test_changed_stake_of_a_settled_bet(machine: Machine, settled: Bet, tamper: Tamper) -> None:
    batch_id = await machine.batch_of(settled)
    tamper(f"UPDATE bets SET stake = stake + 1 WHERE bet_id = '{settled.bet_id}'")

    done = await machine.starter("reconcile")

    assert (done.status, done.err) == (1, "")
    assert f"root_differs {batch_id}" in done.out
    assert f"balance_differs {settled.player} in {batch_id}" in done.out
    assert f"house_delta_differs {batch_id}" in done.out


async def test_confirmed_batch_that_is_not_on_chain(machine: Machine, settled: Bet, tamper: Tamper) -> None:
    batch = await machine.batch(await machine.batch_of(settled))
    tamper(f"UPDATE batches SET number = number + 1000 WHERE batch_id = '{batch.batch_id}'")

    done = await machine.starter("reconcile")

    assert (done.status, done.err) == (1, "")
    assert f"not_on_chain {batch.batch_id}" in done.out
    assert f"not_in_journal lane 0, number {batch.number}" in done.out


async def test_restored_journal_agrees_again(machine: Machine, settled: Bet) -> None:
    await machine.settled([settled])
    await check_agreed(machine)


async def test_what_has_happened_cannot_be_rewritten_by_accident(
    machine: Machine, settled: Bet, tamper: Tamper
) -> None:
    batch_id = await machine.batch_of(settled)
    for change in (
        f"UPDATE transitions SET status = 'Failed' WHERE batch_id = '{batch_id}' AND sequence = 0",
        f"DELETE FROM attempts WHERE batch_id = '{batch_id}'",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            tamper(change)
