"""`SqlJournal`: the journal in one SQL database. Each method is one transaction; what it does stands in the modules beside this one."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Self

from journal import claiming, parking, progress, reading, reports, schema
from journal.database import Database
from journal.reading import JournalCounts
from settlement.batches import (
    BatchSummary,
    BetRecord,
    Claim,
    ClaimedBatch,
    Landing,
    PlayerSlot,
    Proof,
    RefusedBet,
    SignedAttempt,
    Statement,
)
from settlement.bets import Rejection
from settlement.errors import JournalMisconfigured
from settlement.lanes import ParkedPage, Parking, QueuedBet
from settlement.lifecycle import Transition
from settlement.reconciliation import ReconciliationReport


class SqlJournal:
    """Fulfils `settlement.ports.Journal`; where that says what a method does, it is not said again here.

    Any method may raise `JournalUnavailable` or `JournalMisconfigured`; writes about a batch raise `BatchUnknown` if there is no such
    batch. Safe to use from many tasks, processes and machines at once.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncGenerator[Self, None]:
        """The journal at `url` (see `Database`), which `journal.migrate.upgrade` has prepared.

        Raises `JournalMisconfigured` if there is none or of another schema version, `JournalUnavailable` if it does not answer.
        """
        database = Database(url)
        if database.path and not database.path.exists():
            raise JournalMisconfigured(
                f"journal {database.name}: there is no such file yet: run `python starter.py provision`"
            )
        try:
            await database.use_wal()
            async with database.read() as connection:
                schema.check(await schema.version(connection), database.name)
            yield cls(database)
        finally:
            await database.close()

    async def claim(self, claim: Claim) -> ClaimedBatch:
        """Raises `JournalConflict` if the batch was claimed before with other bets or on another lane."""
        async with self._database.write() as connection:
            return await claiming.claim(connection, claim)

    async def resume(
        self, batch_id: str, lane: int, transition: Transition, number: int | None, refused: Sequence[RefusedBet]
    ) -> ClaimedBatch:
        """Refusals of what never became a bet of the batch, and duplicates, are not told again: no row of the batch's has them."""
        async with self._database.write() as connection:
            return await claiming.resume(connection, batch_id, lane, transition, number, refused)

    async def record_transition(self, batch_id: str, transition: Transition) -> None:
        """Raises `IllegalTransition`, also for Confirmed, which only `confirm` records.

        `BatchUnknown` is raised also if it cannot follow because those between are missing; `JournalConflict` also if a later
        transition is recorded already.
        """
        async with self._database.write() as connection:
            await progress.record_transition(connection, batch_id, transition)

    async def eject(
        self, batch_id: str, refused: Sequence[RefusedBet], as_of_sequence: int, judged_attempts: int
    ) -> None:
        """Raises `JournalConflict` if a bet is settled or not of this batch. A recorded statement is forgotten: it is no longer true."""
        async with self._database.write() as connection:
            await progress.eject(connection, batch_id, refused, as_of_sequence, judged_attempts)

    async def renumber(self, batch_id: str, taken: int, above: int, as_of_sequence: int) -> int:
        """Raises `JournalConflict` if the batch is Confirmed as `taken`. A recorded statement is forgotten: it is no longer true."""
        async with self._database.write() as connection:
            return await progress.renumber(connection, batch_id, taken, above, as_of_sequence)

    async def record_statement(self, batch_id: str, statement: Statement, proof: Proof) -> None:
        """Raises `JournalConflict` if it is not about the batch's number and bets as they stand, net by net."""
        async with self._database.write() as connection:
            await progress.record_statement(connection, batch_id, statement, proof)

    async def record_attempt(self, batch_id: str, attempt: SignedAttempt) -> SignedAttempt:
        """Raises `JournalConflict` if it is signed for another number than the batch's, or if its signature is known already."""
        async with self._database.write() as connection:
            return await progress.record_attempt(connection, batch_id, attempt)

    async def restore_attempts(self, batch_id: str, attempts: Sequence[SignedAttempt]) -> None:
        """Raises `JournalConflict` if another batch has one of their signatures."""
        async with self._database.write() as connection:
            await progress.restore_attempts(connection, batch_id, attempts)

    async def confirm(self, batch_id: str, landing: Landing, transition: Transition) -> None:
        """Raises `JournalConflict` also if no statement is recorded, or if it and the bets do not balance to the lamport."""
        async with self._database.write() as connection:
            await progress.confirm(connection, batch_id, landing, transition)

    async def amend_landing(self, batch_id: str, landing: Landing) -> None:
        """Raises `JournalConflict` unless the batch is Confirmed."""
        async with self._database.write() as connection:
            await progress.amend_landing(connection, batch_id, landing)

    async def record_rejections(self, rejections: Sequence[Rejection]) -> None:
        async with self._database.write() as connection:
            await reports.record_rejections(connection, rejections)

    async def park(self, lane: int, above: int, bets: Sequence[QueuedBet]) -> Parking:
        async with self._database.write() as connection:
            return await parking.park(connection, lane, above, bets)

    async def parked(self, lane: int, above: int, limit: int) -> ParkedPage:
        async with self._database.read() as connection:
            return await parking.parked(connection, lane, above, limit)

    async def unpark(self, lane: int, up_to: int) -> None:
        async with self._database.write() as connection:
            await parking.unpark(connection, lane, up_to)

    async def record_reconciliation(self, report: ReconciliationReport) -> None:
        """Of several reports of one run and lane, the first stays."""
        async with self._database.write() as connection:
            await reports.record_reconciliation(connection, report)

    async def attempts(self, batch_id: str) -> list[SignedAttempt]:
        async with self._database.read_once() as connection:
            return await reading.attempts_of(connection, batch_id)

    async def bet(self, bet_id: str) -> BetRecord | None:
        async with self._database.read_once() as connection:
            return await reading.bet(connection, bet_id)

    async def batch(self, batch_id: str) -> BatchSummary | None:
        """Counts and house delta are the statement's, once there is one; before, those of the bets that stand."""
        async with self._database.read() as connection:
            return await reading.batch(connection, batch_id)

    async def unknown(self, batch_ids: Sequence[str]) -> list[str]:
        """`batch_ids`: at most `MAX_ROWS_PER_READ`, else `ValueError`."""
        async with self._database.read_once() as connection:
            return await reading.unknown(connection, batch_ids)

    async def bets_of(self, batch_id: str) -> list[BetRecord]:
        async with self._database.read_once() as connection:
            return await reading.bets_of(connection, batch_id)

    async def claimed_bets(self, batch_id: str) -> int:
        async with self._database.read_once() as connection:
            return await reading.claimed_bets(connection, batch_id)

    async def slots(self, batch_id: str) -> list[PlayerSlot]:
        """The players' slots in the batch's recorded statement, in order; empty without one."""
        async with self._database.read_once() as connection:
            return await reading.slots_of(connection, batch_id)

    async def batches(self, lane: int, after_number: int, limit: int) -> list[BatchSummary]:
        """`limit`: at most `MAX_ROWS_PER_READ`, else `ValueError`."""
        async with self._database.read() as connection:
            return await reading.batches_after(connection, lane, after_number, limit)

    async def players_waiting(self, lane: int, before_number: int, players: Sequence[str]) -> list[str]:
        """In the order of `players`, of which there may be `MAX_ROWS_PER_READ`."""
        async with self._database.read_once() as connection:
            return await reading.players_waiting(connection, lane, before_number, players)

    async def unsettled_batches(self, lane: int, player: str | None, limit: int) -> list[BatchSummary]:
        """Batches of the lane with claimed bets (of one player, if named) that are not settled, by number. `limit` as in `batches`."""
        async with self._database.read() as connection:
            return await reading.unsettled_batches(connection, lane, player, limit)

    async def recent_batches(self, limit: int) -> list[BatchSummary]:
        """The batches claimed last on any lane, newest first. `limit`: at most `MAX_ROWS_PER_READ`, else `ValueError`."""
        async with self._database.read() as connection:
            return await reading.recent_batches(connection, limit)

    async def players(self, limit: int) -> list[str]:
        """Players with bets, by key. `limit` as in `recent_batches`."""
        async with self._database.read_once() as connection:
            return await reading.players(connection, limit)

    async def rejections(self, limit: int, bet_id: str | None = None) -> list[Rejection]:
        """What was rejected last, newest first, in a batch or before it came into one; of one bet id, if given. `limit` as above."""
        async with self._database.read() as connection:
            return await reading.recent_rejections(connection, limit, bet_id)

    async def latest_reconciliations(self, limit: int, lane: int | None = None) -> list[ReconciliationReport]:
        """Reports with their findings, newest first; of one lane, if given. `limit` as in `recent_batches`."""
        async with self._database.read() as connection:
            return await reading.latest_reconciliations(connection, limit, lane)

    async def counts(self) -> JournalCounts:
        """Bets by status and rejections by reason."""
        async with self._database.read() as connection:
            return await reading.counts(connection)
