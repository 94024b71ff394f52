"""Judging by several nodes: which of them is believed, and of what two must say the same."""

import base64
from collections.abc import Callable

import pytest
import structlog
from solders.transaction import VersionedTransaction

from ledger import nodes as nodes_module
from ledger.judging import (
    BLOCKHASH_BLOCKS,
    MAX_LEAD_SLOTS,
    MAX_SLOTS_PER_BLOCK,
    MAX_UNFINAL_BLOCKS,
    MAX_VALID_BLOCKS_AHEAD,
    last_valid_height,
    measure,
)
from ledger.nodes import Defect
from ledger.program_errors import ProgramError
from ledger.transactions import MIN_COMPUTE_UNITS, SETTLE_POSITION
from settlement.batches import SignedAttempt, Standing
from settlement.errors import (
    BatchNumberTaken,
    HouseUncovered,
    LedgerMisconfigured,
    LedgerUnavailable,
    SettlementRefused,
    VaultUncovered,
)
from tests.ledger.panel import Panel
from tests.ledger.scripted import (
    FINALIZED_SLOT,
    LAST_VALID,
    NUMBER,
    PROGRAM,
    RECORD_SLOT,
    Refusal,
    ScriptedChain,
    a_proof,
    a_statement,
    transaction_json,
)

OTHER_ROOT = 0xBAD
UNCOVERED = {"InstructionError": [SETTLE_POSITION, {"Custom": ProgramError.VAULT_UNCOVERED + 1}]}


def without_history(chain: ScriptedChain) -> None:
    """The node refuses to search a history, and knows what is recent."""
    recent = chain.node.answers["getSignatureStatuses"]

    def statuses(params: list[dict[str, bool]]) -> object:
        if params[1]["searchTransactionHistory"]:
            raise Refusal(-32011)
        return recent(params)

    chain.node.answers["getSignatureStatuses"] = statuses


def far_ahead(chain: ScriptedChain) -> None:
    """The node claims a finality that nobody will ever reach, and everything else with it."""
    chain.finalized_slot = chain.status_slot = chain.record_slot = 2**63
    chain.heights["finalized"] = 2**63


# That no attempt can land any more.


async def test_two_nodes_that_prove_an_attempt_dead_are_believed(pair: Panel) -> None:
    assert await pair.standing() is Standing.NONE_LIVE


async def test_the_null_of_one_node_is_not_believed_where_two_are_configured(pair: Panel) -> None:
    pair.fails(1)
    with pytest.raises(
        LedgerUnavailable, match=f"{pair.chains[0].node.url} alone.*2 nodes.*{pair.chains[1].node.url}.*503"
    ):
        await pair.standing()


async def test_two_of_three_nodes_suffice(three: Panel) -> None:
    three.fails(0)
    assert await three.standing() is Standing.NONE_LIVE


async def test_what_was_never_signed_needs_no_second_word(pair: Panel) -> None:
    pair.fails(1)
    assert (await pair.ledger.judge(pair.statement, [])).standing is Standing.NONE_LIVE


@pytest.mark.parametrize("level", ["processed", "confirmed"])
async def test_an_attempt_that_any_node_knows_is_not_dead(three: Panel, level: str) -> None:
    three.chains[2].knows(three.attempt, level, slot=FINALIZED_SLOT + 1)
    assert await three.standing() is Standing.PENDING


@pytest.mark.parametrize("level", ["processed", "confirmed"])
async def test_what_a_node_saw_in_a_fork_in_which_it_stands_still_keeps_nothing_alive(three: Panel, level: str) -> None:
    frozen = three.chains[2]
    frozen.knows(three.attempt, level, slot=FINALIZED_SLOT + 1)
    frozen.finalized_slot = frozen.status_slot = frozen.record_slot = FINALIZED_SLOT - 1_000
    frozen.heights["finalized"] = LAST_VALID - 500
    assert await three.standing() is Standing.NONE_LIVE


async def test_what_is_not_final_in_a_slot_that_two_others_have_finalized_keeps_nothing_alive(three: Panel) -> None:
    three.chains[2].knows(three.attempt, "processed", slot=FINALIZED_SLOT)
    assert await three.standing() is Standing.NONE_LIVE
    three.chains[1].finalized_slot = FINALIZED_SLOT - 1
    assert await three.standing() is Standing.PENDING, "not finalized by both"


