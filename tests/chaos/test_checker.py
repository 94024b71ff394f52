"""The judge against a small run on a real ledger: it agrees with what is right, and finds whatever of it is altered."""

import json
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path
from typing import Final

import pytest
from solders.pubkey import Pubkey
from typer.testing import CliRunner

from chaos.checker import CannotJudge, Verdict, app, check, read_deposits
from chaos.checking.verdict import BalanceDifference
from tests.chaos.recorded import Account, Case, Run
from tests.chaos.settled_run import settled_run, small_world

FOREIGN: Final = "SysvarC1ock11111111111111111111111111111111"


@pytest.fixture(scope="module")
async def run(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Run]:
    async with small_world(tmp_path_factory.mktemp("ledger")) as world:
        yield await settled_run(world, tmp_path_factory.mktemp("run"))


@pytest.fixture
def case(run: Run, tmp_path: Path) -> Generator[Case]:
    """A run in which nothing went wrong."""
    with run.case(run.honest, tmp_path) as case:
        yield case


def test_an_honest_run_on_a_live_ledger_is_agreed_with(run: Run) -> None:
    assert run.live.findings() == ()
    assert run.live.agreed
    assert (run.live.sent, run.live.acknowledged, run.live.settled, run.live.batches) == (110, 110, 110, 4)
    assert run.live.lamports_found == sum(run.deposits.houses.values()) + sum(run.deposits.players.values())


def test_only_finalized_state_is_asked_for_in_one_request(case: Case) -> None:
    assert case.judged().agreed
    [request] = case.node.requests
    assert request["method"] == "getProgramAccounts"
    assert request["params"][1]["commitment"] == "finalized"
    assert request["params"][1]["withContext"]


def test_the_verdict_survives_json(case: Case) -> None:
    verdict = case.judged()
    written = verdict.model_dump_json()
    assert json.loads(written)["agreed"] is True
    assert Verdict.model_validate_json(written) == verdict


@pytest.mark.parametrize(
    "figure",
    [
        "lost",
        "settled_twice",
        "never_sent",
        "unexplained",
        "misfit_count",
        "balance_difference_count",
        "lamports_found",
    ],
)
def test_each_kind_of_disagreement_is_enough_by_itself(run: Run, figure: str) -> None:
    verdict = run.live.model_copy(update={figure: getattr(run.live, figure) + 1})
    assert len(verdict.findings()) == 1
    assert not verdict.agreed


# What was sent and acknowledged.


def test_an_acknowledged_bet_under_no_root_is_lost(case: Case) -> None:
    lost = case.sent[0].model_copy(update={"bet_id": "lost"})
    case.sent.append(lost)
    case.acknowledged.append(lost)
    verdict = case.judged()
    assert (verdict.lost, verdict.lost_ids, verdict.agreed) == (1, ("lost",), False)
    assert len(verdict.findings()) == 1


def test_a_bet_that_is_sent_and_neither_acknowledged_nor_settled_is_fine(case: Case) -> None:
    case.sent.append(case.sent[0].model_copy(update={"bet_id": "under-way"}))
    assert case.judged().agreed


def test_a_bet_whose_acknowledgement_was_lost_is_settled_and_counts(case: Case) -> None:
    del case.acknowledged[::3]
    verdict = case.judged()
    assert verdict.agreed
    assert (verdict.settled, verdict.acknowledged) == (110, 110 - 37)


def test_a_bet_sent_and_acknowledged_many_times_counts_once(case: Case) -> None:
    case.sent *= 2
    case.acknowledged += case.acknowledged[:7]
    verdict = case.judged()
    assert verdict.agreed
    assert (verdict.sent, verdict.acknowledged) == (110, 110)


def test_a_settled_bet_that_no_client_has_sent_is_found(case: Case) -> None:
    invented = case.sent.pop(11)
    case.acknowledged.remove(invented)
    verdict = case.judged()
    assert (verdict.never_sent, verdict.never_sent_ids, verdict.agreed) == (1, (invented.bet_id,), False)
    assert len(verdict.findings()) == 1


@pytest.mark.parametrize("field", ["stake", "player", "guess"])
def test_a_bet_settled_with_another_content_than_sent_is_found(case: Case, field: str) -> None:
    settled = case.sent[3]
    changes: dict[str, object] = {
        "stake": settled.stake + 1,
        "player": case.sent[4].player,
        "guess": {"heads": "tails", "tails": "heads"}[settled.guess],
    }
    case.sent[3] = case.acknowledged[3] = settled.model_copy(update={field: changes[field]})
    verdict = case.judged()
    assert (verdict.never_sent_ids, verdict.lost_ids) == ((settled.bet_id,), (settled.bet_id,))
    assert not verdict.agreed


