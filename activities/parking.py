"""Keeps in the journal the bets that a lane's queue has no room for, and gives them back in the order of their coming.

Writing, reading and removing are activities of their own: that a page was read stands in the Batcher's history before anything is removed,
so a crash between any two of them neither loses nor doubles a bet.
"""

from pydantic import BaseModel, ConfigDict
from temporalio import activity

from activities.errors import application_errors
from settlement.lanes import ParkedPage, Parking, QueuedBet
from settlement.ports import Journal


class ParkRequest(BaseModel):
    """Bets to park behind those that the lane has parked. `above`: positions up to this one were given before, and taken."""

    model_config = ConfigDict(frozen=True)

    lane: int
    above: int
    bets: tuple[QueuedBet, ...]


class ParkedRequest(BaseModel):
    """Asks for a lane's first parked bets above a position."""

    model_config = ConfigDict(frozen=True)

    lane: int
    above: int
    limit: int


class UnparkRequest(BaseModel):
    """Parked bets up to a position that the lane has taken."""

    model_config = ConfigDict(frozen=True)

    lane: int
    up_to: int


class ParkingPlace:
    """Activities on the journal's parked bets. Doing any of them twice is harmless."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @activity.defn
    async def park_bets(self, request: ParkRequest) -> Parking:
        """Writes those that the journal does not know."""
        with application_errors():
            return await self._journal.park(request.lane, request.above, request.bets)

    @activity.defn
    async def read_parked_bets(self, request: ParkedRequest) -> ParkedPage:
        """The next page; it changes nothing."""
        with application_errors():
            return await self._journal.parked(request.lane, request.above, request.limit)

    @activity.defn
    async def unpark_bets(self, request: UnparkRequest) -> None:
        """Removes what was taken."""
        with application_errors():
            await self._journal.unpark(request.lane, request.up_to)