async def test_what_a_node_that_lags_shows_as_final_is_denied_by_nobody(three: Panel) -> None:
    lagging = three.chains[2]
    lagging.knows(three.attempt, err=UNCOVERED)
    lagging.finalized_slot = lagging.status_slot = lagging.record_slot = FINALIZED_SLOT - 100
    with pytest.raises(LedgerUnavailable, match="denies attempt"):
        await three.standing()


async def test_each_node_must_prove_expiry_by_its_own_finalized_height(pair: Panel) -> None:
    pair.chains[1].heights["finalized"] = LAST_VALID
    assert await pair.standing() is Standing.PENDING


async def test_an_answer_from_below_the_highest_finalized_slot_of_any_node_is_no_word(pair: Panel) -> None:
    ahead = pair.chains[0]
    ahead.finalized_slot = ahead.status_slot = ahead.record_slot = FINALIZED_SLOT + MAX_LEAD_SLOTS
    pair.chains[1].status_slot = FINALIZED_SLOT + MAX_LEAD_SLOTS - 1
    assert await pair.standing() is Standing.PENDING
    pair.chains[1].status_slot += 1
    assert await pair.standing() is Standing.NONE_LIVE


async def test_finality_of_all_nodes_is_read_before_any_status_and_these_before_any_record(three: Panel) -> None:
    asked: list[str] = []
    for chain in three.chains:
        for method, answer in list(chain.node.answers.items()):

            def telling(params: list[object], method: str = method, answer: Callable[..., object] = answer) -> object:
                asked.append(method)
                return answer(params)

            chain.node.answers[method] = telling
    await three.standing()
    assert asked == [
        *["getEpochInfo"] * 3,
        *["getSignatureStatuses"] * 3,
        *["getAccountInfo"] * 3,
        *["getFirstAvailableBlock"] * 3,
    ]


async def test_a_node_that_denies_what_another_shows_as_failed_is_no_second_witness(pair: Panel) -> None:
    pair.chains[0].knows(pair.attempt, err=UNCOVERED)
    with pytest.raises(LedgerUnavailable, match=f"{pair.chains[1].node.url} denies attempt {pair.attempt.signature}"):
        await pair.standing()


# Who keeps no history knows nothing by not knowing it.


def needed_from() -> int:
    """The oldest slot in which the attempt may have landed, by the most cautious estimate."""
    return FINALIZED_SLOT - MAX_SLOTS_PER_BLOCK * (1 + BLOCKHASH_BLOCKS)


async def test_a_node_whose_history_does_not_reach_back_to_the_attempt_is_not_believed(alone: Panel) -> None:
    alone.chains[0].first_available = needed_from() + 1
    with pytest.raises(
        LedgerUnavailable, match=f"keeps history from slot {needed_from() + 1} on.*needed that keeps it"
    ):
        await alone.standing()
    alone.chains[0].first_available = needed_from()
    assert await alone.standing() is Standing.NONE_LIVE


async def test_a_node_that_does_not_search_its_history_is_not_believed(alone: Panel) -> None:
    without_history(alone.chains[0])
    with pytest.raises(LedgerUnavailable, match="keeps no history"):
        await alone.standing()


async def test_a_node_without_history_still_tells_of_what_it_has_seen(alone: Panel) -> None:
    without_history(alone.chains[0])
    alone.chains[0].knows(alone.attempt, "processed")
    assert await alone.standing() is Standing.PENDING
    alone.chains[0].knows(alone.attempt)
    alone.chains[0].has_record(alone.statement.bets_root)
    assert await alone.standing() is Standing.SETTLED


async def test_a_node_without_history_is_no_second_witness(three: Panel) -> None:
    without_history(three.chains[0])
    assert await three.standing() is Standing.NONE_LIVE
    three.chains[1].first_available = FINALIZED_SLOT
    with pytest.raises(
        LedgerUnavailable, match=f"{three.chains[2].node.url} alone.*keeps no history.*keeps history from"
    ):
        await three.standing()


