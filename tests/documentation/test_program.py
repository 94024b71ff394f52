"""docs/program.md says what the code does: error codes, commands, costs and links."""

import re
from pathlib import Path
from typing import Any

from solders.litesvm import LiteSVM
from typer.main import get_command

from commands import program
from ledger.loader import PROGRAM_ACCOUNT_BYTES, PROGRAMDATA_HEADER
from ledger.program_errors import ProgramError
from program.build import ARTEFACT

FILE = Path(__file__).parents[2] / "docs" / "program.md"
TEXT = FILE.read_text()
LAMPORTS_PER_SOL = 1_000_000_000


def test_every_error_code_stands_in_the_table_with_its_meaning_and_no_other_does() -> None:
    rows = re.findall(r"^\| `(0x[0-9a-f]+)`.* \| `(\w+)` \| (.+) \|$", TEXT, re.MULTILINE)
    assert rows == [(f"{error.value:#04x}", error.name, error.meaning) for error in ProgramError]


def test_the_commands_and_options_that_are_shown_are_those_that_exist() -> None:
    group: Any = get_command(program.app)
    assert set(re.findall(r"starter\.py program ([a-z][a-z-]*)", TEXT)) == set(group.commands)
    options = {
        option for command in group.commands.values() for parameter in command.params for option in parameter.opts
    }
    assert {"--new-authority-key", "--upgrade-authority", "--yes-freeze-for-ever"} <= options & set(
        re.findall(r"--[a-z-]+", TEXT)
    )


def test_the_rent_of_a_deployment_is_as_shown() -> None:
    shown = re.search(r"A deployment needs about ([0-9.]+) SOL", TEXT)
    assert shown is not None
    sizes = (PROGRAMDATA_HEADER.size + ARTEFACT.stat().st_size, PROGRAM_ACCOUNT_BYTES)
    rent = sum(LiteSVM().minimum_balance_for_rent_exemption(size) for size in sizes)
    assert abs(rent / LAMPORTS_PER_SOL - float(shown[1])) < 0.01


def test_every_file_that_is_linked_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert links
    assert all((FILE.parent / link).exists() for link in links)
