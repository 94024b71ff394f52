"""Each sentence of the argument for exactly once is held by a test that is there."""

import re
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).resolve().parents[1]
ARGUMENT: Final = (TESTS.parent / "docs" / "exactly-once.md").read_text()
NAMED_TEST: Final = r"`([a-z0-9_]+/test_\w+\.py::\w+)`"
NAMED: Final = sorted(set(re.findall(NAMED_TEST, ARGUMENT)))
SENTENCES: Final = re.findall(r"^- .+\n(?:  .+\n)*", ARGUMENT, re.MULTILINE)


def test_the_argument_has_sentences_and_names_tests() -> None:
    assert len(SENTENCES) > 30
    assert len(NAMED) > 40


@pytest.mark.parametrize("sentence", SENTENCES, ids=lambda sentence: sentence[2:60])
def test_every_sentence_names_a_test(sentence: str) -> None:
    assert re.search(NAMED_TEST, sentence)


def test_nothing_is_named_otherwise_than_as_file_and_test() -> None:
    assert set(re.findall(r"`(\w+/test_[^`]*)`", ARGUMENT)) == set(NAMED)


@pytest.mark.parametrize("named", NAMED)
def test_what_the_argument_names_is_there(named: str) -> None:
    file, _, name = named.partition("::")
    assert re.search(rf"^(async )?def {name}\(", (TESTS / file).read_text(), re.MULTILINE), named
