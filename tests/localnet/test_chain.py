"""Blockhash expiry, commitment levels and account versions, block by block."""

import pytest
from solders.account import Account
from solders.hash import Hash
from solders.keypair import Keypair
from solders.system_program import ID as SYSTEM_PROGRAM

from localnet.accounts import VersionedAccounts
from localnet.chain import (
    BLOCKHASH_BLOCKS_MAX,
    SLOT_HASHES_MAX,
    Block,
    Chain,
    last_valid_block_height,
    next_blockhash,
)
from localnet.engine import Engine
from localnet.errors import describe


def grow(chain: Chain, blocks: int) -> None:
    for _ in range(blocks):
        slot, height = chain.open_slot, chain.open_height
        chain.complete(Block(slot, height, next_blockhash(chain.tip.blockhash, slot, ()), 0, 0, 0))
        chain.stored(height)


def new_chain(blocks: int = 40) -> Chain:
    chain = Chain([Block(0, 0, Hash.new_unique(), 0, 0, 0)])
    grow(chain, blocks)
    return chain


def test_a_blockhash_is_valid_up_to_its_last_valid_block_height_and_no_further() -> None:
    chain = new_chain()
    view = chain.view("processed", 0)
    blockhash, last = view.blockhash, last_valid_block_height(view.blockhash_height)
    assert last - view.blockhash_height == BLOCKHASH_BLOCKS_MAX
    while chain.view("processed", 0).height <= last:
        assert chain.blockhash_is_valid(blockhash, chain.view("processed", 0))
        grow(chain, 1)
    assert not chain.blockhash_is_valid(blockhash, chain.view("processed", 0))


def test_levels_are_two_and_thirty_two_blocks_behind_even_over_skipped_slots() -> None:
    chain = new_chain()
    chain.skip_to(chain.open_slot + 100)
    grow(chain, 1)
    heights = {level: chain.view(level, 0).height for level in ("processed", "confirmed", "finalized")}
    assert heights == {"processed": 42, "confirmed": 40, "finalized": 10}
    assert chain.view("processed", 0).slot == 142
    assert chain.view("confirmed", 0).slot == 40


def test_a_lower_level_does_not_know_newer_blockhashes() -> None:
    chain = new_chain()
    newest = chain.view("processed", 0).blockhash
    assert not chain.blockhash_is_valid(newest, chain.view("confirmed", 0))
    assert not chain.blockhash_is_valid(newest, chain.view("finalized", 0))


def test_the_chain_keeps_no_more_blocks_than_the_sysvar() -> None:
    chain = new_chain(SLOT_HASHES_MAX + 50)
    assert len(chain.slot_hashes()) == SLOT_HASHES_MAX
    assert chain.slot_hashes()[0][0] == chain.tip.slot


def test_a_slot_cannot_be_closed_twice_or_go_back() -> None:
    chain = new_chain()
    with pytest.raises(ValueError, match="does not close slot"):
        chain.complete(chain.tip)
    with pytest.raises(ValueError, match="is not after"):
        chain.skip_to(chain.tip.slot)


def test_versions_answer_for_their_slot_and_are_forgotten_at_the_root() -> None:
    engine = Engine()
    accounts = VersionedAccounts(engine)
    key = Keypair().pubkey()
    versions: list[Account | None] = [None, Account(1, b"", SYSTEM_PROGRAM), None, Account(3, b"", SYSTEM_PROGRAM)]
    for slot in (1, 2, 3):
        accounts.record(key, slot, versions[slot - 1], versions[slot])
    engine.set_account(key, Account(3, b"", SYSTEM_PROGRAM))
    assert [accounts.at(key, slot) for slot in range(4)] == versions
    for root in (1, 2):
        accounts.root([key], root)
        assert [accounts.at(key, slot) for slot in range(root, 4)] == versions[root:]
    accounts.root([key], 3)
    assert not accounts.changed_since(key, -1), "nothing is kept of an account that has not changed since the root"
    assert accounts.at(key, 3) == versions[3]


def test_errors_read_as_agave_prints_them() -> None:
    assert describe("BlockhashNotFound") == "Blockhash not found"
    assert describe({"InstructionError": [2, {"Custom": 4001}]}) == (
        "Error processing Instruction 2: custom program error: 0xfa1"
    )
    assert describe({"InstructionError": [0, "PrivilegeEscalation"]}) == (
        "Error processing Instruction 0: Cross-program invocation with unauthorized signer or writable account"
    )
