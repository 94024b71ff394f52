"""The README says what the code does: its configuration table, its commands and its links."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

import starter
from settings import PREFIX, VAR, Settings
from settlement.bets import RejectionReason

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def _shown_default(name: str) -> str:
    default = Settings.model_fields[name].default
    return "–" if default in (None, ()) else str(default).replace(str(VAR), "var")


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_stands_in_the_configuration_table_with_its_default(name: str) -> None:
    row = re.search(rf"^\| `{PREFIX}{name.upper()}` \| `?([^`|]+?)`? \| (.+) \|$", README, re.MULTILINE)
    assert row is not None
    assert row[1] == _shown_default(name)
    assert row[2].startswith(Settings.model_fields[name].description or "")


def test_the_table_names_no_setting_that_is_not_read() -> None:
    named = {name.lower() for name in re.findall(rf"^\| `{PREFIX}(\w+)`", README, re.MULTILINE)}
    assert named == {*Settings.model_fields, "var"}


def test_every_command_that_is_shown_exists() -> None:
    shown = set(re.findall(r"starter\.py ([a-z][a-z-]*)", README))
    assert shown
    assert shown <= set(get_command(starter.app).commands)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]


def test_every_make_target_that_is_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"`?make ([a-z]+)", README)) - {"s"}
    assert shown <= targets


def test_every_file_that_is_linked_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert all((ROOT / link).exists() for link in links)


def test_every_reason_for_a_rejection_is_named() -> None:
    assert all(f"`{reason.value}`" in README for reason in RejectionReason)
