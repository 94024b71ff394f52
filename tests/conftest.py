"""What holds for all tests."""

from typing import Any, Final

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

TOGETHER: Final = ("tests/e2e/", "tests/scenarios/")
"""Of tests that start stacks, which look for free ports; and of scenarios, which run side by side so that their waits overlap."""

FIRST: Final = (
    *("tests/e2e/", "tests/prover/", "tests/program/"),
    *("tests/scenarios/", "tests/model/", "tests/ceremony/", "tests/bench/", "tests/cli/", "tests/deployment/"),
    "tests/chaos/test_run.py",
)
"""Long ones that mostly wait, each with what computes meanwhile in the other process. All others follow, short files at the end."""

SHOWN: Final = "shown"
"""A property that a test records of itself, for the summary: what a search has covered is part of its result."""

# A machine may be slow at any moment: how long an example takes says nothing about it.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


class _ByFile(LoadScopeScheduling):
    """Of the processes that run tests, one gets all of a file's, and all of what belongs together."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((folder for folder in TOGETHER if file.startswith(folder)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Marks for groups, which xdist has for this, are not seen by pytest 9.2."""
    return _ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Processes that run tests take the next file in this order whenever they have done one."""
    items.sort(
        key=lambda item: next((at for at, begin in enumerate(FIRST) if item.nodeid.startswith(begin)), len(FIRST))
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Shows what tests have recorded as `SHOWN`."""
    reports = [report for key in ("passed", "failed") for report in terminalreporter.stats.get(key, [])]
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name == SHOWN:
                terminalreporter.write_line(f"{report.nodeid.partition('::')[0]}: {value}")