def test_a_time_that_a_resend_stamps_anew_makes_no_other_bet(case: Case) -> None:
    with (case.folder / "more.jsonl").open("w") as more:
        for bet in case.sent:
            more.write(
                json.dumps({**bet.model_dump(mode="json"), "placed_at": "2026-01-31T12:00:00Z", "client": 3}) + "\n"
            )
    evidence = case.evidence
    (case.folder / "sent.jsonl").unlink()
    (case.folder / "acknowledged.jsonl").rename(case.folder / "acknowledged")
    evidence = evidence.model_copy(update={"sent": (case.folder,), "acknowledged": (case.folder / "acknowledged",)})
    assert check(evidence).agreed


def test_nothing_acknowledged_is_nothing_to_agree_with(case: Case) -> None:
    case.acknowledged.clear()
    assert not case.judged().agreed


# What the chain shows.


def test_a_batch_settled_under_two_numbers_is_found_with_every_bet_and_the_money(run: Run, tmp_path: Path) -> None:
    with run.case(run.doubled, tmp_path) as case:
        verdict = case.judged()
    doubled = run.batches[0, 2]
    assert verdict.settled_twice == len(doubled)
    assert set(verdict.settled_twice_ids) <= {bet.bet_id for bet in doubled}
    assert (verdict.lost, verdict.never_sent, verdict.unexplained, verdict.misfit_count) == (0, 0, 0, 0)
    moved = {(one.lane, one.account): one.found - one.expected for one in verdict.balance_differences}
    nets = {bet.player: sum(other.delta for other in doubled if other.player == bet.player) for bet in doubled}
    assert moved == {(0, "house"): -sum(nets.values()), **{(0, player): net for player, net in nets.items()}}
    assert not verdict.agreed


def test_a_record_that_nothing_explains_is_found(run: Run, tmp_path: Path) -> None:
    with run.case(run.strange, tmp_path) as case:
        verdict = case.judged()
    assert verdict.unexplained_batches == ("1/9",)
    assert any(one.lane == 1 for one in verdict.balance_differences)
    assert not verdict.agreed


def test_a_batch_whose_record_is_gone_is_lost_and_its_money_is_missed(case: Case, run: Run) -> None:
    [record] = [one for one in case.node.of("record") if one.data[2:12] == bytes([0, 0, 2]) + bytes(7)]
    case.delete([record])
    verdict = case.judged()
    assert verdict.lost == len(run.batches[0, 2])
    assert verdict.balance_difference_count == 5
    assert verdict.misfits == ("house 0 names batch 2 as its highest, the highest record is 1",)


@pytest.mark.parametrize("kind", ["house", "vault"])
@pytest.mark.parametrize("lamports", [1, -1])
def test_a_balance_off_by_one_lamport_is_found(case: Case, kind: str, lamports: int) -> None:
    account = case.node.of(kind)[0]
    account.lamports += lamports
    verdict = case.judged()
    [difference] = verdict.balance_differences
    assert (difference.found - difference.expected, difference.account == "house") == (lamports, kind == "house")
    assert verdict.lamports_found - verdict.lamports_expected == lamports
    assert not verdict.agreed


def test_a_lamport_moved_from_one_player_to_another_is_found_though_money_is_conserved(case: Case) -> None:
    one, other = case.node.of("vault")[:2]
    one.lamports, other.lamports = one.lamports - 1, other.lamports + 1
    verdict = case.judged()
    assert verdict.balance_difference_count == 2
    assert verdict.lamports_found == verdict.lamports_expected
    assert not verdict.agreed


@pytest.mark.parametrize("lamports", [1, -1])
def test_a_deposit_off_by_one_lamport_is_found(case: Case, lamports: int) -> None:
    player = next(iter(case.players))
    case.players[player] += lamports
    [difference] = case.judged().balance_differences
    assert difference.account == player


def test_an_account_that_got_no_deposit_or_has_vanished_is_found(case: Case) -> None:
    player = next(iter(case.players))
    held = case.players.pop(player)
    [difference] = case.judged().balance_differences
    assert difference.found - difference.expected == held
    case.players[player] = held
    case.delete(case.node.of("house")[:1])
    verdict = case.judged()
    assert [one.account for one in verdict.balance_differences] == ["house"]
    assert any("is of a lane without a house" in misfit for misfit in verdict.misfits)
    assert not verdict.agreed


