"""Deploying the program: interrupted and run again, it ends in the same place, and it overrides nothing."""

import base64
import hashlib
from typing import NamedTuple

import pytest
from solders.keypair import Keypair

from ledger.deployment import Deployer
from ledger.landing import MAX_IN_FLIGHT
from ledger.layout import UPGRADEABLE_LOADER
from ledger.loader import PROGRAMDATA_HEADER, State
from ledger.provisioning import Provisioner
from ledger.rpc import RpcClient
from program.build import ARTEFACT
from settlement.errors import LedgerMisconfigured
from tests.ledger.scripted import ScriptedNode, serving
from tests.ledger.support import PRIORITY_FEE, SOL, unheard

CODE = ARTEFACT.read_bytes()


class Operator(NamedTuple):
    """Somebody with a key and SOL of his own."""

    deployer: Deployer
    provisioner: Provisioner


@pytest.fixture
async def operator(rpc: RpcClient) -> Operator:
    return await funded(rpc, 100 * SOL)


async def funded(rpc: RpcClient, lamports: int) -> Operator:
    key = Keypair()
    operator = Operator(
        Deployer(rpc, key, priority_fee_micro_lamports=PRIORITY_FEE),
        Provisioner(rpc, key, priority_fee_micro_lamports=PRIORITY_FEE),
    )
    await operator.provisioner.airdrop(key.pubkey(), lamports)
    return operator


def must_not_write(done: int, total: int) -> None:
    pytest.fail(f"it writes: {done} of {total}")


class Interrupted(Exception):
    """Stands for a kill in the middle of a deployment."""


async def test_an_interrupted_deployment_goes_on_where_it_stood(operator: Operator) -> None:
    program = Keypair()
    seen: list[tuple[int, int]] = []

    def interrupt(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 1:
            raise Interrupted

    with pytest.raises(Interrupted):
        await operator.deployer.ensure_program(program, CODE, interrupt)
    total = seen[-1][1]
    resumed: list[tuple[int, int]] = []
    assert await operator.deployer.ensure_program(program, CODE, lambda done, total: resumed.append((done, total)))
    assert 1 <= resumed[0][0] <= MAX_IN_FLIGHT < total, "what was written is not written again"
    assert resumed[-1] == (total, total)
    assert not await operator.deployer.ensure_program(program, CODE, must_not_write)
    assert await operator.provisioner.ensure_config(program.pubkey()), "the program can be called at once"


async def test_a_program_counts_as_deployed_once_it_can_be_called() -> None:
    deployed_in, program = 500, Keypair()
    slots = iter([deployed_in - 1, deployed_in, deployed_in + 1])

    def account(data: bytes, *, executable: bool) -> object:
        encoded = [base64.b64encode(data).decode(), "base64"]
        return {"lamports": 1, "owner": str(UPGRADEABLE_LOADER), "executable": executable, "data": encoded}

    header = PROGRAMDATA_HEADER.pack(State.PROGRAMDATA, deployed_in, 1, bytes(32))
    both = [account(b"", executable=True), account(header + CODE, executable=False)]

    async with serving(ScriptedNode()) as node, RpcClient(node.url) as client:
        node.answers |= {
            "getMultipleAccounts": lambda _: {"context": {"slot": deployed_in}, "value": both},
            "getEpochInfo": lambda _: {"absoluteSlot": next(slots), "blockHeight": 1},
        }
        deployer = Deployer(client, Keypair(), priority_fee_micro_lamports=0)
        assert not await deployer.ensure_program(program, CODE, unheard)
    assert next(slots, None) is None


async def test_a_program_with_other_code_is_left_alone_and_both_digests_shown(operator: Operator) -> None:
    program = Keypair()
    await operator.deployer.ensure_program(program, CODE, unheard)
    other = CODE[:-1] + bytes([CODE[-1] ^ 1])
    with pytest.raises(LedgerMisconfigured) as error:
        await operator.deployer.ensure_program(program, other, unheard)
    for code in (CODE, other):
        assert hashlib.sha256(code).hexdigest() in str(error.value)
    assert "run `python starter.py program upgrade`" in str(error.value)


async def test_a_deployment_that_cannot_be_paid_for_is_refused_before_it_begins(rpc: RpcClient) -> None:
    pauper = await funded(rpc, SOL // 100)
    key = pauper.deployer.authority
    with pytest.raises(LedgerMisconfigured, match=f"{key}.*send it SOL"):
        await pauper.deployer.ensure_program(Keypair(), CODE, must_not_write)
    assert await pauper.provisioner.balances([key]) == [SOL // 100]
