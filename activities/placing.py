"""Puts a tracked bet into its lane's queue."""

from temporalio import activity

from activities.errors import application_errors
from settlement.bets import Bet
from settlement.intake import BetOutcome
from settlement.ports import Intake


class Placing:
    """The activity between a `Bet` workflow and its lane's Batcher: back-pressure becomes a retry."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    @activity.defn
    async def place_bet(self, bet: Bet) -> BetOutcome:
        """Places the bet. Idempotent: the Batcher and the journal know it again by its id and content."""
        with application_errors():
            return await self._intake.place(bet, tracked=True)