def test_a_vault_that_nobody_knows_of_must_not_hold_money(case: Case) -> None:
    known, owner = case.node.of("vault")[0], Pubkey(bytes(range(32)))
    seeds = [b"vault", known.data[2:4], bytes(owner)]
    address = Pubkey.find_program_address(seeds, Pubkey.from_string(case.program_id))[0]
    case.node.accounts.append(Account(str(address), case.program_id, 7, known.data[:8] + bytes(owner)))
    assert BalanceDifference(account=str(owner), lane=known.data[2], expected=0, found=7) in (
        case.judged().balance_differences
    )


@pytest.mark.parametrize(
    ("layout", "offset", "says"),
    [
        ("<H", 14, "bets, its root"),
        ("<H", 16, "players, its root"),
        ("<q", 18, "gives the house"),
        ("<H", 12, "names circuit"),
        ("<Q", 26, "is not final"),
    ],
    ids=["bet_count", "player_count", "house_delta", "circuit", "slot"],
)
def test_a_record_that_says_otherwise_than_its_bets_is_found(case: Case, layout: str, offset: int, says: str) -> None:
    for record in case.node.of("record"):
        record.put(layout, offset, lambda value: value + 10**6 if layout == "<Q" else value + 2)
    verdict = case.judged()
    assert verdict.misfit_count == 4
    assert all(says in misfit for misfit in verdict.misfits)
    assert (verdict.unexplained, verdict.lost, verdict.agreed) == (0, 0, False)


def test_a_root_of_other_bets_explains_nothing(case: Case) -> None:
    case.node.of("record")[0].put(">B", 65, lambda value: value ^ 1)
    verdict = case.judged()
    assert verdict.unexplained == 1
    assert verdict.lost > 0
    assert not verdict.agreed


@pytest.mark.parametrize(
    ("kind", "layout", "offset"),
    [("house", "<I", 4), ("house", "<Q", 8), ("circuit", "<H", 4), ("circuit", "<H", 6), ("vault", "<I", 4)],
    ids=["vault_count", "highest_batch", "circuit_bets", "circuit_players", "vault_index"],
)
def test_accounts_that_contradict_each_other_are_found(case: Case, kind: str, layout: str, offset: int) -> None:
    for account in case.node.of(kind):
        account.put(layout, offset, lambda _: 3 if kind == "circuit" else 77)
    verdict = case.judged()
    assert verdict.misfit_count or verdict.unexplained
    assert not verdict.agreed


@pytest.mark.parametrize("kind", ["house", "vault", "record", "circuit"])
def test_an_account_is_believed_only_at_its_address_of_its_owner_and_once(case: Case, kind: str) -> None:
    account = case.node.of(kind)[0]
    address = account.pubkey
    account.owner = FOREIGN
    assert any(address in misfit for misfit in case.judged().misfits)
    account.owner, account.pubkey = case.program_id, FOREIGN
    assert any(FOREIGN in misfit for misfit in case.judged().misfits)
    account.pubkey = address
    assert case.judged().agreed
    case.node.accounts.append(account)
    assert any(address in misfit for misfit in case.judged().misfits)


# What the journal hints at.


def test_a_journal_that_shuffles_a_batch_is_not_believed(case: Case) -> None:
    case.alter_journal(
        "UPDATE bets SET position = 100 WHERE bet_id = 'usual-3'",
        "UPDATE bets SET position = 3 WHERE bet_id = 'usual-4'",
        "UPDATE bets SET position = 4 WHERE bet_id = 'usual-3'",
    )
    verdict = case.judged()
    assert verdict.unexplained_batches == ("0/2",)
    assert verdict.lost == 34


@pytest.mark.parametrize(
    "lie",
    [
        "DELETE FROM bets WHERE bet_id = 'usual-3'",
        "UPDATE bets SET bet_id = 'usual-300' WHERE bet_id = 'usual-3'",
        "UPDATE bets SET stake = 'much' WHERE bet_id = 'usual-3'",
        "UPDATE bets SET position = 100, batch_id = (SELECT batch_id FROM bets WHERE bet_id = 'small-1')"
        " WHERE bet_id = 'usual-3'",
    ],
    ids=["deleted", "renamed", "garbled", "moved"],
)
def test_a_journal_that_lies_about_a_batch_leaves_it_unexplained(case: Case, lie: str) -> None:
    case.alter_journal(lie)
    verdict = case.judged()
    assert "0/2" in verdict.unexplained_batches
    assert verdict.lost >= 34
    assert not verdict.agreed


def test_a_journal_without_batches_explains_nothing(case: Case) -> None:
    case.alter_journal("DELETE FROM bets")
    verdict = case.judged()
    assert (verdict.unexplained, verdict.lost, verdict.settled) == (4, 110, 0)


