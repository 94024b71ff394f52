"""An answer serves for a moment: within it nobody asks again who need not, after it everybody does."""

from types import SimpleNamespace

import pytest

from ledger import recent
from ledger.recent import Recent

GOOD_SECONDS = 2.0


class Node:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_dead = False

    async def answer(self) -> int:
        if self.is_dead:
            raise ConnectionError
        self.asked += 1
        return self.asked


async def test_an_answer_serves_its_key_for_a_while_and_not_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(recent, "time", SimpleNamespace(monotonic=lambda: now))
    answers, node, other = Recent[str, int](GOOD_SECONDS), Node(), Node()
    assert [await answers.get("a", node.answer, anew=False) for _ in range(3)] == [1, 1, 1]
    assert await answers.get("b", other.answer, anew=False) == 1
    now += GOOD_SECONDS
    assert await answers.get("a", node.answer, anew=False) == 1
    now += 0.1
    assert await answers.get("a", node.answer, anew=False) == 2


async def test_what_is_asked_anew_serves_those_who_come_after() -> None:
    answers, node = Recent[str, int](GOOD_SECONDS), Node()
    assert await answers.get("a", node.answer, anew=False) == 1
    assert await answers.get("a", node.answer, anew=True) == 2
    assert await answers.get("a", node.answer, anew=False) == 2


async def test_a_failure_is_nobodys_answer() -> None:
    answers, node = Recent[str, int](GOOD_SECONDS), Node()
    node.is_dead = True
    with pytest.raises(ConnectionError):
        await answers.get("a", node.answer, anew=False)
    node.is_dead = False
    assert await answers.get("a", node.answer, anew=False) == 1
