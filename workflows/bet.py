"""The tracked door: one workflow per bet, whose id deduplicates, whose result is the receipt, and which the Web UI can look up."""

import contextlib
from datetime import timedelta
from typing import Any, Final

from pydantic import BaseModel, ConfigDict
from temporalio import workflow
from temporalio.common import RawValue

with workflow.unsafe.imports_passed_through():
    from activities.placing import Placing
    from activities.receipts import Receipts
    from activities.recording import Recording
    from settlement.bets import Bet, Rejection, RejectionReason, excerpt, parse_bet
    from settlement.errors import InvalidBet
    from settlement.intake import Answer, BetOutcome
    from settlement.receipts import Receipt
    from workflows import mending, names, policies, visibility
    from workflows.payloads import NOTHING, decoded, only_argument, text_of

FIRST_LOOK: Final = timedelta(seconds=15)
LONGEST_LOOK: Final = timedelta(minutes=10)
"""A bet whose batch is silent asks the journal by itself, at intervals that double from the first to the longest."""

NO_LANE: Final = -1
"""Stands in a rejection for the lane of what could not be read as a bet."""


class BatchNews(BaseModel):
    """What a Settlement tells a bet: which batch it is in. `final`: there is, or will be soon, a receipt to read."""

    model_config = ConfigDict(frozen=True)

    batch_id: str
    lane: int
    number: int | None
    final: bool


class BetProgress(BaseModel):
    """The answer to the `status` query. `state`: one of received, queued, batched, settled, rejected."""

    model_config = ConfigDict(frozen=True)

    state: str
    bet: Bet | None
    batch_id: str | None
    number: int | None
    receipt: Receipt | None


@workflow.defn(name=names.BET_WORKFLOW)
class BetWorkflow:
    """Workflow `bet-<bet_id>`: takes a bet as JSON, returns its `Receipt`."""

    @workflow.init
    def __init__(self, payload: RawValue = NOTHING) -> None:
        self._payload = payload
        self._bet: Bet | None = None
        self._state = "received"
        self._news: BatchNews | None = None
        self._receipt: Receipt | None = None
        self._shown: tuple[str, int, int | None] | None = None

    @workflow.run
    async def run(self, payload: RawValue = NOTHING) -> Receipt:
        try:
            bet = parse_bet(decoded(payload))
            if workflow.info().workflow_id != names.bet_workflow_id(bet.bet_id):
                raise InvalidBet(
                    RejectionReason.MALFORMED,
                    f"the workflow id must be {names.bet_workflow_id(bet.bet_id)}",
                    bet.bet_id,
                )
        except InvalidBet as error:
            return await self._reject_unread(error)
        self._bet = bet
        outcome = await mending.until_mended(
            lambda: workflow.execute_activity_method(
                Placing.place_bet,
                bet,
                start_to_close_timeout=policies.SHORT_CALL_TIMEOUT,
                retry_policy=policies.RETRY_UNTIL_DONE,
                summary=f"stake {bet.stake}",
            ),
            self._show_trouble,
        )
        if outcome.answer is Answer.REJECTED:
            return self._finish(_rejected(bet, outcome))
        self._show("queued", "in its lane's queue")
        return self._finish(await self._wait_for_receipt(bet))

    @workflow.signal
    def news(self, *arguments: Any) -> None:
        """A Settlement's word on this bet's batch. Takes any arguments: a wrong number would fail every workflow task."""
        news = only_argument(BatchNews, arguments)
        if news is None:
            return
        self._news = news
        if self._receipt is None:
            self._show_batch(news.batch_id, news.lane, news.number)
            self._show("batched", f"batch number {news.number}: workflow `{news.batch_id}`")

    @workflow.query
    def status(self) -> BetProgress:
        """Where the bet is now."""
        return BetProgress(
            state=self._state,
            bet=self._bet,
            batch_id=self._news.batch_id if self._news else None,
            number=self._news.number if self._news else None,
            receipt=self._receipt,
        )

    async def _wait_for_receipt(self, bet: Bet) -> Receipt:
        look = FIRST_LOOK
        while True:
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(
                    lambda: self._news is not None and self._news.final, timeout=look, timeout_summary="look by itself"
                )
            receipt = await mending.until_mended(
                lambda: workflow.execute_activity_method(
                    Receipts.read_receipt,
                    bet,
                    start_to_close_timeout=policies.SHORT_CALL_TIMEOUT,
                    retry_policy=policies.RETRY_UNTIL_DONE,
                    summary=bet.bet_id,
                ),
                self._show_trouble,
            )
            if receipt is not None:
                return receipt
            if self._news is not None and self._news.final:
                # The batch that spoke left this bet to an earlier one, which does not know this workflow.
                self._news = self._news.model_copy(update={"final": False})
            look = min(look * 2, LONGEST_LOOK)
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(self._payload)

    async def _reject_unread(self, error: InvalidBet) -> Receipt:
        reason = RejectionReason(error.reason)
        rejection = Rejection(
            rejection_id=str(workflow.uuid4()),
            lane=NO_LANE,
            bet_id=error.bet_id,
            reason=reason,
            detail=error.detail,
            payload=excerpt(text_of(self._payload)),
            at=workflow.now(),
        )
        await mending.until_mended(
            lambda: workflow.execute_activity_method(
                Recording.record_rejections,
                [rejection],
                start_to_close_timeout=policies.SHORT_CALL_TIMEOUT,
                retry_policy=policies.RETRY_UNTIL_DONE,
                summary=f"rejected: {reason}",
            ),
            self._show_trouble,
        )
        return self._finish(Receipt(bet_id=error.bet_id or "", status="rejected", reason=reason, detail=error.detail))

    def _finish(self, receipt: Receipt) -> Receipt:
        self._receipt = receipt
        if receipt.batch_id is not None and receipt.lane is not None:
            self._show_batch(receipt.batch_id, receipt.lane, receipt.number)
        where = f"batch number {receipt.number}: workflow `{receipt.batch_id}`" if receipt.batch_id else ""
        self._show(receipt.status, " ".join(part for part in (receipt.reason, receipt.detail, where) if part))
        return receipt

    def _show_batch(self, batch_id: str, lane: int, number: int | None) -> None:
        shown = (batch_id, lane, number)
        if shown == self._shown:
            return
        self._shown = shown
        visibility.show(visibility.LANE.value_set(lane), visibility.BATCH_ID.value_set(batch_id))
        if number is not None:
            visibility.show(visibility.BATCH_NUMBER.value_set(number))

    def _show_trouble(self, trouble: str) -> None:
        self._show(self._state, trouble)

    def _show(self, state: str, detail: str) -> None:
        self._state = state
        workflow.set_current_details(f"**{state}** {detail}")


def _rejected(bet: Bet, outcome: BetOutcome) -> Receipt:
    return Receipt(bet_id=bet.bet_id, status="rejected", bet=bet, reason=outcome.reason, detail=outcome.detail)
