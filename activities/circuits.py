"""Reads from the ledger which circuits are registered, for workers that cannot ask it themselves."""

from temporalio import activity

from activities.errors import application_errors
from settlement.circuits import RegisteredCircuits
from settlement.ports import Ledger


class CircuitReading:
    """The activity. It changes nothing."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @activity.defn
    async def read_circuits(self) -> RegisteredCircuits:
        """What the chain holds now."""
        with application_errors():
            return await self._ledger.circuits()
