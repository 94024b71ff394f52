"""Each setting has its bounds; what is outside is refused with the variable's name, and never with a secret."""

from pathlib import Path

import pytest

import settings
from settings import InvalidSetting, load_settings

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def no_stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings, "STACK_ENV", tmp_path / "none.env")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CROUPIER_RPC_URL", "ftp://node"),
        ("CROUPIER_RPC_URL", "no address"),
        ("CROUPIER_FURTHER_RPC_URLS", f"https://node,ftp://{SECRET}"),
        ("CROUPIER_FURTHER_RPC_URLS", f"https://node,{SECRET}"),
        ("CROUPIER_FURTHER_RPC_URLS", ",".join(f"https://node-{at}" for at in range(8))),
        ("CROUPIER_COMMITMENT", "processed"),
        ("CROUPIER_JOURNAL_URL", f"mysql://user:{SECRET}@host/journal"),
        ("CROUPIER_LANES", "0"),
        ("CROUPIER_LANES", "65537"),
        ("CROUPIER_LANES", "many"),
        ("CROUPIER_WINDOW_SECONDS", "0"),
        ("CROUPIER_WINDOW_SECONDS", "nan"),
        ("CROUPIER_MAX_BATCH_BETS", "281"),
        ("CROUPIER_MAX_BATCH_PLAYERS", "57"),
        ("CROUPIER_MAX_BATCHES_IN_FLIGHT", "0"),
        ("CROUPIER_PRIORITY_FEE_MICRO_LAMPORTS", "-1"),
        ("CROUPIER_MAX_PRIORITY_FEE_MICRO_LAMPORTS", "-1"),
        ("CROUPIER_PROVING_THREADS", "0"),
        ("CROUPIER_RECONCILE_EVERY_SECONDS", "1"),
    ],
)
def test_wrong_value_is_refused_by_name(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSetting) as refused:
        load_settings()
    assert f"{variable}: " in str(refused.value)
    assert SECRET not in str(refused.value)


def test_nodes_are_separated_by_commas_the_preferred_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROUPIER_RPC_URL", "https://first")
    assert load_settings().rpc_urls == ("https://first/",)
    monkeypatch.setenv("CROUPIER_FURTHER_RPC_URLS", "https://second/key, http://third:8899/,")
    assert load_settings().rpc_urls == ("https://first/", "https://second/key", "http://third:8899/")


def test_a_node_that_is_named_twice_is_no_second_witness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROUPIER_RPC_URL", f"https://node/{SECRET}")
    monkeypatch.setenv("CROUPIER_FURTHER_RPC_URLS", f"https://node/{SECRET}")
    with pytest.raises(
        InvalidSetting, match="CROUPIER_RPC_URL and CROUPIER_FURTHER_RPC_URLS name a node twice"
    ) as refused:
        load_settings()
    assert SECRET not in str(refused.value)


def test_a_ceiling_below_the_floor_is_refused_by_both_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROUPIER_PRIORITY_FEE_MICRO_LAMPORTS", "2000")
    monkeypatch.setenv("CROUPIER_MAX_PRIORITY_FEE_MICRO_LAMPORTS", "1999")
    with pytest.raises(InvalidSetting) as refused:
        load_settings()
    assert "CROUPIER_MAX_PRIORITY_FEE_MICRO_LAMPORTS (1999)" in str(refused.value)
    assert "CROUPIER_PRIORITY_FEE_MICRO_LAMPORTS (2000)" in str(refused.value)


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROUPIER_LANES", "")
    assert load_settings().lanes == 1


@pytest.mark.parametrize(
    ("variable", "remedy"),
    [
        ("CROUPIER_LANE", "did you mean CROUPIER_LANES?"),
        ("CROUPIER_WINDOW", "did you mean CROUPIER_WINDOW_SECONDS?"),
        ("CROUPIER_VARS", "did you mean CROUPIER_VAR?"),
        ("croupier_lanes", "did you mean CROUPIER_LANES?"),
        ("CROUPIER_QQQ", "README, Configuration, has them all"),
    ],
)
def test_misspelt_variable_is_refused_with_the_nearest_name(
    variable: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, SECRET)
    monkeypatch.setenv("CROUPIER_VAR", "var")
    with pytest.raises(InvalidSetting) as refused:
        load_settings()
    assert str(refused.value).startswith(f"{variable}: there is no such setting, {remedy}")
    assert SECRET not in str(refused.value)


def test_misspelt_and_wrong_variables_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROUPIER_LANE", "4")
    monkeypatch.setenv("CROUPIER_WINDOW_SECONDS", "0")
    with pytest.raises(InvalidSetting, match=r"^CROUPIER_LANE: .*; CROUPIER_WINDOW_SECONDS: "):
        load_settings()
