"""A worker dies on either side of every durable step of a batch's way: the next one goes on, and each bet is settled once."""

import pytest

from tests.scenarios.audit import each_settled_once
from tests.scenarios.company import scenario
from tests.scenarios.mortal import When
from tests.scenarios.stage import Stage, usual_bets

MOMENTS = [
    ("claim", When.BEFORE, "journal.claim"),
    ("claim", When.AFTER, "journal.claim"),
    pytest.param("claim", When.AFTER, "journal.record_transition Proving", marks=pytest.mark.slow),
    ("prove", When.BEFORE, "prover.prove"),
    ("prove", When.AFTER, "prover.prove"),
    pytest.param("sign", When.AFTER, "journal.record_transition Proved", marks=pytest.mark.slow),
    pytest.param("sign", When.AFTER, "journal.record_statement", marks=pytest.mark.slow),
    ("sign", When.BEFORE, "journal.record_attempt"),
    ("sign", When.AFTER, "journal.record_attempt"),
    ("submit", When.BEFORE, "ledger.broadcast"),
    ("submit", When.AFTER, "ledger.broadcast"),
    pytest.param("submit", When.AFTER, "journal.record_transition Submitted", marks=pytest.mark.slow),
    ("confirm", When.BEFORE, "journal.confirm"),
    ("confirm", When.AFTER, "journal.confirm"),
]
"""Between any two of them nothing durable happens."""


@pytest.mark.parametrize(("activity", "when", "step"), MOMENTS)
@scenario
async def test_a_worker_dies_before_or_after_a_durable_step(stage: Stage, activity: str, when: When, step: str) -> None:
    del activity
    death = stage.script.kill(step, when)
    bets = usual_bets()
    await stage.place(bets)

    await death.reached()
    await stage.decided(bets)

    await each_settled_once(stage, bets)