async def test_a_node_that_does_not_say_how_far_its_history_goes_is_not_believed(alone: Panel) -> None:
    del alone.chains[0].node.answers["getFirstAvailableBlock"]
    with pytest.raises(LedgerUnavailable):
        await alone.standing()


async def test_a_failure_that_a_node_shows_needs_no_history(alone: Panel) -> None:
    alone.chains[0].first_available = FINALIZED_SLOT
    alone.chains[0].knows(alone.attempt, err=UNCOVERED)
    with pytest.raises(VaultUncovered):
        await alone.standing()


# A node that lies upward.


async def test_a_lone_claim_far_beyond_all_others_holds_nobody_up(three: Panel) -> None:
    three.chains[0].finalized_slot = 2**63
    assert await three.standing() is Standing.NONE_LIVE


async def test_a_false_finality_expires_no_attempt_by_itself(pair: Panel) -> None:
    far_ahead(pair.chains[0])
    pair.chains[1].heights["finalized"] = LAST_VALID
    assert await pair.standing() is Standing.PENDING
    pair.chains[1].heights["finalized"] = LAST_VALID + 1
    assert await pair.standing() is Standing.NONE_LIVE


async def test_a_node_must_bear_out_its_own_claim(three: Panel) -> None:
    three.chains[0].finalized_slot = 2**63
    three.fails(2)
    assert await three.standing() is Standing.PENDING


def test_the_measure_is_the_highest_claim_that_does_not_stand_far_beyond_all_others() -> None:
    assert measure([100]) == 100
    assert measure([100, 100 + MAX_LEAD_SLOTS]) == 100 + MAX_LEAD_SLOTS
    assert measure([100, 101 + MAX_LEAD_SLOTS]) == 100
    assert measure([101 + MAX_LEAD_SLOTS, 102 + MAX_LEAD_SLOTS, 100]) == 102 + MAX_LEAD_SLOTS
    assert measure([2**64 - 1, 7, 5]) == 7


# That the batch is settled.


@pytest.mark.parametrize("telling", [0, 1])
async def test_one_node_that_shows_the_record_with_our_root_is_believed_whatever_others_deny(
    pair: Panel, telling: int
) -> None:
    pair.chains[telling].knows(pair.attempt)
    pair.chains[telling].has_record(pair.statement.bets_root)
    verdict = await pair.ledger.judge(pair.statement, [pair.attempt])
    assert verdict.standing is Standing.SETTLED
    assert verdict.landing is not None
    assert verdict.landing.signature == pair.attempt.signature
    pair.fails(1 - telling)
    assert await pair.standing() is Standing.SETTLED


async def test_the_landing_is_found_by_another_node_than_the_one_that_shows_the_record(pair: Panel) -> None:
    pair.chains[0].has_record(pair.statement.bets_root)
    pair.chains[1].has_record(pair.statement.bets_root)
    pair.chains[1].history = [{"signature": "rival", "slot": RECORD_SLOT, "err": None}]
    verdict = await pair.ledger.judge(pair.statement, [pair.attempt])
    assert verdict.landing is not None
    assert verdict.landing.signature == "rival"


async def test_a_confirmed_record_of_a_node_that_lags_settles_nothing(pair: Panel) -> None:
    pair.chains[0].has_record(pair.statement.bets_root, "confirmed")
    pair.chains[0].knows(pair.attempt, "confirmed")
    confirmed = pair.ledger_at("confirmed")
    assert (await confirmed.judge(pair.statement, [pair.attempt])).standing is Standing.SETTLED
    pair.chains[0].record_slot = FINALIZED_SLOT - 1
    assert (await confirmed.judge(pair.statement, [pair.attempt])).standing is Standing.PENDING


async def test_a_record_that_two_others_contradict_settles_nothing(three: Panel) -> None:
    three.chains[0].has_record(three.statement.bets_root)
    three.chains[0].history = [{"signature": "rival", "slot": RECORD_SLOT, "err": None}]
    assert await three.standing() is Standing.NONE_LIVE
    three.chains[2].record_slot = RECORD_SLOT - 1
    assert await three.standing() is Standing.SETTLED, "one of the others has not come as far"


