"""Upgrades through the real loader, and who may do them: interrupted and run again, refused, handed over, frozen."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from ledger import layout, loader
from ledger.deployed import DeployedProgram, deployed_program, wait_until_callable
from ledger.deployment import Deployer, Staged
from ledger.landing import MAX_IN_FLIGHT, Job, Lander
from ledger.provisioning import Provisioner
from ledger.rpc import RpcClient
from ledger.upgrade_authority import UpgradeAuthority
from localnet.chain import FINALIZED_DEPTH_BLOCKS
from settlement.errors import LedgerMisconfigured
from tests.ledger.support import PRIORITY_FEE, SOL, LocalNode, unheard
from tests.ledger.variants import answer_of, program_answering

OLD, NEW, LONG = 0x501, 0x502, 0x503
FEES_LAMPORTS = SOL // 1_000
"""More than the fees of any of these upgrades, less than the rent of any of their accounts."""


@dataclass
class Program:
    """A program that answers `OLD`, deployed and upgradeable by `owner`."""

    rpc: RpcClient
    owner: Keypair
    key: Keypair

    @property
    def address(self) -> Pubkey:
        return self.key.pubkey()

    def deployer(self, payer: Keypair | None = None, upgrade_authority: Keypair | None = None) -> Deployer:
        return Deployer(
            self.rpc,
            payer or self.owner,
            priority_fee_micro_lamports=PRIORITY_FEE,
            upgrade_authority=upgrade_authority,
        )

    def authority(self, key: Keypair | None = None) -> UpgradeAuthority:
        return UpgradeAuthority(self.rpc, self.owner, key or self.owner, priority_fee_micro_lamports=PRIORITY_FEE)

    async def now(self) -> DeployedProgram:
        found = await deployed_program(self.rpc, self.address)
        assert found is not None
        return found

    async def answer(self) -> object:
        return await answer_of(self.rpc, self.address, self.owner.pubkey())

    async def lamports(self, address: Pubkey) -> int:
        account = (await self.rpc.account(address, "confirmed")).value
        return account.lamports if account else 0


@pytest.fixture(scope="module")
def codes() -> dict[int, bytes]:
    """The long one needs more transactions than are ever in flight at once."""
    padding = {OLD: 2_000, NEW: 10, LONG: (MAX_IN_FLIGHT + 3) * loader.CHUNK_BYTES}
    return {answer: program_answering(answer, length) for answer, length in padding.items()}


async def funded(rpc: RpcClient) -> Keypair:
    key = Keypair()
    await Provisioner(rpc, key, priority_fee_micro_lamports=PRIORITY_FEE).airdrop(key.pubkey(), 10 * SOL)
    return key


async def deployed(rpc: RpcClient, codes: dict[int, bytes]) -> Program:
    program = Program(rpc, await funded(rpc), Keypair())
    await program.deployer().ensure_program(program.key, codes[OLD], unheard)
    assert await program.answer() == OLD
    return program


@pytest.fixture
async def program(rpc: RpcClient, codes: dict[int, bytes]) -> Program:
    return await deployed(rpc, codes)


@pytest.fixture(scope="module")
async def untouched(rpc: RpcClient, codes: dict[int, bytes]) -> Program:
    """For tests that leave it as it is."""
    return await deployed(rpc, codes)


def must_not_write(done: int, total: int) -> None:
    pytest.fail(f"it writes: {done} of {total}")


class Interrupted(Exception):
    """Stands for a kill in the middle of an upgrade."""


async def test_an_upgraded_program_runs_the_new_code_and_the_buffers_rent_comes_back(
    program: Program, codes: dict[int, bytes]
) -> None:
    before = await program.lamports(program.owner.pubkey())
    assert await program.deployer().ensure_code(program.address, codes[NEW], unheard)
    assert await program.answer() == NEW
    found = await program.now()
    assert found.runs(codes[NEW])
    assert found.code_sha256 == hashlib.sha256(codes[NEW]).hexdigest(), "what longer code left behind is not counted"
    assert await program.lamports(program.owner.pubkey()) > before - FEES_LAMPORTS
    assert await program.lamports(program.deployer().buffer_address(codes[NEW])) == 0
    assert not await program.deployer().ensure_code(program.address, codes[NEW], must_not_write)


async def test_an_interrupted_upgrade_to_longer_code_goes_on_where_it_stood(
    program: Program, codes: dict[int, bytes]
) -> None:
    seen: list[tuple[int, int]] = []

    def interrupt(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 1:
            raise Interrupted

    with pytest.raises(Interrupted):
        await program.deployer().ensure_code(program.address, codes[LONG], interrupt)
    assert await program.answer() == OLD, "until all is written, nothing changes"
    total, resumed = seen[-1][1], list[tuple[int, int]]()
    assert await program.deployer().ensure_code(
        program.address, codes[LONG], lambda done, total: resumed.append((done, total))
    )
    assert 1 <= resumed[0][0] <= MAX_IN_FLIGHT < total, "what was written is not written again"
    assert await program.answer() == LONG
    assert (await program.now()).code_sha256 == hashlib.sha256(codes[LONG]).hexdigest()


async def test_a_little_longer_code_gets_the_least_room_that_the_loader_gives(
    program: Program, codes: dict[int, bytes]
) -> None:
    a_little_longer = program_answering(NEW, padding_bytes=2_100)
    assert 0 < len(a_little_longer) - len(codes[OLD]) < loader.MIN_EXTENSION_BYTES
    assert await program.deployer().ensure_code(program.address, a_little_longer, unheard)
    assert await program.answer() == NEW
    assert len((await program.now()).content) == len(codes[OLD]) + loader.MIN_EXTENSION_BYTES


async def test_another_key_cannot_upgrade_and_pays_nothing_for_trying(
    untouched: Program, codes: dict[int, bytes], rpc: RpcClient
) -> None:
    other = await funded(rpc)
    with pytest.raises(
        LedgerMisconfigured, match=f"is {untouched.owner.pubkey()}, not {other.pubkey()}.*--upgrade-auth"
    ):
        await untouched.deployer(other).ensure_code(untouched.address, codes[NEW], must_not_write)
    assert await untouched.lamports(other.pubkey()) == 10 * SOL
    assert await untouched.answer() == OLD


async def test_an_upgrade_of_nothing_points_to_the_deployment(untouched: Program, codes: dict[int, bytes]) -> None:
    with pytest.raises(LedgerMisconfigured, match=r"is not deployed.*program deploy"):
        await untouched.deployer().ensure_code(Keypair().pubkey(), codes[NEW], must_not_write)


async def test_after_a_freeze_nobody_upgrades_and_a_second_freeze_does_nothing(
    program: Program, codes: dict[int, bytes]
) -> None:
    await program.authority().freeze(program.address, codes[OLD])
    final = await deployed_program(program.rpc, program.address, "finalized")
    assert final is not None
    assert final.upgrade_authority is None, "it counts only once it is final"
    with pytest.raises(LedgerMisconfigured, match="is frozen, for ever"):
        await program.deployer().ensure_code(program.address, codes[NEW], must_not_write)
    with pytest.raises(LedgerMisconfigured, match="is frozen, for ever"):
        await program.authority().hand_over(program.address, Keypair().pubkey(), None)
    await program.authority().freeze(program.address, codes[OLD])
    assert await program.answer() == OLD


async def test_code_is_frozen_only_once_no_fork_can_take_it_back(program: Program, codes: dict[int, bytes]) -> None:
    await program.deployer().ensure_code(program.address, codes[NEW], unheard)
    await program.authority().freeze(program.address, codes[NEW])
    programdata = layout.programdata_address(program.address)
    frozen, upgraded, *_ = await program.rpc.signatures_for(programdata, "confirmed", None)
    assert upgraded.slot == (await program.now()).slot
    assert frozen.slot - upgraded.slot >= FINALIZED_DEPTH_BLOCKS


async def test_other_code_is_not_frozen(untouched: Program, codes: dict[int, bytes]) -> None:
    with pytest.raises(LedgerMisconfigured, match="does not run this release's code"):
        await untouched.authority().freeze(untouched.address, codes[NEW])
    assert (await untouched.now()).upgrade_authority == untouched.owner.pubkey()


@pytest.mark.parametrize("signed", [True, False])
async def test_after_a_hand_over_the_new_key_upgrades_and_the_old_one_does_not(
    program: Program, codes: dict[int, bytes], *, signed: bool
) -> None:
    new = Keypair()
    for _ in range(2):  # The second time there is nothing to do.
        await program.authority().hand_over(program.address, new.pubkey(), new if signed else None)
    with pytest.raises(LedgerMisconfigured, match=f"is {new.pubkey()}, not {program.owner.pubkey()}"):
        await program.deployer().ensure_code(program.address, codes[NEW], must_not_write)
    with pytest.raises(LedgerMisconfigured, match=f"is {new.pubkey()}, not {program.owner.pubkey()}"):
        await program.authority().freeze(program.address, codes[OLD])
    # The new authority signs, the payer is another: full chunks of code still fit beside both signatures.
    assert await program.deployer(upgrade_authority=new).ensure_code(program.address, codes[LONG], unheard)
    assert await program.answer() == LONG


async def test_a_staged_upgrade_is_the_upgrade_authoritys_to_finish(program: Program, codes: dict[int, bytes]) -> None:
    multisig, deployer = await funded(program.rpc), program.deployer()
    await program.authority().hand_over(program.address, multisig.pubkey(), None)
    assert await deployer.stage(program.address, codes[LONG], unheard) is Staged.WRITTEN
    assert await deployer.stage(program.address, codes[LONG], must_not_write) is Staged.WRITTEN_ALREADY
    buffer = deployer.buffer_address(codes[LONG])
    with pytest.raises(LedgerMisconfigured, match="is no buffer of"):
        await deployer.reclaim(buffer)
    assert await program.answer() == OLD
    await wait_until_callable(program.rpc, program.address)
    finish = loader.upgrade(program.address, buffer=buffer, spill=program.owner.pubkey(), authority=multisig.pubkey())
    await Lander(program.rpc, multisig, priority_fee_micro_lamports=0).land([Job("upgrading", [finish])])
    await wait_until_callable(program.rpc, program.address)
    assert await program.answer() == LONG
    assert await deployer.stage(program.address, codes[LONG], must_not_write) is Staged.RUNS_ALREADY


async def test_what_an_abandoned_upgrade_has_paid_for_its_buffer_comes_back(
    untouched: Program, codes: dict[int, bytes]
) -> None:
    def interrupt(done: int, total: int) -> None:
        del done, total
        raise Interrupted

    deployer, before = untouched.deployer(), await untouched.lamports(untouched.owner.pubkey())
    with pytest.raises(Interrupted):
        await deployer.ensure_code(untouched.address, codes[LONG], interrupt)
    buffer = deployer.buffer_address(codes[LONG])
    held = await untouched.lamports(buffer)
    assert held > FEES_LAMPORTS
    assert await deployer.reclaim(buffer) == held
    assert await untouched.lamports(untouched.owner.pubkey()) > before - FEES_LAMPORTS
    assert await deployer.reclaim(buffer) == 0


@pytest.mark.parametrize("sent", [1_000_000, SOL])
async def test_lamports_that_anybody_sends_to_a_buffers_address_hinder_no_upgrade(
    program: Program, codes: dict[int, bytes], sent: int
) -> None:
    deployer = program.deployer()
    buffer = deployer.buffer_address(codes[NEW])
    sending = transfer(TransferParams(from_pubkey=program.owner.pubkey(), to_pubkey=buffer, lamports=sent))
    await Lander(program.rpc, program.owner, priority_fee_micro_lamports=0).land([Job("sending", [sending])])
    assert await program.lamports(buffer) == sent
    before = await program.lamports(program.owner.pubkey())
    assert await deployer.ensure_code(program.address, codes[NEW], unheard)
    assert await program.answer() == NEW
    assert await program.lamports(program.owner.pubkey()) > before + sent - FEES_LAMPORTS, (
        "they came to whoever upgraded"
    )


async def test_nothing_but_a_buffer_is_ever_closed(untouched: Program) -> None:
    for address in (untouched.address, layout.programdata_address(untouched.address), untouched.owner.pubkey()):
        with pytest.raises(LedgerMisconfigured, match=f"account {address} .* is no buffer of"):
            await untouched.deployer().reclaim(address)
    assert await untouched.answer() == OLD


async def test_a_program_that_was_closed_is_told_from_one_that_is_not_there(program: Program) -> None:
    owner = program.owner.pubkey()
    close = loader.close_buffer(layout.programdata_address(program.address), recipient=owner, authority=owner)
    of_a_program = [*close.accounts, AccountMeta(program.address, is_signer=False, is_writable=True)]
    closing = Job("closing", [Instruction(close.program_id, close.data, of_a_program)])
    await Lander(program.rpc, program.owner, priority_fee_micro_lamports=0).land([closing])
    with pytest.raises(LedgerMisconfigured, match="was closed for ever"):
        await deployed_program(program.rpc, program.address)


async def test_the_upgraded_program_is_the_one_that_runs_after_the_local_ledger_was_killed(
    tmp_path: Path, codes: dict[int, bytes]
) -> None:
    node = LocalNode(tmp_path / "ledger.db")
    await node.start()
    try:
        async with RpcClient(node.url) as rpc:
            program = Program(rpc, await funded(rpc), Keypair())
            await program.deployer().ensure_program(program.key, codes[OLD], unheard)
            await program.deployer().ensure_code(program.address, codes[LONG], unheard)
            upgraded_in = (await program.now()).slot
        await node.kill()
        await node.start()
        async with RpcClient(node.url) as rpc:
            program = Program(rpc, program.owner, program.key)
            assert await program.answer() == LONG
            # Frozen, it is final: the next start has nothing but the newest version.
            await program.authority().freeze(program.address, codes[LONG])
            assert (await program.now()).slot == upgraded_in
        await node.kill()
        await node.start()
        async with RpcClient(node.url) as rpc:
            program = Program(rpc, program.owner, program.key)
            assert (await program.now()).upgrade_authority is None
            assert await program.answer() == LONG
    finally:
        await node.kill()
