"""An owner signs what moves lamports from his own vault to himself, byte by byte, and nothing else."""

import base64
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import Transaction, VersionedTransaction

from ledger import instructions, layout
from ledger.cosigning import NotAWithdrawal, half_sign, read_withdrawal
from ledger.transactions import encode
from operations.offers import Offer, OfferUnusable, read_offer

PROGRAM: Final = Pubkey(bytes(range(32)))
AUTHORITY, OWNER, OTHER = Keypair(), Keypair(), Keypair()
LANE: Final = 3
BLOCKHASH: Final = Hash(bytes([7] * 32))
BUDGET: Final = [set_compute_unit_limit(20_123), set_compute_unit_price(1_000)]


def withdrawal(program: Pubkey = PROGRAM, lane: int = LANE, owner: Keypair = OWNER) -> Instruction:
    return instructions.withdraw(program, AUTHORITY.pubkey(), lane, owner.pubkey(), 777)


def raw(body: Sequence[Instruction], payer: Keypair = AUTHORITY) -> str:
    return half_sign(Message.new_with_blockhash(body, payer.pubkey(), BLOCKHASH), payer)[1]


def read(text: str) -> None:
    read_withdrawal(text, program=PROGRAM, authority=AUTHORITY.pubkey(), lane=LANE, owner=OWNER.pubkey())


def bent(position: int, key: Pubkey) -> Instruction:
    honest = withdrawal()
    accounts = list(honest.accounts)
    accounts[position] = AccountMeta(key, accounts[position].is_signer, accounts[position].is_writable)
    return Instruction(honest.program_id, honest.data, accounts)


def test_an_honest_withdrawal_is_shown_and_signed_by_both() -> None:
    found = read_withdrawal(
        raw([*BUDGET, withdrawal()]),
        program=PROGRAM,
        authority=AUTHORITY.pubkey(),
        lane=LANE,
        owner=OWNER.pubkey(),
    )
    assert found.lamports == 777
    signed = Transaction.from_bytes(base64.b64decode(found.co_signed(OWNER)))
    assert signed.verify_with_results() == [True, True]
    assert str(signed.signatures[0]) == found.signature, "the owner's signature gives it no other name"


def test_an_authority_that_owns_the_vault_signs_once() -> None:
    body = [*BUDGET, withdrawal(owner=AUTHORITY)]
    found = read_withdrawal(
        raw(body), program=PROGRAM, authority=AUTHORITY.pubkey(), lane=LANE, owner=AUTHORITY.pubkey()
    )
    assert found.co_signed(AUTHORITY) == raw(body)


theft = transfer(TransferParams(from_pubkey=OWNER.pubkey(), to_pubkey=OTHER.pubkey(), lamports=1))

FORGERIES: Final = {
    "one more instruction": [*BUDGET, withdrawal(), theft],
    "one before": [theft, *BUDGET, withdrawal()],
    "another in its place": [*BUDGET, theft],
    "no compute budget": [withdrawal()],
    "budget and no withdrawal": BUDGET,
    "budget in another order": [*reversed(BUDGET), withdrawal()],
    "twice": [*BUDGET, withdrawal(), withdrawal()],
    "another program": [*BUDGET, withdrawal(program=OTHER.pubkey())],
    "another lane": [*BUDGET, withdrawal(lane=LANE + 1)],
    "another owner": [*BUDGET, withdrawal(owner=OTHER)],
    "another receiver": [*BUDGET, bent(2, OTHER.pubkey())],
    "another's vault": [*BUDGET, bent(3, layout.vault_address(PROGRAM, LANE, OTHER.pubkey()))],
    "another config": [*BUDGET, bent(1, OTHER.pubkey())],
    "another authority": [*BUDGET, bent(0, OTHER.pubkey())],
    "one account more": [
        *BUDGET,
        Instruction(PROGRAM, withdrawal().data, [*withdrawal().accounts, AccountMeta(OTHER.pubkey(), False, True)]),
    ],
    "another opcode": [*BUDGET, Instruction(PROGRAM, b"\x05" + withdrawal().data[1:], withdrawal().accounts)],
    "more data": [*BUDGET, Instruction(PROGRAM, withdrawal().data + b"\0", withdrawal().accounts)],
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_is_not_signed(forgery: str) -> None:
    with pytest.raises(NotAWithdrawal, match="do not sign it"):
        read(raw(FORGERIES[forgery]))


def test_the_owner_does_not_pay_the_fee() -> None:
    with pytest.raises(NotAWithdrawal, match="do not sign it"):
        read(raw([*BUDGET, withdrawal()], payer=OWNER))


def test_without_the_authoritys_signature_it_is_worth_nothing() -> None:
    message = Message.new_with_blockhash([*BUDGET, withdrawal()], AUTHORITY.pubkey(), BLOCKHASH)
    with pytest.raises(NotAWithdrawal, match="has not signed it"):
        read(encode(Transaction.new_unsigned(message)))


def test_what_is_no_such_transaction_is_refused() -> None:
    honest = base64.b64decode(raw([*BUDGET, withdrawal()]))
    versioned = VersionedTransaction(
        MessageV0.try_compile(AUTHORITY.pubkey(), [*BUDGET, withdrawal()], [], BLOCKHASH), [AUTHORITY, OWNER]
    )
    for content in (honest + b"\0", honest[:-1], b"", bytes(versioned)):
        with pytest.raises(NotAWithdrawal):
            read(base64.b64encode(content).decode())
    for text in ("", "no base64!", "ä"):
        with pytest.raises(NotAWithdrawal):
            read(text)


HONEST: Final = base64.b64decode(raw([*BUDGET, withdrawal()]))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_number_of_signatures_that_is_not_the_signers_is_refused(count: int) -> None:
    """Solana's own types would end the process."""
    content = bytes([count]) + (HONEST[1:65] * 3)[: 64 * count] + HONEST[129:]
    with pytest.raises(NotAWithdrawal, match="more or fewer signatures"):
        read(base64.b64encode(content).decode())


def mutated(honest: bytes, rng: random.Random) -> bytes:
    content = bytearray(honest)
    for _ in range(rng.randint(1, 3)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])


def test_whatever_it_is_given_it_refuses_or_reads() -> None:
    rng, authoritys = random.Random(7), range(1, 65)
    for _ in range(3_000):
        content = mutated(HONEST, rng) if rng.random() < 0.9 else rng.randbytes(rng.randrange(400))
        try:
            read(base64.b64encode(content).decode())
        except NotAWithdrawal:
            continue
        changed = {at for at, (was, now) in enumerate(zip(HONEST, content, strict=True)) if was != now}
        assert changed.isdisjoint({0, *authoritys}), "what the authority has not signed"
        assert changed.issubset(range(65, 129)), "only what the owner's signature will replace"


def test_whatever_an_offers_file_holds_it_is_refused_or_read(tmp_path: Path) -> None:
    offer = Offer(
        player=str(OWNER.pubkey()), lane=LANE, transaction="AQID", last_valid_block_height=9, signed_after_slot=8
    )
    honest, rng, file = offer.model_dump_json(indent=1).encode(), random.Random(8), tmp_path / "offer.json"
    file.write_bytes(honest)
    assert read_offer(file) == offer
    for content in (
        *(mutated(honest, rng) for _ in range(500)),
        *(honest.replace(b'"lane": 3', b'"lane": %d' % lane) for lane in (-1, 70_000, 2**70)),
    ):
        file.write_bytes(content)
        try:
            found = read_offer(file)
        except OfferUnusable:
            continue
        layout.vault_address(PROGRAM, found.lane, Pubkey.from_string(found.player))
