"""What holds for all tests."""

from typing import Any, Final

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

STACKS: Final = "tests/e2e/"

# A machine may be slow at any moment: how long an example takes says nothing about it.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


class _ByFile(LoadScopeScheduling):
    """Of two processes that run tests, one gets all of a file's, and one all that start stacks: these look for free ports."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return STACKS if file.startswith(STACKS) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Marks for groups, which xdist has for this, are not seen by pytest 9.2."""
    return _ByFile(config, log)
