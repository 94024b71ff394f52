"""What a lane tells a metrics system: gauges of what it holds and counters of what it has answered, each with the lane's number.

Names: `croupier_lane_queued_bets`, `croupier_lane_parked_bets`, `croupier_lane_batches_in_flight`, `croupier_lane_breaker` (0 closed,
1 probing, 2 open), `croupier_lane_bets_accepted`, `croupier_lane_bets_duplicate`, `croupier_lane_bets_rejected`. A gauge is that of the
worker that runs the lane's Batcher; nothing is told while a workflow replays.
"""

from typing import Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from settlement.breaker import BreakerStatus
    from settlement.lanes import BatcherState, Counters

BREAKER_LEVELS: Final = {BreakerStatus.CLOSED: 0, BreakerStatus.PROBING: 1, BreakerStatus.OPEN: 2}


class LaneMetrics:
    """One lane's metrics. `told`: what the counters stand at already."""

    def __init__(self, lane: int, told: Counters) -> None:
        meter = workflow.metric_meter().with_additional_attributes({"lane": str(lane)})
        self._queued = meter.create_gauge("croupier_lane_queued_bets", "bets that wait to be cut into a batch")
        self._parked = meter.create_gauge("croupier_lane_parked_bets", "signalled bets that the queue has no room for")
        self._in_flight = meter.create_gauge("croupier_lane_batches_in_flight", "batches whose settlement is not done")
        self._breaker = meter.create_gauge("croupier_lane_breaker", "0 closed, 1 probing, 2 open")
        self._accepted = meter.create_counter("croupier_lane_bets_accepted", "bets that came into the queue")
        self._duplicates = meter.create_counter("croupier_lane_bets_duplicate", "bets that the lane knew already")
        self._rejected = meter.create_counter("croupier_lane_bets_rejected", "bets refused with a reason")
        self.take_as_told(told)

    def take_as_told(self, counters: Counters) -> None:
        """Another run has counted these."""
        self._told = counters.model_copy()

    def tell(self, state: BatcherState) -> None:
        """Tells what the lane holds, and what it has answered since it was told last."""
        self._queued.set(len(state.queue))
        self._parked.set(state.parked + len(state.overflow))
        self._in_flight.set(len(state.in_flight))
        self._breaker.set(BREAKER_LEVELS[state.breaker.status])
        told, now = self._told, state.counters
        self._accepted.add(now.accepted - told.accepted)
        self._duplicates.add(now.duplicates - told.duplicates)
        self._rejected.add(now.rejected - told.rejected)
        self.take_as_told(now)
