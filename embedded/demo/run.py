"""Runs the demo's scenario on a running stack and compares chain, journal and what was placed."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict
from temporalio.client import WorkflowHandle

import composition
from client.intake import TemporalIntake
from client.placing import Placer
from embedded.demo.report import DemoBalance, DemoBatch, DemoReport
from embedded.demo.scenario import POOR_PLAYERS_LAMPORTS, Scenario, Sending, make_scenario
from embedded.stack import BANKROLL_LAMPORTS, Stack
from journal.adapter import SqlJournal
from ledger.adapter import SolanaLedger
from ledger.keys import load_or_create_keypair
from operations.provisioning import LAMPORTS_PER_SOL, Progress
from operations.reconciling import reconcile
from operations.vaults import fund_vaults
from settlement.batches import BatchSummary, BetStatus
from settlement.bets import Bet, RejectionReason, lane_of
from settlement.errors import LaneSaturated
from settlement.intake import Door
from settlement.lifecycle import BatchStatus
from settlement.receipts import Receipt, root_from

MAX_DEPOSIT_LAMPORTS: Final = LAMPORTS_PER_SOL
PATIENCE_SECONDS: Final = 300.0
"""How long the demo waits without any further bet becoming final before it reports what is missing."""

FINALITY_SECONDS: Final = 60.0
"""How long Confirmed batches may take to be final, where Confirmed means less; 32 slots (13 seconds) as a rule."""

RECEIPT_SECONDS: Final = 60.0
"""How long a tracked bet's receipt may take once all bets are final."""

POLL_SECONDS: Final = 0.5
HOUSE: Final = "house"


class DemoPlan(BaseModel):
    """What to place: how many bets of how many players, and the seed of their content."""

    model_config = ConfigDict(frozen=True)

    bets: int
    players: int
    seed: int


@dataclass(frozen=True)
class _Reading:
    """What the system says of itself and the chain of its accounts, at one moment. Balances in lamports above rent."""

    accepted: int
    duplicates: int
    rejected: Counter[RejectionReason]
    balances: dict[str, int]


async def run_demo(stack: Stack, var: Path, plan: DemoPlan, progress: Progress) -> DemoReport:
    """Places, waits, compares. A difference raises nothing: it stands in the report."""
    async with AsyncExitStack() as exits:
        journal = await exits.enter_async_context(composition.open_journal(stack.settings))
        ledger = await exits.enter_async_context(composition.open_ledger(stack.settings))
        return await _Demo(stack, var, plan, journal, ledger, progress).run()


