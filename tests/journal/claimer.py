"""A process that claims batch after batch until it is killed, and prints each batch's id and number once it has the answer."""

import asyncio
import sys
from itertools import count

from journal.adapter import SqlJournal
from settlement.bets import Bet
from tests.journal.samples import claim, some_bets


def bets_of_batch(name: str, number: int) -> list[Bet]:
    """The bets of the `number`-th batch that the process named `name` claims."""
    return some_bets(10, f"{name}-{number}")


async def _claim_forever(url: str, name: str) -> None:
    async with SqlJournal.open(url) as journal:
        for number in count():
            answer = await journal.claim(claim(bets_of_batch(name, number)))
            print(answer.batch_id, answer.number, flush=True)


if __name__ == "__main__":
    asyncio.run(_claim_forever(*sys.argv[1:]))
