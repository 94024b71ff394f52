"""Takes over what an ended run of a lane's Batcher has left behind: a bet that it acknowledged must not be lost with it."""

from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict
from temporalio import activity

from activities.errors import application_errors
from activities.heartbeats import heartbeating
from settlement.lanes import Estate, LookBack, QueuedBet, UnheardSignals
from settlement.ports import Execution, Journal, Predecessors, Settlements

logger = structlog.get_logger(__name__)

OVERFLOW_PER_PAGE: Final = 1_000
"""Of the bets behind its queue; the first page comes along with what the run has left behind, all of which must be within 2 MB."""

REJECTIONS_PER_PAGE: Final = 50
"""Of a run that ended; one takes 12 KB at its worst, and a query's answer is limited to 2 MB."""


class UnheardRequest(BaseModel):
    """Asks for the signals of a run after the event `after`."""

    model_config = ConfigDict(frozen=True)

    lane: int
    run_id: str
    after: int


class OverflowRequest(BaseModel):
    """Asks for the bets behind the queue of a run from number `start` on."""

    model_config = ConfigDict(frozen=True)

    lane: int
    run_id: str
    start: int


class TakingOver:
    """Activities that read what ended runs of Batchers have left behind. They change nothing there."""

    def __init__(self, journal: Journal, predecessors: Predecessors, settlements: Settlements) -> None:
        self._journal = journal
        self._predecessors = predecessors
        self._settlements = settlements

    @activity.defn
    async def take_over(self, look: LookBack) -> Estate | None:
        """The estate of the latest run that ended, or None if there is none. Its rejections are brought into the journal here.

        Batches in flight whose Settlement has completed meanwhile are left out: it may have told nobody. One that ended otherwise
        stays, for the reconciliation to start it again.
        """
        with application_errors():
            async with heartbeating():
                run_id = await self._predecessors.latest(look)
                if run_id is None:
                    return None
                estate = await self._predecessors.estate(look.lane, run_id)
                if estate.state is None:
                    logger.error("lane_history_lost", lane=look.lane, run_id=run_id, why=estate.lost)
                    return estate
                left_behind = estate.state
                if not estate.unheard:
                    await self._bring_rejections(look.lane, run_id)
                    page = await self._predecessors.overflow(look.lane, run_id, 0, OVERFLOW_PER_PAGE)
                    left_behind = left_behind.model_copy(update={"overflow": page})
                in_flight = {
                    batch_id: bets
                    for batch_id, bets in estate.state.in_flight.items()
                    if await self._settlements.execution(batch_id) is not Execution.COMPLETED
                }
        logger.warning("lane_taken_over", lane=look.lane, run_id=run_id, queued=len(estate.state.queue))
        return estate.model_copy(update={"state": left_behind.model_copy(update={"in_flight": in_flight})})

    @activity.defn
    async def unheard_signals(self, request: UnheardRequest) -> UnheardSignals:
        """A page of the signals that a run was sent which no worker ever took up."""
        with application_errors():
            async with heartbeating():
                return await self._predecessors.unheard_signals(request.lane, request.run_id, request.after)

    @activity.defn
    async def overflow(self, request: OverflowRequest) -> list[QueuedBet]:
        """A page of the bets behind a run's queue."""
        with application_errors():
            return await self._predecessors.overflow(request.lane, request.run_id, request.start, OVERFLOW_PER_PAGE)

    @activity.defn
    async def done_of(self, batch_ids: list[str]) -> list[str]:
        """Those of the batches whose Settlement has completed, and so may have told its end to nobody who listened."""
        with application_errors():
            return [
                batch_id for batch_id in batch_ids if await self._settlements.execution(batch_id) is Execution.COMPLETED
            ]

    async def _bring_rejections(self, lane: int, run_id: str) -> None:
        start = 0
        while page := await self._predecessors.rejections(lane, run_id, start, REJECTIONS_PER_PAGE):
            await self._journal.record_rejections(page)
            start += len(page)