class _Demo:
    def __init__(
        self,
        stack: Stack,
        var: Path,
        plan: DemoPlan,
        journal: SqlJournal,
        ledger: SolanaLedger,
        progress: Progress,
    ) -> None:
        self._stack = stack
        self._plan = plan
        self._journal = journal
        self._ledger = ledger
        self._progress = progress
        self._lanes = stack.settings.lanes
        self._intake = TemporalIntake(stack.client, composition.batcher_settings(stack.settings))
        keys = var / "keys" / "players"
        self._players = [_player(keys / f"{number:04}.json") for number in range(plan.players)]
        self._poor_player, self._stranger = _player(keys / "poor.json"), _player(keys / "stranger.json")

    async def run(self) -> DemoReport:
        started_at = time.monotonic()
        deposit = min(MAX_DEPOSIT_LAMPORTS, BANKROLL_LAMPORTS // self._plan.players)
        # An interrupted demo's bets may still be on their way.
        await self._wait_until_idle("settling what is left of an earlier run")
        self._progress("vaults", 0)
        wanted = {**dict.fromkeys(self._players, deposit), self._poor_player: POOR_PLAYERS_LAMPORTS}
        await fund_vaults(self._stack.settings, wanted)
        self._progress("vaults", 1)
        scenario = make_scenario(
            datetime.now(UTC).strftime("demo-%Y%m%dT%H%M%S"),
            self._plan.seed,
            self._plan.bets,
            self._players,
            deposit,
            self._poor_player,
            self._stranger,
        )
        before = await self._read()
        tracked = await self._place(scenario)
        records = await self._wait_until_final(scenario)
        after = await self._read()

        batches = [await self._batch(batch_id) for batch_id in dict.fromkeys(records.values())]
        batches.sort(key=lambda batch: batch.number)
        settled = [bet for bet in scenario.settled if bet.bet_id in records]
        verified, differences = await self._check_receipts(tracked, batches)
        differences += _differences(scenario, before, after, settled, batches)
        differences += await self._reconcile(batches)

        expected = _expected(before.balances, scenario.settled)
        balances = [
            DemoBalance(player=player, before=amount, after=after.balances[player], expected=expected[player])
            for player, amount in before.balances.items()
        ]
        rejected = after.rejected - before.rejected
        return DemoReport(
            seed=self._plan.seed,
            bets=len(scenario.first) + len(scenario.again),
            accepted=after.accepted - before.accepted,
            settled=len(settled),
            duplicates=after.duplicates - before.duplicates,
            rejected=dict(sorted(rejected.items())),
            batches=[_shown(batch) for batch in batches],
            balances=[balance for balance in balances if balance.player != HOUSE],
            house=next(balance for balance in balances if balance.player == HOUSE),
            receipts_verified=verified,
            differences=differences,
            agreed=not differences,
            web_ui=self._stack.web_ui,
            rpc_url=self._stack.rpc_url,
            seconds=round(time.monotonic() - started_at, 1),
        )

    async def _read(self) -> _Reading:
        statuses = [await self._intake.status(lane) for lane in range(self._lanes)]
        balances = {HOUSE: 0}
        for lane in range(self._lanes):
            balances[HOUSE] += (await self._ledger.house(lane)).available
            players = [p for p in (*self._players, self._poor_player) if lane_of(p, self._lanes) == lane]
            balances |= {p: vault.available for p, vault in (await self._ledger.vaults(lane, players)).items()}
        return _Reading(
            accepted=sum(status.counters.accepted for status in statuses),
            duplicates=sum(status.counters.duplicates for status in statuses),
            rejected=Counter((await self._journal.counts()).rejections),
            balances=balances,
        )

    async def _place(self, scenario: Scenario) -> list[WorkflowHandle[Any, Receipt]]:
        """Sends everything: first each bet once, then what is sent again. Returns the tracked ones."""
        tracked: list[WorkflowHandle[Any, Receipt]] = []
        total, sent = len(scenario.first) + len(scenario.again), 0

        def count() -> None:
            nonlocal sent
            sent += 1
            self._progress("placing bets over three doors", sent / total)

        async def track(sending: Sending) -> None:
            tracked.append(await self._intake.track(Bet.model_validate(sending.content)))
            count()

        async def send(sendings: Sequence[Sending]) -> None:
            updates = [sending.content for sending in sendings if sending.door is Door.UPDATE]
            async for _ in Placer(self._intake).stream(updates):
                count()
            for sending in sendings:
                if sending.door is Door.SIGNAL:
                    await self._intake.signal(sending.content)
                    count()
            await asyncio.gather(*(track(sending) for sending in sendings if sending.door is Door.WORKFLOW))

        await send(scenario.first)
        await send(scenario.again)
        return tracked

    async def _wait_until_final(self, scenario: Scenario) -> dict[str, str]:
        """The batch of each bet that settled, once all have or nothing has moved for `PATIENCE_SECONDS`."""
        waiting = {bet.bet_id: bet for bet in scenario.settled}
        records: dict[str, str] = {}
        moved_at = time.monotonic()
        while time.monotonic() - moved_at < PATIENCE_SECONDS:
            self._progress("settling", len(records) / len(scenario.settled))
            # First: what is no longer on its way by then is in the journal when that is read.
            left = await self._left()
            for bet_id in list(waiting):
                record = await self._journal.bet(bet_id)
                if record is not None and record.status is BetStatus.SETTLED and record.bet == waiting[bet_id]:
                    records[bet_id] = record.batch_id
                    del waiting[bet_id]
                    moved_at = time.monotonic()
            if left == 0:
                break
            await asyncio.sleep(POLL_SECONDS)
        self._progress("settling", len(records) / len(scenario.settled))
        return records

    async def _wait_until_idle(self, what: str) -> None:
        """Returns once no lane holds a bet; raises `LaneSaturated` if that takes longer than `PATIENCE_SECONDS`."""
        started_at, most = time.monotonic(), 0
        while left := await self._left():
            most = max(most, left)
            self._progress(what, 1 - left / most)
            if time.monotonic() - started_at > PATIENCE_SECONDS:
                raise LaneSaturated(
                    f"{left} bets of an earlier run do not settle: see `starter.py status` under `make up`"
                )
            await asyncio.sleep(POLL_SECONDS)
        if most:
            self._progress(what, 1)

    async def _left(self) -> int:
        """How many bets are queued or in batches on their way."""
        statuses = [await self._intake.status(lane) for lane in range(self._lanes)]
        return sum(status.queued + sum(status.in_flight.values()) for status in statuses)

    async def _reconcile(self, batches: Sequence[BatchSummary]) -> list[str]:
        """What a reconciliation finds that compares all of `batches`, and which of them it could not compare."""
        differences = [
            f"batch {batch.number} of lane {batch.lane} was not compared: it is not final after {FINALITY_SECONDS:.0f} seconds"
            for batch in await self._wait_until_finalized(batches)
        ]
        self._progress("reconciling", 0)
        # This one may join a run that somebody began before they were final; the next one cannot.
        await reconcile(self._stack.client, self._lanes)
        self._progress("reconciling", 0.5)
        for report in await reconcile(self._stack.client, self._lanes):
            differences += [
                f"reconciliation: {finding.kind.value} of {finding.subject}: journal {finding.journal}, chain {finding.chain}"
                for finding in report.findings
            ]
        self._progress("reconciling", 1)
        return differences

    async def _wait_until_finalized(self, batches: Sequence[BatchSummary]) -> list[BatchSummary]:
        """Those of `batches` whose records the finalized chain still lacks after `FINALITY_SECONDS`; usually none.

        A reconciliation leaves them out, however right or wrong they are.
        """
        started_at = time.monotonic()
        while True:
            records = [record for lane in range(self._lanes) for record in await self._ledger.batch_records(lane)]
            finalized = {(record.lane, record.number) for record in records}
            left = [batch for batch in batches if (batch.lane, batch.number) not in finalized]
            self._progress("waiting for finality", 1 - len(left) / max(len(batches), 1))
            if not left or time.monotonic() - started_at > FINALITY_SECONDS:
                return left
            await asyncio.sleep(POLL_SECONDS)

    async def _batch(self, batch_id: str) -> BatchSummary:
        batch = await self._journal.batch(batch_id)
        assert batch is not None, "a bet's batch stands in the journal"
        return batch

    async def _check_receipts(
        self, tracked: Sequence[WorkflowHandle[Any, Receipt]], batches: Sequence[BatchSummary]
    ) -> tuple[int, list[str]]:
        """Holds the receipts of tracked bets against the roots on chain; returns how many hold, and what does not."""
        roots: dict[str, int | None] = {}
        for batch in batches:
            record = await self._ledger.batch_record(batch.lane, batch.number)
            roots[batch.batch_id] = record.bets_root if record else None
        verified, differences = 0, list[str]()
        for handle in tracked:
            try:
                receipt = await asyncio.wait_for(handle.result(), RECEIPT_SECONDS)
            except TimeoutError:
                differences.append(f"{handle.id} has no receipt after {RECEIPT_SECONDS:.0f} seconds")
                continue
            if receipt.status == "rejected":
                continue
            assert receipt.bet is not None
            assert receipt.inclusion is not None
            if root_from(receipt.bet, receipt.inclusion) == roots.get(receipt.batch_id or ""):
                verified += 1
            else:
                differences.append(f"the receipt of {receipt.bet_id} does not lead to its batch's root on chain")
        return verified, differences


def _player(path: Path) -> str:
    return str(load_or_create_keypair(path).pubkey())


def _expected(before: dict[str, int], settled: Sequence[Bet]) -> dict[str, int]:
    expected = dict(before)
    for bet in settled:
        expected[bet.player] += bet.delta
        expected[HOUSE] -= bet.delta
    assert sum(expected.values()) == sum(before.values()), "bets move lamports, they make none"
    return expected


def _differences(
    scenario: Scenario,
    before: _Reading,
    after: _Reading,
    settled: Sequence[Bet],
    batches: Sequence[BatchSummary],
) -> list[str]:
    """Every way in which what came out is not what was placed."""
    expected = _expected(before.balances, scenario.settled)
    compared: list[tuple[str, object, object]] = [
        ("accepted", after.accepted - before.accepted, len(scenario.settled) + scenario.refused_after_acceptance),
        ("settled", len(settled), len(scenario.settled)),
        ("duplicates", after.duplicates - before.duplicates, scenario.duplicates),
        ("rejected", dict(after.rejected - before.rejected), dict(scenario.rejected)),
        *((f"balance of {account}", after.balances[account], amount) for account, amount in expected.items()),
        *((f"status of batch {batch.number}", batch.status, BatchStatus.CONFIRMED) for batch in batches),
    ]
    return [f"{what}: {found}, expected {wanted}" for what, found, wanted in compared if found != wanted]


def _shown(batch: BatchSummary) -> DemoBatch:
    return DemoBatch(
        number=batch.number,
        batch_id=batch.batch_id,
        status=batch.status,
        bets=batch.bet_count,
        players=batch.player_count,
        circuit=batch.circuit_id,
        proof_milliseconds=batch.proof_milliseconds,
        compute_units=batch.landing.compute_units if batch.landing else None,
        signature=batch.landing.signature if batch.landing else None,
        slot=batch.landing.slot if batch.landing else None,
    )