async def test_two_nodes_that_show_the_record_outvote_one_that_shows_another(three: Panel) -> None:
    for chain in three.chains[1:]:
        chain.has_record(three.statement.bets_root)
        chain.knows(three.attempt)
    three.chains[0].has_record(OTHER_ROOT)
    with structlog.testing.capture_logs() as lines:
        assert await three.standing() is Standing.SETTLED
    assert ("node unfit", three.chains[0].node.url, Defect.OUTVOTED) in defects(lines)


async def test_one_node_alone_of_three_takes_no_number_and_holds_none_up(three: Panel) -> None:
    three.chains[2].has_record(OTHER_ROOT)
    assert await three.standing() is Standing.NONE_LIVE
    three.chains[1].has_record(OTHER_ROOT)
    with pytest.raises(BatchNumberTaken):
        await three.standing()


async def test_nodes_that_show_different_records_decide_nothing(pair: Panel) -> None:
    pair.chains[0].has_record(pair.statement.bets_root)
    pair.chains[1].has_record(OTHER_ROOT)
    with pytest.raises(LedgerUnavailable, match="different records"):
        await pair.standing()


@pytest.mark.parametrize("code", [-32601, -32602, -32015, -32000])
async def test_what_a_landing_cost_is_no_reason_to_call_it_unsettled(pair: Panel, code: int) -> None:
    def refuse(_: object) -> object:
        raise Refusal(code)

    for chain in pair.chains:
        chain.has_record(pair.statement.bets_root)
        chain.knows(pair.attempt)
    pair.chains[0].node.answers["getTransaction"] = refuse
    verdict = await pair.ledger.judge(pair.statement, [pair.attempt])
    assert verdict.standing is Standing.SETTLED
    assert verdict.landing is not None
    assert verdict.landing.fee_lamports is None
    pair.chains[1].transactions[pair.attempt.signature] = transaction_json(RECORD_SLOT, PROGRAM)
    verdict = await pair.ledger.judge(pair.statement, [pair.attempt])
    assert verdict.landing is not None
    assert verdict.landing.fee_lamports is not None


async def test_the_landing_is_found_though_one_node_offers_no_history_of_addresses(pair: Panel) -> None:
    for chain in pair.chains:
        chain.has_record(pair.statement.bets_root)
        chain.history = [{"signature": "rival", "slot": RECORD_SLOT, "err": None}]
    pair.chains[0].node.answers["getSignaturesForAddress"] = lambda _: (_ for _ in ()).throw(Refusal(-32601))
    assert await pair.standing() is Standing.SETTLED


# Whether it is final.


async def test_only_a_finalized_landing_is_called_final(alone: Panel) -> None:
    alone.chains[0].knows(alone.attempt, "confirmed")
    alone.chains[0].has_record(alone.statement.bets_root, "confirmed")
    confirmed = alone.ledger_at("confirmed")
    assert not (await confirmed.judge(alone.statement, [alone.attempt])).final
    alone.chains[0].has_record(alone.statement.bets_root)
    assert (await confirmed.judge(alone.statement, [alone.attempt])).final
    assert (await alone.ledger.judge(alone.statement, [alone.attempt])).final


async def test_at_finality_what_is_only_confirmed_is_pending_and_what_a_fork_has_undone_is_not_live(
    alone: Panel,
) -> None:
    confirmed = alone.ledger_at("confirmed")
    alone.chains[0].knows(alone.attempt, "confirmed")
    alone.chains[0].has_record(alone.statement.bets_root, "confirmed")
    verdict = await confirmed.judge(alone.statement, [alone.attempt], at_finality=True)
    assert verdict.standing is Standing.PENDING
    alone.chains[0].statuses.clear()
    alone.chains[0].roots["confirmed"] = None
    verdict = await confirmed.judge(alone.statement, [alone.attempt], at_finality=True)
    assert verdict.standing is Standing.NONE_LIVE
    alone.chains[0].knows(alone.attempt)
    alone.chains[0].has_record(alone.statement.bets_root)
    verdict = await confirmed.judge(alone.statement, [alone.attempt], at_finality=True)
    assert (verdict.standing, verdict.final) == (Standing.SETTLED, True)


# That the number is taken, and that the program refuses.


