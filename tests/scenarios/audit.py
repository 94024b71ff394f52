"""The one assertion that ends every scenario: chain, journal and receipts agree that each bet was settled exactly once.

The finalized chain is asked first and decides; the others may say neither more nor less.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from temporalio.testing import ActivityEnvironment

from activities.reconciling import ReconcileRequest, Reconciling
from settlement.batches import BetRecord, BetStatus, OnChainBatch
from settlement.bets import Bet
from settlement.lifecycle import BatchStatus
from settlement.netting import net_by_player
from settlement.receipts import contradictions, read_receipt
from settlement.reconciliation import FindingKind
from tests.scenarios.stage import LANE, PLAYERS, Stage
from workflows.policies import HEARTBEAT_TIMEOUT

MANY: Final = 1_000
"""More batches than a scenario has."""


class NotExactlyOnce(AssertionError):
    """Some bet was not settled exactly once, or something says otherwise than the chain."""


class PaidTwice(NotExactlyOnce):
    """The chain has settled more than was to be settled."""


class Lost(NotExactlyOnce):
    """The chain has not settled all that was to be settled, and nobody says that it has."""


class ClaimedTooMuch(NotExactlyOnce):
    """The journal calls settled what the chain has not settled."""


async def each_settled_once(
    stage: Stage, bets: Sequence[Bet], rejected: Collection[Bet] = (), foreign: Sequence[Sequence[Bet]] = ()
) -> None:
    """All of `bets` but `rejected`, and nothing else, have moved their lamports once, and everybody says so.

    `foreign`: batches that somebody else has settled, of which only the chain knows. Raises `NotExactlyOnce`.
    """
    settled = [bet for bet in bets if bet not in rejected]
    said = {bet.bet_id: await stage.journal.bet(bet.bet_id) for bet in bets}
    all_records = await stage.ledger.batch_records(LANE)
    records = [record for record in all_records if not await _is_foreign(stage, record, foreign)]
    _require(len(all_records) - len(records) == len(foreign), "the chain has not the foreign batches")
    on_chain = sum(record.bet_count for record in records)
    in_journal = sum(record is not None and record.status is BetStatus.SETTLED for record in said.values())
    if on_chain > len(settled):
        raise PaidTwice(f"{len(settled)} bets were to be settled, the chain has settled {on_chain}")
    if on_chain < in_journal:
        raise ClaimedTooMuch(f"the journal calls {in_journal} bets settled, the chain has settled {on_chain}")
    if on_chain < len(settled):
        raise Lost(f"{len(settled)} bets were to be settled, the chain has settled {on_chain}")
    await _check_balances(stage, [*settled, *(bet for bets in foreign for bet in bets)])
    _check_bets(settled, rejected, said)
    await _check_batches(stage, records)
    await _check_receipts(stage, settled, rejected, records)
    await _check_reconciliation(stage, foreign=len(foreign))


async def _is_foreign(stage: Stage, record: OnChainBatch, foreign: Sequence[Sequence[Bet]]) -> bool:
    roots = [(await stage.statement(bets, record.number)).bets_root for bets in foreign]
    return record.bets_root in roots


async def _check_balances(stage: Stage, settled: Sequence[Bet]) -> None:
    nets = net_by_player(settled)
    moved = await stage.moved()
    _require(moved.house == -sum(nets.values()), f"the house moved by {moved.house}, the bets by {-sum(nets.values())}")
    for player in PLAYERS:
        net = nets.get(player, 0)
        _require(moved.players[player] == net, f"{player} moved by {moved.players[player]}, his bets by {net}")


def _check_bets(settled: Sequence[Bet], rejected: Collection[Bet], said: dict[str, BetRecord | None]) -> None:
    for bet in settled:
        record = said[bet.bet_id]
        _require(record and record.status is BetStatus.SETTLED, f"the journal says of a settled bet: {record}")
    for bet in rejected:
        record = said[bet.bet_id]
        _require(
            record and record.status is BetStatus.REJECTED and record.reason and record.detail,
            f"the journal says of a rejected bet: {record}",
        )


async def _check_batches(stage: Stage, records: Sequence[OnChainBatch]) -> None:
    """The journal's Confirmed batches are the chain's records, one each."""
    batches = [batch for batch in await stage.journal.batches(LANE, 0, MANY) if batch.status is BatchStatus.CONFIRMED]
    _require(
        Counter(
            (batch.number, batch.bets_root, batch.bet_count, batch.landing and batch.landing.slot) for batch in batches
        )
        == Counter((record.number, record.bets_root, record.bet_count, record.slot) for record in records),
        f"the journal's batches {batches} are not the chain's {records}",
    )


async def _check_receipts(
    stage: Stage, settled: Sequence[Bet], rejected: Collection[Bet], records: Sequence[OnChainBatch]
) -> None:
    by_number = {record.number: record for record in records}
    for bet in settled:
        receipt = await read_receipt(bet.bet_id, stage.journal, stage.ledger)
        _require(receipt, f"{bet.bet_id} has no receipt")
        assert receipt is not None
        found = contradictions(receipt, by_number.get(receipt.number or 0))
        _require(receipt.bet == bet and not found, f"the receipt of {bet.bet_id} does not hold: {found}")
    for bet in rejected:
        receipt = await read_receipt(bet.bet_id, stage.journal, stage.ledger)
        _require(receipt and receipt.status == "rejected", f"{bet.bet_id} is rejected, its receipt says {receipt}")


async def _check_reconciliation(stage: Stage, foreign: int) -> None:
    environment = ActivityEnvironment()
    environment.info = replace(ActivityEnvironment.default_info(), heartbeat_timeout=HEARTBEAT_TIMEOUT)
    reconciling = Reconciling(stage.journal, stage.ledger)
    request = ReconcileRequest(run_id=f"audit of {stage.name}", lane=LANE)
    report = await environment.run(reconciling.reconcile_lane, request)
    found = [finding.kind for finding in report.findings]
    _require(
        found == [FindingKind.NOT_IN_JOURNAL] * foreign and not report.open_batches, f"reconciliation finds {report}"
    )


def _require(condition: object, otherwise: str) -> None:
    if not condition:
        raise NotExactlyOnce(otherwise)
