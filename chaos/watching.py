"""How far a run has come: what clients have sent, what was acknowledged, and what the journal calls settled; and when kills have healed.

For people and for knowing when to stop waiting. It decides nothing: that is the judge's.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import create_engine, func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from chaos.books import ACKNOWLEDGED, REFUSED, SENT, Shelf
from chaos.services import Service, State
from journal.tables import batches, bets
from settlement.batches import BetStatus
from settlement.lifecycle import BatchStatus

WATCH_SECONDS: Final = 0.5
"""Between looks, and so the error of a time to heal."""


@dataclass(frozen=True)
class Standing:
    """What there is at one moment. `unsettled`: acknowledged bets without a final batch; `final`: batches that are Confirmed."""

    sent: int
    acknowledged: int
    refused: int
    unsettled: int
    batches: dict[BatchStatus, int]

    @property
    def settled(self) -> int:
        return self.acknowledged - self.unsettled

    @property
    def final(self) -> int:
        return self.batches.get(BatchStatus.CONFIRMED, 0)


class Watch:
    """Reads the clients' books and the journal, and changes neither."""

    def __init__(self, books: Path, journal: Path) -> None:
        self._shelves = {kind: Shelf(books, kind) for kind in (SENT, ACKNOWLEDGED, REFUSED)}
        self._engine = create_engine(f"sqlite:///file:{journal}?mode=ro&uri=true", poolclass=NullPool)

    def look(self) -> Standing | None:
        """Blocks for some milliseconds. None if the journal cannot be read at this moment: a killed writer's log is being recovered."""
        acknowledged = self._shelves[ACKNOWLEDGED].ids()
        is_settled = bets.c.status == BetStatus.SETTLED
        try:
            with self._engine.connect() as connection:
                settled = set(connection.execute(select(bets.c.bet_id).where(is_settled)).scalars())
                by_status = connection.execute(select(batches.c.status, func.count()).group_by(batches.c.status)).all()
        except OperationalError:
            return None
        return Standing(
            sent=len(self._shelves[SENT].ids()),
            acknowledged=len(acknowledged),
            refused=len(self._shelves[REFUSED].ids()),
            unsettled=len(acknowledged - settled),
            batches={BatchStatus(status): count for status, count in by_status},
        )


@dataclass
class _Wound:
    service: Service
    starts: int
    at: float
    final_when_back: int | None = None


@dataclass
class Healing:
    """Times from a SIGKILL until the process serves again and, after that, a further batch has become final.

    Where no acknowledged bet waits to be settled, serving again is all there is to heal.
    """

    healed: int = 0
    longest_seconds: float = 0.0
    _open: list[_Wound] = field(default_factory=list[_Wound])

    @property
    def open(self) -> int:
        """Kills that have not healed."""
        return len(self._open)

    def hurt(self, service: Service) -> None:
        """To be told at the instant of the kill."""
        self._open.append(_Wound(service, service.starts, time.monotonic()))

    def look(self, standing: Standing) -> None:
        """Sees which wounds have closed by now."""
        now = time.monotonic()
        for wound in self._open.copy():
            self.longest_seconds = max(self.longest_seconds, now - wound.at)
            service = wound.service
            is_back = service.state is State.FINISHED or (
                service.state is State.READY and service.starts > wound.starts
            )
            if wound.final_when_back is None and is_back:
                wound.final_when_back = standing.final
            if wound.final_when_back is not None and (
                standing.unsettled == 0 or standing.final > wound.final_when_back
            ):
                self._open.remove(wound)
                self.healed += 1