async def test_a_number_is_taken_for_good_only_by_the_word_of_two_nodes(pair: Panel) -> None:
    pair.chains[0].has_record(OTHER_ROOT)
    with pytest.raises(LedgerUnavailable, match=f"number {NUMBER} .*taken is said by {pair.chains[0].node.url} alone"):
        await pair.standing()
    pair.chains[1].record_slot = RECORD_SLOT - 1
    assert await pair.standing() is Standing.PENDING
    pair.chains[1].record_slot = FINALIZED_SLOT
    pair.chains[1].has_record(OTHER_ROOT)
    with pytest.raises(BatchNumberTaken):
        await pair.standing()


async def test_a_taken_number_needs_two_words_that_attempts_under_an_older_number_are_dead(pair: Panel) -> None:
    older = await pair.sign(0, a_statement(number=NUMBER - 1))
    for chain in pair.chains:
        chain.has_record(OTHER_ROOT)
    pair.chains[1].first_available = FINALIZED_SLOT
    with pytest.raises(LedgerUnavailable, match="keeps history from"):
        await pair.standing(older, pair.attempt)
    pair.chains[1].first_available = 0
    with pytest.raises(BatchNumberTaken):
        await pair.standing(older, pair.attempt)


async def test_a_finalized_refusal_is_raised_by_the_same_word_of_two_nodes(pair: Panel) -> None:
    pair.chains[0].knows(pair.attempt, err=UNCOVERED)
    pair.chains[1].knows(pair.attempt, err={"InstructionError": [SETTLE_POSITION, {"Custom": 0x52}]})
    assert await pair.standing() is Standing.NONE_LIVE, "dead by both, but for what reason the next simulation tells"
    pair.chains[1].knows(pair.attempt, err=UNCOVERED)
    with pytest.raises(VaultUncovered):
        await pair.standing()


async def test_a_failure_that_is_not_final_is_no_refusal_even_if_all_nodes_show_it(pair: Panel) -> None:
    for chain in pair.chains:
        chain.knows(pair.attempt, "confirmed", err=UNCOVERED)
    assert await pair.standing() is Standing.PENDING


# Who errs is named, once.


def defects(lines: list[structlog.typing.EventDict]) -> list[tuple[str, str, str]]:
    return [(line["event"], line["node"], line["defect"]) for line in lines if "defect" in line]


@pytest.mark.parametrize(
    ("defect", "what", "unfit", "fit"),
    [
        (Defect.BEHIND, "status_slot", FINALIZED_SLOT - 1, FINALIZED_SLOT),
        (Defect.AHEAD, "finalized_slot", FINALIZED_SLOT + MAX_LEAD_SLOTS + 1, FINALIZED_SLOT),
        (Defect.WITHOUT_HISTORY, "first_available", FINALIZED_SLOT, 0),
    ],
)
async def test_a_node_that_is_not_fit_is_logged_once_and_once_more_when_it_is(
    three: Panel, defect: Defect, what: str, unfit: int, fit: int
) -> None:
    url = three.chains[1].node.url
    with structlog.testing.capture_logs() as lines:
        setattr(three.chains[1], what, unfit)
        for _ in range(3):
            await three.standing()
        setattr(three.chains[1], what, fit)
        for _ in range(3):
            await three.standing()
    of_this = [line for line in defects(lines) if line[2] == defect]
    assert of_this == [("node unfit", url, defect), ("node fit again", url, defect)]


async def test_a_node_that_lies_by_null_is_named(pair: Panel) -> None:
    pair.chains[0].knows(pair.attempt)
    pair.chains[0].has_record(pair.statement.bets_root)
    with structlog.testing.capture_logs() as lines:
        for _ in range(2):
            await pair.standing()
    assert defects(lines) == [("node unfit", pair.chains[1].node.url, Defect.DENIES)]


async def test_a_node_that_is_behind_is_read_from_last(three: Panel) -> None:
    three.chains[0].status_slot = FINALIZED_SLOT - 1
    await three.standing()
    three.forget_calls()
    await three.nodes.epoch_info("finalized")
    assert three.calls(0) == []


