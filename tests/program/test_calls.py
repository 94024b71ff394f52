"""Called by another program, and several times by one transaction: rights are those that the signers gave, no more."""

from typing import Final

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from ledger import instructions
from ledger.program_errors import ProgramError
from program.build import FLAGS, compile_object
from program.linker import link
from tests.program.chain import LANE, SOL, Batch, Chain, Refused, unsigned, with_account

PROXY: Final = """
#include "solana.h"

/* Calls the program at its first account with its other accounts and its data behind the first byte, which says
 * whether to claim that all of them have signed. */
u64 entrypoint(u8 *input) {
    enum { ROOM = 12 };
    struct call call;
    struct account_meta metas[ROOM];
    struct account_info infos[ROOM];
    TRY(parse_call(input, &call));
    REQUIRE(call.account_count <= ROOM, ERROR_ACCOUNT_COUNT);
    for (u64 i = 0; i < call.account_count; i++) {
        account a = call.accounts[i];
        infos[i] = (struct account_info){account_key(a), account_lamports(a), account_data_size(a), account_data(a),
                                         account_owner(a), 0, account_is_signer(a), account_is_writable(a), 0};
        metas[i] = (struct account_meta){account_key(a), account_is_writable(a), account_is_signer(a) | call.data[0]};
    }
    struct instruction instruction = {account_key(call.accounts[0]), metas + 1, call.account_count - 1, call.data + 1,
                                      call.data_size - 1};
    return sol_invoke_signed_c(&instruction, infos, call.account_count, 0, 0);
}
"""


@pytest.fixture(scope="session")
def proxy_code(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    source = tmp_path_factory.mktemp("proxy") / "proxy.c"
    source.write_text(PROXY)
    return link(compile_object(source, [flag for flag in FLAGS if flag != "-Werror"]))  # much of the header is unused


@pytest.fixture
def proxy(chain: Chain, proxy_code: bytes) -> Pubkey:
    """Another's program on the chain."""
    address = Pubkey.new_unique()
    chain.svm.add_program(address, proxy_code)
    return address


def through(proxy: Pubkey, instruction: Instruction, *, claims_signatures: bool = False) -> Instruction:
    program = AccountMeta(instruction.program_id, is_signer=False, is_writable=False)
    data = bytes([claims_signatures]) + bytes(instruction.data)
    return Instruction(proxy, data, [program, *instruction.accounts])


def withdrawal(chain: Chain) -> Instruction:
    return instructions.withdraw(chain.program_id, chain.authority.pubkey(), LANE, chain.owners[0].pubkey(), 1_000)


def test_called_by_another_program_it_does_the_same(chain: Chain, proxy: Pubkey) -> None:
    vault, house = chain.lamports(chain.vault(0)), chain.lamports(chain.house())
    chain.send([through(proxy, withdrawal(chain))], chain.authority, chain.owners[0])
    assert chain.lamports(chain.vault(0)) == vault - 1_000
    chain.send([through(proxy, chain.settlement(Batch()))], chain.authority)
    assert (chain.lamports(chain.vault(0)), chain.lamports(chain.house())) == (vault - 2_000, house - 2_000)


@pytest.mark.parametrize("position", [0, 2])
def test_another_program_needs_the_signatures_too(chain: Chain, proxy: Pubkey, position: int) -> None:
    bent = with_account(withdrawal(chain), position, unsigned)
    signer = chain.owners[0] if position == 0 else chain.authority
    stranger = Keypair()
    chain.svm.airdrop(stranger.pubkey(), SOL)
    chain.refuses(ProgramError.MISSING_SIGNATURE, through(proxy, bent), signer, pays=stranger)


@pytest.mark.parametrize("position", [0, 2])
def test_another_program_cannot_claim_signatures(chain: Chain, proxy: Pubkey, position: int) -> None:
    """The runtime refuses it before the program is reached."""
    bent = through(proxy, with_account(withdrawal(chain), position, unsigned), claims_signatures=True)
    signer = chain.owners[0] if position == 0 else chain.authority
    stranger = Keypair()
    chain.svm.airdrop(stranger.pubkey(), SOL)
    assert chain.refusal(bent, signer, pays=stranger) is None


def test_a_transaction_with_a_refused_instruction_does_nothing(chain: Chain) -> None:
    """Not even what comes before: here, the same batch."""
    batch = Batch()
    before = chain.state([chain.record(batch)])
    with pytest.raises(Refused) as refused:
        chain.send([chain.settlement(batch), chain.settlement(batch)], chain.authority)
    assert refused.value.code == ProgramError.BATCH_EXISTS
    assert chain.state([chain.record(batch)]) == before


def test_a_transaction_may_settle_several_batches(chain: Chain) -> None:
    house = chain.lamports(chain.house())
    chain.send([chain.settlement(Batch(number=number)) for number in (1, 2)], chain.authority)
    assert chain.lamports(chain.house()) == house - 2 * 2_000
