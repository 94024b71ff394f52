"""What an operator's command sends is signed anew only when it has expired, and not for ever."""

from typing import Any

import pytest
from solders.keypair import Keypair
from solders.system_program import TransferParams, transfer

from ledger import landing
from ledger.landing import MAX_SIGNINGS, Job, Lander
from ledger.rpc import RpcClient
from settlement.errors import LedgerMisconfigured
from tests.ledger.scripted import ScriptedChain, ScriptedNode, serving


class Clock:
    """A second passes whenever somebody looks."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        self._now += 1
        return self._now


async def test_each_signing_has_its_own_time_and_there_are_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "time", Clock())
    monkeypatch.setattr(landing, "STALL_SECONDS", 5.0)
    monkeypatch.setattr(landing, "LAST_POLL_SECONDS", 0.01)
    payer = Keypair()
    job = Job("a test", [transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=payer.pubkey(), lamports=1))])
    async with serving(ScriptedNode()) as node, RpcClient(node.url) as rpc:
        ScriptedChain(node)  # on which everything has expired
        with pytest.raises(LedgerMisconfigured, match=f"has expired {MAX_SIGNINGS} times.*PRIORITY_FEE"):
            await Lander(rpc, payer, priority_fee_micro_lamports=0).land([job])
        sent: list[Any] = [params[0] for params in node.called("sendTransaction")]
        assert len(sent) == len(set(sent)) == MAX_SIGNINGS


def test_a_wait_lasts_longer_than_it_takes_to_expire_for_good() -> None:
    blocks, slowest_block_seconds = 150 + 32, 0.5
    assert blocks * slowest_block_seconds < landing.STALL_SECONDS
