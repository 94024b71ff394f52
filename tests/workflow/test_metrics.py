"""What a worker tells Prometheus of its lanes."""

import asyncio
import urllib.request
from pathlib import Path

import pytest

from client.connection import connect
from embedded.processes import free_port
from settings import InvalidSetting
from tests.workflow.casino import bet, open_casino, some_bets

PREFERRED_PORT = 29_464

FAMILIES = {
    "croupier_lane_queued_bets": 0,
    "croupier_lane_parked_bets": 0,
    "croupier_lane_batches_in_flight": 0,
    "croupier_lane_breaker": 0,
    "croupier_lane_bets_accepted": 3,
    "croupier_lane_bets_duplicate": 1,
    "croupier_lane_bets_rejected": 1,
}


def scrape(address: str) -> dict[str, float]:
    """The lane's samples by name."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {
        line.partition("{")[0].removesuffix("_total"): float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("croupier_lane_") and 'lane="0"' in line
    }


async def test_a_worker_serves_what_its_lanes_hold_and_have_answered(
    journal_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"127.0.0.1:{free_port(PREFERRED_PORT)}"
    async with open_casino(journal_path, skips_time=False, at_work=False) as casino:
        monkeypatch.setenv("TEMPORAL_ADDRESS", casino.client.service_client.config.target_host)
        casino.client = await connect(address)
        async with casino.at_work():
            await casino.open_lane(window_seconds=0.1)
            bets = some_bets(3)
            await casino.place_many([*bets, bets[0], bet("bet-1", stake=9)])
            await casino.idle()

            async def told() -> bool:
                return await asyncio.to_thread(scrape, address) == FAMILIES

            await casino.soon(told)


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "192.0.2.1:9464"])
async def test_an_address_that_cannot_be_served_is_named_with_the_remedy(address: str) -> None:
    with pytest.raises(InvalidSetting, match=rf"CROUPIER_METRICS_ADDRESS.*{address}.*name a free port"):
        await connect(address)