async def test_a_node_that_hangs_does_not_hold_up_the_verdict(three: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes_module, "GRACE_SECONDS", 0.05)
    three.chains[0].node.hangs = True
    assert await three.standing() is Standing.NONE_LIVE


# Up to which height an attempt may land.


def names_last_valid(chain: ScriptedChain, height: int) -> None:
    answer = chain.node.answers["getLatestBlockhash"]

    def named(params: list[object]) -> dict[str, object]:
        told = answer(params)
        return {**told, "value": {**told["value"], "lastValidBlockHeight": height}}

    chain.node.answers["getLatestBlockhash"] = named


async def test_an_attempt_that_a_node_calls_valid_too_briefly_is_not_proven_dead(pair: Panel) -> None:
    names_last_valid(pair.chains[0], 0)
    attempt = await pair.ledger.sign(pair.statement, a_proof(pair.statement), 1)
    height = pair.chains[1].heights["finalized"] + BLOCKHASH_BLOCKS + MAX_UNFINAL_BLOCKS
    assert attempt.last_valid_block_height == height
    assert await pair.standing(attempt) is Standing.PENDING
    for chain in pair.chains:
        chain.heights["finalized"] = height + 1
    assert await pair.standing(attempt) is Standing.NONE_LIVE


async def test_a_node_that_lies_low_about_its_own_height_too_expires_no_attempt(pair: Panel) -> None:
    names_last_valid(pair.chains[0], 0)
    pair.chains[0].heights["finalized"] = 0
    attempt = await pair.ledger.sign(pair.statement, a_proof(pair.statement), 1)
    assert attempt.last_valid_block_height > pair.chains[1].heights["finalized"] + BLOCKHASH_BLOCKS


async def test_an_attempt_that_a_node_calls_valid_for_ever_is_signed_by_another(pair: Panel) -> None:
    names_last_valid(pair.chains[0], 2**62)
    attempt = await pair.ledger.sign(pair.statement, a_proof(pair.statement), 1)
    assert attempt.last_valid_block_height < LAST_VALID + MAX_VALID_BLOCKS_AHEAD


def test_how_long_an_attempt_is_valid_is_measured_by_the_nodes_that_are_not_far_off() -> None:
    ahead = MAX_VALID_BLOCKS_AHEAD
    blocks = BLOCKHASH_BLOCKS + MAX_UNFINAL_BLOCKS
    assert last_valid_height(0, [100]) == 100 + blocks
    assert last_valid_height(100 + blocks + 7, [100]) == 100 + blocks + 7
    assert last_valid_height(0, [100, 90, 2**63]) == 100 + blocks, "a lone claim from far above counts for nothing"
    assert last_valid_height(0, [5_000, 5_000 - ahead]) == 5_000 + blocks
    with pytest.raises(LedgerUnavailable, match="too far apart"):
        last_valid_height(0, [5_001, 5_000 - ahead])
    with pytest.raises(LedgerUnavailable, match="good up to height"):
        last_valid_height(101 + ahead, [100, 100])


# Signing.


def refusing(chain: ScriptedChain, err: object, slot: int = FINALIZED_SLOT) -> None:
    chain.node.answers["simulateTransaction"] = lambda _: {
        "context": {"slot": slot},
        "value": {"err": err, "logs": []},
    }


async def test_signing_uses_one_node_throughout(pair: Panel) -> None:
    await pair.sign()
    assert pair.calls(1) == ["getEpochInfo"]
    pair.chains[0].node.answers["simulateTransaction"] = lambda _: (_ for _ in ()).throw(Refusal(-32005))
    pair.forget_calls()
    await pair.sign()
    assert pair.calls(1) == [
        "getEpochInfo",
        "getRecentPrioritizationFees",
        "getLatestBlockhash",
        "getEpochInfo",
        "simulateTransaction",
    ]


@pytest.mark.parametrize(
    ("err", "raised"),
    [
        (UNCOVERED, VaultUncovered),
        ({"InstructionError": [SETTLE_POSITION, {"Custom": int(ProgramError.HOUSE_UNCOVERED)}]}, HouseUncovered),
        ({"InstructionError": [SETTLE_POSITION, "ComputationalBudgetExceeded"]}, SettlementRefused),
    ],
)
async def test_a_simulations_refusal_needs_a_second_node_that_refuses_the_same(
    pair: Panel, err: object, raised: type[Exception]
) -> None:
    refusing(pair.chains[0], err)
    refusing(pair.chains[1], err)
    with pytest.raises(raised):
        await pair.sign()


