"""Much at once: no more at a time than was asked for, and what was begun is waited for though something fails."""

import asyncio

import pytest

from ledger.many import each_done


async def test_all_are_waited_for_though_one_fails_and_the_first_failure_is_raised() -> None:
    ended: list[int] = []
    may_end = asyncio.Event()

    async def work(number: int) -> int:
        if number == 0:
            may_end.set()
            raise ValueError("the first")
        await may_end.wait()
        await asyncio.sleep(0)
        ended.append(number)
        return number

    with pytest.raises(ValueError, match="the first"):
        await each_done(map(work, range(3)))
    assert ended == [1, 2]
    assert await each_done(map(work, range(1, 3))) == [1, 2]


async def test_no_more_are_under_way_than_asked_for() -> None:
    under_way, most = 0, 0

    async def work() -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1

    await each_done([work() for _ in range(9)], at_once=3)
    assert most == 3
