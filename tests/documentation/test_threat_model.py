"""Each defence that the threat model claims is guarded by a test that is there."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
MODEL = TESTS.parent / "docs" / "threat-model.md"
CLAIMED = sorted(set(re.findall(r"`([a-z0-9_]+/test_\w+\.py(?:::\w+)?)`", MODEL.read_text())))


def test_the_model_names_tests() -> None:
    assert len(CLAIMED) > 20


@pytest.mark.parametrize("claimed", CLAIMED)
def test_what_the_model_names_is_there(claimed: str) -> None:
    file, _, name = claimed.partition("::")
    source = (TESTS / file).read_text()
    assert not name or re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), claimed
