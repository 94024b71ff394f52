"""Every rule of judging: without any one of them, a batch could be paid twice, or never."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from ledger.adapter import SolanaLedger
from ledger.layout import batch_address
from ledger.program_errors import ProgramError
from ledger.rpc import MAX_HISTORY_PER_REQUEST, MAX_SIGNATURES_PER_REQUEST, RpcClient
from ledger.transactions import SETTLE_POSITION, settled_by
from settlement.batches import Landing, SignedAttempt, Standing, Statement
from settlement.errors import (
    BatchNumberTaken,
    HouseUncovered,
    JournalConflict,
    LedgerUnavailable,
    SettlementRefused,
    VaultUncovered,
)
from tests.ledger.scripted import (
    FINALIZED_SLOT,
    LANE,
    LAST_VALID,
    NUMBER,
    PROGRAM,
    RECORD_SLOT,
    ScriptedChain,
    ScriptedNode,
    a_proof,
    a_statement,
    serving,
    transaction_json,
)

OTHER_ROOT = 0xBAD


@dataclass
class Court:
    """A scripted chain with a statement, one signed attempt for it, and the judge."""

    chain: ScriptedChain
    rpc: RpcClient
    ledger: SolanaLedger
    confirmed_ledger: SolanaLedger
    statement: Statement
    attempt: SignedAttempt

    async def sign(self, attempt: int, statement: Statement | None = None, price: int = 0) -> SignedAttempt:
        """A further attempt; another `price` makes other bytes of it."""
        of = statement or self.statement
        return await self.chain.ledger(self.rpc, price=price).sign(of, a_proof(of), attempt)

    async def standing(self, *attempts: SignedAttempt) -> Standing:
        return (await self.ledger.judge(self.statement, attempts or [self.attempt])).standing


@pytest.fixture
async def court() -> AsyncIterator[Court]:
    async with serving(ScriptedNode()) as node, RpcClient(node.url) as rpc:
        chain, statement = ScriptedChain(node), a_statement()
        ledger = chain.ledger(rpc)
        attempt = await ledger.sign(statement, a_proof(statement), 1)
        node.calls.clear()
        yield Court(chain, rpc, ledger, chain.ledger(rpc, "confirmed"), statement, attempt)


def program_error(code: int) -> Any:
    return {"InstructionError": [SETTLE_POSITION, {"Custom": code}]}


async def test_an_attempt_that_nobody_knows_is_dead_once_the_finalized_height_has_passed(court: Court) -> None:
    assert await court.standing() is Standing.NONE_LIVE


async def test_an_attempt_may_still_land_in_its_last_valid_block(court: Court) -> None:
    court.chain.heights["finalized"] = LAST_VALID
    assert await court.standing() is Standing.PENDING


async def test_heights_that_are_not_finalized_expire_nothing(court: Court) -> None:
    court.chain.heights |= {"finalized": LAST_VALID - 1, "confirmed": LAST_VALID + 500, "processed": LAST_VALID + 500}
    assert await court.standing() is Standing.PENDING


async def test_statuses_of_a_node_that_lags_behind_finality_prove_nothing(court: Court) -> None:
    court.chain.status_slot = FINALIZED_SLOT - 1
    assert await court.standing() is Standing.PENDING


async def test_finality_is_read_before_the_statuses_and_these_before_the_record(court: Court) -> None:
    await court.standing()
    assert [method for method, _ in court.chain.node.calls] == [
        "getEpochInfo",
        "getSignatureStatuses",
        "getAccountInfo",
        "getFirstAvailableBlock",
    ]


async def test_statuses_are_searched_for_in_the_history_too(court: Court) -> None:
    await court.standing()
    [[_, config]] = court.chain.node.called("getSignatureStatuses")
    assert config == {"searchTransactionHistory": True}


async def test_one_live_attempt_among_dead_ones_keeps_the_batch_pending(court: Court) -> None:
    later = await court.sign(2, price=1)
    later = later.model_copy(update={"last_valid_block_height": LAST_VALID + 1})
    assert await court.standing(court.attempt, later) is Standing.PENDING
    assert await court.standing(later, court.attempt) is Standing.PENDING


async def test_more_attempts_than_one_request_takes_are_all_judged(court: Court) -> None:
    attempts = [
        court.attempt.model_copy(update={"attempt": at, "signature": f"signature-{at}"})
        for at in range(MAX_SIGNATURES_PER_REQUEST + 1)
    ]
    assert await court.standing(*attempts) is Standing.NONE_LIVE
    assert [len(params[0]) for params in court.chain.node.called("getSignatureStatuses")] == [256, 1]
    court.chain.knows(attempts[-1], "confirmed")
    assert await court.standing(*attempts) is Standing.PENDING


async def test_a_merely_confirmed_success_is_pending_where_finality_is_asked_for(court: Court) -> None:
    court.chain.knows(court.attempt, "confirmed")
    court.chain.has_record(court.statement.bets_root, "confirmed")
    assert await court.standing() is Standing.PENDING


async def test_a_confirmed_success_is_settled_where_that_is_enough(court: Court) -> None:
    court.chain.knows(court.attempt, "confirmed")
    court.chain.has_record(court.statement.bets_root, "confirmed")
    verdict = await court.confirmed_ledger.judge(court.statement, [court.attempt])
    assert verdict.standing is Standing.SETTLED


async def test_settled_tells_what_the_chain_says_of_the_landing(court: Court) -> None:
    court.chain.knows(court.attempt)
    court.chain.has_record(court.statement.bets_root)
    court.chain.transactions[court.attempt.signature] = transaction_json(RECORD_SLOT, PROGRAM)
    verdict = await court.ledger.judge(court.statement, [court.attempt])
    assert verdict.landing == Landing(
        signature=court.attempt.signature, slot=RECORD_SLOT, compute_units=98_765, fee_lamports=5_123
    )


async def test_what_a_node_without_history_cannot_tell_of_the_landing_is_left_out(court: Court) -> None:
    court.chain.knows(court.attempt)
    court.chain.has_record(court.statement.bets_root)
    verdict = await court.ledger.judge(court.statement, [court.attempt])
    assert verdict.landing == Landing(
        signature=court.attempt.signature, slot=RECORD_SLOT, compute_units=None, fee_lamports=None
    )


async def test_the_record_settles_even_when_every_attempt_seems_expired(court: Court) -> None:
    court.chain.has_record(court.statement.bets_root)
    court.chain.history = [{"signature": court.attempt.signature, "slot": RECORD_SLOT, "err": None}]
    assert await court.standing() is Standing.SETTLED


async def test_a_rivals_landing_is_found_among_transactions_that_only_mention_the_record(court: Court) -> None:
    court.chain.has_record(court.statement.bets_root)
    court.chain.knows(court.attempt, err=program_error(ProgramError.BATCH_EXISTS), slot=RECORD_SLOT)
    court.chain.history = [
        {"signature": "later", "slot": RECORD_SLOT + 9, "err": None},
        {"signature": "failed", "slot": RECORD_SLOT, "err": program_error(ProgramError.BATCH_EXISTS)},
        {"signature": "stranger", "slot": RECORD_SLOT, "err": None},
        {"signature": "rival", "slot": RECORD_SLOT, "err": None},
        {"signature": "earlier", "slot": RECORD_SLOT - 9, "err": None},
    ]
    court.chain.transactions = {
        "failed": transaction_json(RECORD_SLOT, PROGRAM),
        "stranger": transaction_json(RECORD_SLOT, batch_address(PROGRAM, LANE, NUMBER)),
        "rival": transaction_json(RECORD_SLOT, PROGRAM),
    }
    verdict = await court.ledger.judge(court.statement, [court.attempt])
    assert verdict.landing is not None
    assert (verdict.landing.signature, verdict.landing.fee_lamports) == ("rival", 5_123)


async def test_a_rivals_landing_is_found_behind_a_full_page_of_history(court: Court) -> None:
    court.chain.has_record(court.statement.bets_root)
    noise = [
        {"signature": f"later-{at}", "slot": RECORD_SLOT + 1, "err": None} for at in range(MAX_HISTORY_PER_REQUEST)
    ]
    court.chain.history = [*noise, {"signature": "rival", "slot": RECORD_SLOT, "err": None}]
    verdict = await court.ledger.judge(court.statement, [])
    assert verdict.landing is not None
    assert verdict.landing.signature == "rival"


async def test_a_landing_that_the_node_has_forgotten_is_asked_for_again_not_made_up(court: Court) -> None:
    court.chain.has_record(court.statement.bets_root)
    with pytest.raises(LedgerUnavailable, match="history of slot"):
        await court.standing()


async def test_a_finalized_record_with_another_root_takes_the_number(court: Court) -> None:
    court.chain.has_record(OTHER_ROOT)
    court.chain.heights["finalized"] = LAST_VALID - 1
    with pytest.raises(BatchNumberTaken):
        await court.standing()


async def test_a_record_with_another_root_takes_nothing_before_it_is_final(court: Court) -> None:
    court.chain.has_record(OTHER_ROOT, "confirmed")
    verdict = await court.confirmed_ledger.judge(court.statement, [court.attempt])
    assert verdict.standing is Standing.PENDING
    court.chain.has_record(OTHER_ROOT)
    with pytest.raises(BatchNumberTaken):
        await court.confirmed_ledger.judge(court.statement, [court.attempt])


async def test_a_taken_number_says_nothing_of_a_live_attempt_under_an_older_number(court: Court) -> None:
    older = await court.sign(0, a_statement(number=NUMBER - 1))
    older = older.model_copy(update={"last_valid_block_height": LAST_VALID + 1})
    court.chain.has_record(OTHER_ROOT)
    assert await court.standing(older, court.attempt) is Standing.PENDING


async def test_a_number_taken_by_this_batchs_own_earlier_bets_is_never_given_up(court: Court) -> None:
    before_ejection = await court.sign(0, a_statement(salt="with-one-bet-more"))
    court.chain.has_record(settled_by(before_ejection)[1])
    with pytest.raises(JournalConflict, match="by hand"):
        await court.standing(before_ejection, court.attempt)
    court.chain.knows(before_ejection)
    with pytest.raises(JournalConflict, match="by hand"):
        await court.standing(before_ejection, court.attempt)


async def test_a_landing_without_a_record_is_a_contradiction_and_no_verdict(court: Court) -> None:
    court.chain.knows(court.attempt)
    with pytest.raises(LedgerUnavailable, match="shows no record"):
        await court.standing()
    court.chain.has_record(OTHER_ROOT)
    with pytest.raises(LedgerUnavailable, match="shows no record"):
        await court.standing()


async def test_a_missing_record_proves_nothing_when_the_node_lags_behind_finality(court: Court) -> None:
    court.chain.record_slot = FINALIZED_SLOT - 1
    with pytest.raises(LedgerUnavailable, match="behind slot"):
        await court.standing()


async def test_a_finalized_refusal_names_the_vault(court: Court) -> None:
    court.chain.knows(court.attempt, err=program_error(ProgramError.VAULT_UNCOVERED + 1))
    with pytest.raises(VaultUncovered, match=court.statement.slots[1].player) as refused:
        await court.standing()
    assert refused.value.position == 1


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        (ProgramError.HOUSE_UNCOVERED, HouseUncovered, "house of lane 7"),
        (ProgramError.PROOF_REJECTED, SettlementRefused, "PROOF_REJECTED"),
        (0x999, SettlementRefused, "0x999"),
    ],
)
async def test_a_finalized_refusal_is_raised_as_what_it_is(
    court: Court, code: int, error: type[SettlementRefused], text: str
) -> None:
    court.chain.knows(court.attempt, err=program_error(code))
    with pytest.raises(error, match=text):
        await court.standing()


async def test_a_refusal_is_not_raised_while_another_attempt_may_land(court: Court) -> None:
    live = (await court.sign(2, price=1)).model_copy(update={"last_valid_block_height": LAST_VALID + 1})
    refused = court.attempt.model_copy(update={"attempt": 3})
    court.chain.knows(refused, err=program_error(ProgramError.VAULT_UNCOVERED))
    assert await court.standing(live, refused) is Standing.PENDING


async def test_a_refusal_that_is_not_final_may_be_undone(court: Court) -> None:
    court.chain.knows(court.attempt, "confirmed", err=program_error(ProgramError.VAULT_UNCOVERED))
    assert await court.standing() is Standing.PENDING


async def test_a_refusal_before_the_newest_attempt_has_been_dealt_with(court: Court) -> None:
    court.chain.knows(court.attempt, err=program_error(ProgramError.VAULT_UNCOVERED))
    newest = await court.sign(2, price=1)
    assert await court.standing(court.attempt, newest) is Standing.NONE_LIVE


async def test_a_refusal_of_other_bets_says_nothing_of_these(court: Court) -> None:
    before_ejection = await court.sign(5, a_statement(salt="with-one-bet-more"))
    court.chain.knows(before_ejection, err=program_error(ProgramError.VAULT_UNCOVERED))
    assert await court.standing(before_ejection) is Standing.NONE_LIVE


@pytest.mark.parametrize(
    "code",
    [
        ProgramError.PAYER_UNCOVERED,
        ProgramError.WRONG_AUTHORITY,
        ProgramError.BATCH_EXISTS,
        ProgramError.BATCH_NUMBER_TAKEN,
    ],
)
async def test_a_refusal_that_is_not_about_the_bets_is_left_to_the_next_simulation(court: Court, code: int) -> None:
    court.chain.knows(court.attempt, err=program_error(code))
    assert await court.standing() is Standing.NONE_LIVE


async def test_no_attempts_and_no_record_leave_nothing_live(court: Court) -> None:
    verdict = await court.ledger.judge(court.statement, [])
    assert verdict.standing is Standing.NONE_LIVE
    assert court.chain.node.called("getSignatureStatuses") == []


async def test_judging_sends_nothing(court: Court) -> None:
    await asyncio.gather(court.standing(), court.standing())
    assert {method for method, _ in court.chain.node.calls} <= {
        "getEpochInfo",
        "getSignatureStatuses",
        "getAccountInfo",
        "getFirstAvailableBlock",
    }
