"""Withdrawing: with both signatures, down to the vault's rent minimum."""

import pytest
from solders.instruction import Instruction

from ledger import instructions, layout
from ledger.program_errors import ProgramError
from tests.program.chain import LANE, SOL, VAULT_BALANCE, Chain


def withdrawal(chain: Chain, lamports: int, position: int = 0) -> Instruction:
    owner = chain.owners[position].pubkey()
    return instructions.withdraw(chain.program_id, chain.authority.pubkey(), LANE, owner, lamports)


@pytest.mark.parametrize("lamports", [0, 1, VAULT_BALANCE])
def test_lamports_go_from_the_vault_to_its_owner(chain: Chain, lamports: int) -> None:
    owner, vault = chain.owners[0].pubkey(), chain.vault(0)
    before = chain.lamports(owner), chain.lamports(vault)
    chain.send([withdrawal(chain, lamports)], chain.authority, chain.owners[0])
    assert (chain.lamports(owner), chain.lamports(vault)) == (before[0] + lamports, before[1] - lamports)


def test_the_vault_keeps_its_rent_minimum(chain: Chain) -> None:
    for lamports in (VAULT_BALANCE + 1, 2**63 - 1):
        chain.refuses(ProgramError.WITHDRAWAL_UNCOVERED, withdrawal(chain, lamports), chain.owners[0])
    for lamports in (2**63, 2**64 - 1, 2**64 - VAULT_BALANCE):
        chain.refuses(ProgramError.AMOUNT_OVERFLOW, withdrawal(chain, lamports), chain.owners[0])


def test_an_authority_with_a_vault_withdraws_from_it(chain: Chain) -> None:
    key = chain.authority.pubkey()
    vault = layout.vault_address(chain.program_id, LANE, key)
    chain.send([instructions.open_vault(chain.program_id, key, LANE, key)], chain.authority)
    chain.svm.airdrop(vault, SOL)
    before = chain.lamports(vault)
    chain.send([instructions.withdraw(chain.program_id, key, LANE, key, SOL)], chain.authority)
    assert chain.lamports(vault) == before - SOL