@pytest.mark.parametrize(
    "lie",
    [
        "UPDATE bets SET stake = stake + 1 WHERE bet_id = 'usual-3'",
        "UPDATE bets SET guess = outcome",
        "UPDATE bets SET status = 'rejected', decided_at = '2026-01-31 12:00:00' WHERE bet_id LIKE 'usual-1%'",
        "UPDATE bets SET lane = 0, status = 'settled', digest = '00'",
        "UPDATE batches SET number = number + 100",
        "DELETE FROM lanes",
    ],
)
def test_lies_of_the_journal_that_roots_and_sent_bets_refute_do_not_matter(case: Case, lie: str) -> None:
    case.alter_journal(lie)
    assert case.judged().findings() == ()


def test_a_bet_that_the_journal_rejects_though_its_batch_landed_with_it_is_settled(case: Case) -> None:
    case.alter_journal(
        "UPDATE bets SET status = 'rejected', decided_at = '2026-01-31 12:00:0' || (position % 3) WHERE bet_id LIKE 'usual-1%'"
    )
    assert case.judged().agreed


# Inputs that are none.


def _unfinished(text: str) -> str:
    return text + '{"bet_id": "kil'


def _broken(text: str) -> str:
    return '{"bet_id": "kil\n' + text


def _without_stake(text: str) -> str:
    return text.replace('"stake":1000,', "", 1)


def test_a_line_that_a_killed_client_has_not_finished_does_not_count(case: Case) -> None:
    evidence = case.evidence
    for file in (*evidence.sent, *evidence.acknowledged):
        file.write_text(_unfinished(file.read_text()))
    assert check(evidence).agreed
    file = evidence.acknowledged[0]
    file.write_text("".join(f"{bet.model_dump_json()}\n" for bet in case.acknowledged).rstrip("\n"))
    assert check(evidence).acknowledged == 109


@pytest.mark.parametrize("damage", [_broken, _without_stake])
def test_a_line_that_holds_no_bet_is_named(case: Case, damage: Callable[[str], str]) -> None:
    evidence = case.evidence
    [file] = evidence.sent
    file.write_text(damage(file.read_text()))
    with pytest.raises(CannotJudge, match=r"sent\.jsonl, line 1: "):
        check(evidence)


@pytest.mark.parametrize(
    "body",
    [b"garbage", b"{}", b'{"error": {"code": -32005, "message": "Node is behind"}}', b'{"result": []}'],
    ids=["garbage", "nothing", "error", "no context"],
)
def test_a_node_that_does_not_answer_the_question_decides_nothing(case: Case, body: bytes) -> None:
    case.node.body = body
    with pytest.raises(CannotJudge, match="the node at"):
        case.judged()


def test_deposits_are_read_before_the_first_bet_only(case: Case, run: Run) -> None:
    with pytest.raises(CannotJudge, match="is settled already"):
        read_deposits(case.rpc_url, case.program_id, 2)
    case.delete(case.node.of("record"))
    assert read_deposits(case.rpc_url, case.program_id, 2).houses.keys() == run.deposits.houses.keys()
    with pytest.raises(CannotJudge, match="foreign lane"):
        read_deposits(case.rpc_url, case.program_id, 1)


# The command.


def test_the_command_ends_with_0_only_if_it_agrees(case: Case, tmp_path: Path) -> None:
    evidence = case.evidence
    deposits, report = tmp_path / "deposits.json", tmp_path / "verdict.json"
    deposits.write_text(evidence.deposits.model_dump_json())
    arguments = [
        f"--rpc-url={case.rpc_url}",
        f"--program-id={case.program_id}",
        f"--journal={case.journal}",
        f"--sent={evidence.sent[0]}",
        f"--acknowledged={evidence.acknowledged[0]}",
        f"--deposits={deposits}",
        "--lanes=2",
        f"--json={report}",
    ]
    agreed = CliRunner().invoke(app, arguments)
    assert (agreed.exit_code, json.loads(report.read_text())["agreed"]) == (0, True)
    assert "110 settled in 4 batches; 0 lost" in agreed.output
    case.node.of("vault")[0].lamports += 1
    disagreed = CliRunner().invoke(app, arguments)
    assert (disagreed.exit_code, json.loads(report.read_text())["agreed"]) == (1, False)
    assert "NOT agreed" in disagreed.output
    cannot = CliRunner().invoke(app, [*arguments, "--journal=missing.db"])
    assert cannot.exit_code == 2
    assert "cannot judge: missing.db: there is no such file" in cannot.output