async def test_a_refusal_that_another_node_does_not_share_hinders_no_signing(pair: Panel) -> None:
    refusing(pair.chains[0], UNCOVERED)
    signed: SignedAttempt = await pair.sign()
    assert signed.bets_root == pair.statement.bets_root


async def test_a_refusal_without_a_second_node_is_no_refusal(pair: Panel) -> None:
    refusing(pair.chains[0], UNCOVERED)
    pair.fails(1)
    with pytest.raises(LedgerUnavailable, match=f"{pair.chains[0].node.url} alone says: the vault of"):
        await pair.sign()


async def test_different_refusals_of_two_nodes_are_no_refusal(pair: Panel) -> None:
    refusing(pair.chains[0], UNCOVERED)
    refusing(pair.chains[1], {"InstructionError": [SETTLE_POSITION, {"Custom": int(ProgramError.VAULT_UNCOVERED)}]})
    with pytest.raises(LedgerUnavailable, match="alone says"):
        await pair.sign()


async def test_different_words_of_two_nodes_on_the_bytes_themselves_are_no_refusal(pair: Panel) -> None:
    def refuse(code: int) -> object:
        raise Refusal(code)

    pair.chains[0].node.answers["simulateTransaction"] = lambda _: refuse(-32003)
    pair.chains[1].node.answers["simulateTransaction"] = lambda _: refuse(-32602)
    with pytest.raises(LedgerUnavailable, match="alone says"):
        await pair.sign()
    pair.chains[0].node.answers["simulateTransaction"] = lambda _: refuse(-32602)
    with pytest.raises(SettlementRefused):
        await pair.sign()


async def test_a_blockhash_that_one_node_refuses_to_tell_is_taken_from_the_next(pair: Panel) -> None:
    pair.chains[0].node.answers["getLatestBlockhash"] = lambda _: (_ for _ in ()).throw(Refusal(-32600))
    assert await pair.sign()


async def test_a_limit_of_units_that_did_not_do_has_the_batch_signed_anew(pair: Panel) -> None:
    for name in ("ComputationalBudgetExceeded", "ProgramFailedToComplete"):
        for chain in pair.chains:
            chain.knows(pair.attempt, err={"InstructionError": [SETTLE_POSITION, name]})
        assert await pair.standing() is Standing.NONE_LIVE


async def test_a_simulation_that_names_too_few_units_is_not_taken_at_its_word(pair: Panel) -> None:
    pair.chains[0].node.answers["simulateTransaction"] = lambda _: {
        "context": {"slot": FINALIZED_SLOT},
        "value": {"err": None, "unitsConsumed": 0},
    }
    message = VersionedTransaction.from_bytes(base64.b64decode((await pair.sign()).raw)).message
    assert int.from_bytes(message.instructions[0].data[1:5], "little") == MIN_COMPUTE_UNITS > 131_045


async def test_a_refusal_of_a_node_that_lags_behind_finality_does_not_count(pair: Panel) -> None:
    refusing(pair.chains[0], UNCOVERED)
    refusing(pair.chains[1], UNCOVERED, FINALIZED_SLOT - 1)
    with pytest.raises(LedgerUnavailable, match="behind slot"):
        await pair.sign()


async def test_a_payer_that_one_node_takes_for_poor_is_asked_of_the_next(pair: Panel) -> None:
    refusing(pair.chains[0], "InsufficientFundsForFee")
    await pair.sign()
    refusing(pair.chains[1], "InsufficientFundsForFee")
    with pytest.raises(LedgerMisconfigured, match="send it SOL"):
        await pair.sign()


async def test_a_blockhash_that_a_node_does_not_know_is_no_refusal(pair: Panel) -> None:
    for chain in pair.chains:
        refusing(chain, "BlockhashNotFound")
    with pytest.raises(LedgerUnavailable, match="does not accept the blockhash"):
        await pair.sign()
