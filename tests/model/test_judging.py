"""The model's judge says what `SolanaLedger.judge` says, whatever a node shows of one attempt and of the record."""

import itertools
from typing import Any, Final

from ledger.program_errors import ProgramError
from ledger.transactions import SETTLE_POSITION
from settlement.errors import BatchNumberTaken, JournalConflict, LedgerUnavailable, VaultUncovered
from tests.ledger.panel import Panel, panel_of
from tests.ledger.scripted import FINALIZED_SLOT, LAST_VALID, RECORD_SLOT
from tests.model.protocol import Protocol, Verdict
from tests.model.world import FOREIGN, Attempt, Bounds, Budget, Rule, Run, Try

UNCOVERED: Final = {"InstructionError": [SETTLE_POSITION, {"Custom": int(ProgramError.VAULT_UNCOVERED)}]}
STATUSES: Final = {
    "unknown": None,
    "landed, not final": ("confirmed", None),
    "landed": ("finalized", None),
    "failed, not final": ("confirmed", UNCOVERED),
    "failed": ("finalized", UNCOVERED),
}
SLOT: Final = 10
RAISED: Final = {
    BatchNumberTaken: Verdict.TAKEN,
    VaultUncovered: Verdict.UNCOVERED,
    JournalConflict: Verdict.CONFLICT,
    LedgerUnavailable: Verdict.UNAVAILABLE,
}


def in_model(passed: bool, status: str, lags: bool, record: int | None, record_lags: bool) -> Verdict:
    protocol = Protocol(Bounds((0b1,), Budget()), frozenset(Rule))
    world = protocol.start()._replace(signed=(Attempt(batch=0, number=1, bets=1, expires=SLOT - passed),))
    read = Try("confirm", "judge record", Run(), number=1, bets=1, attempts=1, place=0)._replace(
        finalized=SLOT,
        passed=int(passed),
        status_slot=SLOT - lags,
        unknown=int(status == "unknown"),
        landed=int(status == "landed"),
        failed=int(status == "failed"),
    )
    return protocol.verdict(world, protocol.with_dead(read)._replace(record=record, record_slot=SLOT - record_lags))


async def by_ledger(
    panel: Panel, passed: bool, status: str, lags: bool, record: int | None, record_lags: bool
) -> Verdict:
    [chain] = panel.chains
    chain.heights["finalized"] = LAST_VALID + passed
    chain.status_slot, chain.record_slot = FINALIZED_SLOT - lags, FINALIZED_SLOT - record_lags
    chain.statuses.clear()
    known: tuple[str, Any] | None = STATUSES[status]
    if known is not None:
        chain.knows(panel.attempt, known[0], known[1])
    root = panel.statement.bets_root
    chain.roots = dict.fromkeys(chain.roots, None if record is None else root if record == 1 else root - 1)
    chain.history = [{"signature": panel.attempt.signature, "slot": RECORD_SLOT, "err": None}]
    try:
        return Verdict[(await panel.standing()).name]
    except (BatchNumberTaken, VaultUncovered, JournalConflict, LedgerUnavailable) as error:
        return RAISED[type(error)]


async def test_the_models_judge_and_the_ledgers_agree_on_whatever_a_node_shows() -> None:
    seen: set[Verdict] = set()
    async with panel_of(1) as panel:
        for passed, status, lags, record, record_lags in itertools.product(
            (False, True), STATUSES, (False, True), (None, 1, FOREIGN), (False, True)
        ):
            if lags and status == "failed":
                continue  # The ledger does not take the word of a node that lags; the model takes what is final for that.
            expected = in_model(passed, status, lags, record, record_lags)
            said = await by_ledger(panel, passed, status, lags, record, record_lags)
            assert said is expected, (passed, status, lags, record, record_lags)
            seen.add(said)
    assert seen == set(Verdict) - {Verdict.CONFLICT}, (
        "a batch whose own attempt has settled other bets needs two of them"
    )
