"""What holds for all tests."""

from pathlib import Path

import pytest
from hypothesis import settings

STACKS = Path(__file__).parent / "e2e"

# A machine may be slow at any moment: how long an example takes says nothing about it.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of two processes that run tests, one gets all of a file's, and one all that start stacks: these look for free ports."""
    for item in items:
        group = STACKS if STACKS in item.path.parents else item.path
        item.add_marker(pytest.mark.xdist_group(str(group)))
