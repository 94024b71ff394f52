"""Takes single rules of the transaction manager away from one stage's workers, to show that its scenario then fails."""

import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Final

import pytest

from ledger import judging
from ledger.adapter import SolanaLedger
from ledger.rpc import EpochInfo, SignatureStatus
from ledger.statuses import is_expired
from settlement.batches import Landing, Proof, SignedAttempt, Standing, Statement, Verdict
from settlement.errors import AlreadySettled, BatchNumberTaken

IMPATIENCE_SECONDS: Final = 1.0

Defect = Callable[[SolanaLedger], None]

_believes_stale_answers: ContextVar[bool] = ContextVar("believes_stale_answers", default=False)
"""Where it is set, the judge takes the word of a node whatever slot it answers as of."""


def patch_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the judge's rule on slots removable; without a defect nothing changes."""
    testimony: Any = getattr(judging, "_Testimony")  # noqa: B009 - private to anybody but who removes its rules
    lag = testimony.lag.fget

    def expired(status: SignatureStatus | None, slot: int, last_valid: int, finalized: EpochInfo) -> bool:
        if _believes_stale_answers.get():
            slot = max(slot, finalized.absolute_slot)
        return is_expired(status, slot, last_valid, finalized)

    monkeypatch.setattr(judging, "is_expired", expired)
    monkeypatch.setattr(testimony, "lag", property(lambda seen: None if _believes_stale_answers.get() else lag(seen)))


def believes_stale_answers(ledger: SolanaLedger) -> None:
    """Removes: what a node does not know counts only as of a slot that is at or above what was called finalized before."""
    judge = ledger.judge

    async def judged(*arguments: Any, **named: Any) -> Verdict:
        _believes_stale_answers.set(True)
        return await judge(*arguments, **named)

    _replace(ledger, "judge", judged)


def sends_before_it_keeps(sent: list[SignedAttempt]) -> Defect:
    """Removes: signed bytes are durable before they are sent. `sent`: takes them."""

    def defect(ledger: SolanaLedger) -> None:
        sign = ledger.sign

        async def signed_and_sent(statement: Statement, proof: Proof, attempt: int) -> SignedAttempt:
            signed = await sign(statement, proof, attempt)
            await ledger.broadcast(signed)
            sent.append(signed)
            return signed

        _replace(ledger, "sign", signed_and_sent)

    return defect


def takes_confirmed_for_final(ledger: SolanaLedger) -> None:
    """Removes: what is not final may be undone."""
    judge = ledger.judge

    async def judged(*arguments: Any, **named: Any) -> Verdict:
        verdict = await judge(*arguments, **named)
        return verdict.model_copy(update={"final": True})

    _replace(ledger, "judge", judged)


def renumbers_what_is_its_own(ledger: SolanaLedger) -> None:
    """Removes: a record of this number with this batch's root is this batch, settled."""
    sign = ledger.sign

    async def signed(statement: Statement, proof: Proof, attempt: int) -> SignedAttempt:
        try:
            return await sign(statement, proof, attempt)
        except AlreadySettled as settled:
            raise BatchNumberTaken(str(settled)) from settled

    _replace(ledger, "sign", signed)


def takes_any_record_for_its_own(ledger: SolanaLedger) -> None:
    """Removes: a record of this number with another root is another batch."""
    sign, judge = ledger.sign, ledger.judge

    async def signed(statement: Statement, proof: Proof, attempt: int) -> SignedAttempt:
        try:
            return await sign(statement, proof, attempt)
        except BatchNumberTaken as taken:
            raise AlreadySettled(str(taken)) from taken

    async def judged(statement: Statement, attempts: Sequence[SignedAttempt], *, at_finality: bool = False) -> Verdict:
        try:
            return await judge(statement, attempts, at_finality=at_finality)
        except BatchNumberTaken:
            record = await ledger.batch_record(statement.lane, statement.number)
            assert record is not None
            landing = Landing(signature="unknown", slot=record.slot, compute_units=None, fee_lamports=None)
            return Verdict(standing=Standing.SETTLED, landing=landing, final=True)

    _replace(ledger, "sign", signed)
    _replace(ledger, "judge", judged)


def takes_a_time_out_for_a_refusal(ledger: SolanaLedger) -> None:
    """Removes: nothing is signed anew, under whatever number, on the word of the clock."""
    judge = ledger.judge
    first: dict[int, float] = {}

    async def judged(statement: Statement, attempts: Sequence[SignedAttempt], *, at_finality: bool = False) -> Verdict:
        verdict = await judge(statement, attempts, at_finality=at_finality)
        asked_for = time.monotonic() - first.setdefault(statement.number, time.monotonic())
        if verdict.standing is Standing.PENDING and asked_for > IMPATIENCE_SECONDS:
            raise BatchNumberTaken("it has not landed for so long that it never will")
        return verdict

    _replace(ledger, "judge", judged)


def _replace(ledger: SolanaLedger, method: str, by: Callable[..., Any]) -> None:
    setattr(ledger, method, by)
