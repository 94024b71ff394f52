"""Every instruction, as a hostile caller would bend it: signatures, rights, accounts and data, one at a time."""

from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import pytest
from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM

from ledger import instructions, layout
from ledger.program_errors import ProgramError
from settlement.shapes import Shape
from tests.program.chain import (
    LANE,
    LARGE,
    OTHER_LANE,
    SOL,
    Batch,
    Chain,
    lookup_table,
    read_only,
    registration,
    unsigned,
    with_account,
    with_data,
)

BATCH = Batch()
NEW_LANE = 9
NEW_SHAPE = Shape(circuit_id=107, bets=8, players=4)
E = ProgramError


class Case(NamedTuple):
    """An instruction that the program accepts, and what it says to a stranger's key at each position."""

    build: Callable[[Chain], Instruction]
    refusals: list[ProgramError]


def initialise(chain: Chain) -> Instruction:
    key = chain.authority.pubkey()
    return instructions.initialise(chain.program_id, key, chain.upgrade_authority.pubkey(), key)


def open_vault(chain: Chain) -> Instruction:
    return instructions.open_vault(chain.program_id, chain.authority.pubkey(), LANE, Pubkey.new_unique())


def withdraw(chain: Chain) -> Instruction:
    owner = chain.owners[0].pubkey()
    return instructions.withdraw(chain.program_id, chain.authority.pubkey(), LANE, owner, 1_000)


def register_circuit(chain: Chain) -> Instruction:
    return registration(chain, NEW_SHAPE)


def open_house(chain: Chain) -> Instruction:
    return instructions.open_house(chain.program_id, chain.authority.pubkey(), NEW_LANE)


def settle(chain: Chain) -> Instruction:
    return chain.settlement(BATCH)


def register_table(chain: Chain) -> Instruction:
    return instructions.register_table(chain.program_id, chain.authority.pubkey(), LANE, 7, lookup_table(chain))


def withdraw_bankroll(chain: Chain) -> Instruction:
    return instructions.withdraw_bankroll(chain.program_id, chain.authority.pubkey(), LANE, 1_000)


CASES = {
    "register_circuit": Case(
        register_circuit,
        [E.WRONG_AUTHORITY, E.FOREIGN_ACCOUNT, E.ADDRESS, E.NOT_SYSTEM_PROGRAM],
    ),
    "open_house": Case(
        open_house,
        [E.WRONG_AUTHORITY, E.FOREIGN_ACCOUNT, E.ADDRESS, E.NOT_SYSTEM_PROGRAM],
    ),
    "open_vault": Case(
        open_vault,
        [E.WRONG_AUTHORITY, E.FOREIGN_ACCOUNT, E.FOREIGN_ACCOUNT, E.ADDRESS, E.ADDRESS, E.NOT_SYSTEM_PROGRAM],
    ),
    "withdraw": Case(withdraw, [E.WRONG_AUTHORITY, E.FOREIGN_ACCOUNT, E.WRONG_VAULT_OWNER, E.FOREIGN_ACCOUNT]),
    "settle": Case(
        settle,
        [
            E.WRONG_AUTHORITY,
            E.FOREIGN_ACCOUNT,
            E.FOREIGN_ACCOUNT,
            E.FOREIGN_ACCOUNT,
            E.ADDRESS,
            E.NOT_SYSTEM_PROGRAM,
            E.FOREIGN_ACCOUNT,
            E.FOREIGN_ACCOUNT,
        ],
    ),
    "register_table": Case(
        register_table,
        [
            E.WRONG_AUTHORITY,
            E.FOREIGN_ACCOUNT,
            E.FOREIGN_ACCOUNT,
            E.ADDRESS,
            E.NOT_LOOKUP_TABLE,
            E.NOT_SYSTEM_PROGRAM,
        ],
    ),
    "withdraw_bankroll": Case(withdraw_bankroll, [E.WRONG_AUTHORITY, E.FOREIGN_ACCOUNT, E.FOREIGN_ACCOUNT]),
}
INITIALISE = Case(
    initialise, [E.ADDRESS, E.NOT_UPGRADE_AUTHORITY, E.ADDRESS, E.ADDRESS, E.NOT_SYSTEM_PROGRAM]
)  # a stranger may pay for it: position 0 is not tried


@pytest.fixture(params=[*CASES, "initialise"])
def case(request: pytest.FixtureRequest) -> Case:
    return CASES.get(request.param, INITIALISE)


@pytest.fixture
def ready(case: Case, request: pytest.FixtureRequest) -> Chain:
    """A chain on which the case's instruction would be accepted."""
    chain: Chain = request.getfixturevalue("deployed" if case is INITIALISE else "chain")
    return chain


@pytest.fixture
def stranger(ready: Chain) -> Keypair:
    """Somebody with money and no rights."""
    key = Keypair()
    ready.svm.airdrop(key.pubkey(), 10 * SOL)
    return key


def signers_of(chain: Chain, instruction: Instruction, *more: Keypair) -> list[Keypair]:
    keys = {key.pubkey(): key for key in (chain.authority, chain.upgrade_authority, *chain.owners, *more)}
    return [keys[key] for key in dict.fromkeys(meta.pubkey for meta in instruction.accounts if meta.is_signer)]


def test_as_built_it_is_accepted(case: Case, ready: Chain, stranger: Keypair) -> None:
    instruction = case.build(ready)
    ready.send([instruction], stranger, *signers_of(ready, instruction))


def test_every_signature_is_needed(case: Case, ready: Chain, stranger: Keypair) -> None:
    instruction = case.build(ready)
    positions = [i for i, meta in enumerate(instruction.accounts) if meta.is_signer]
    assert positions
    for position in positions:
        bent = with_account(instruction, position, unsigned)
        ready.refuses(E.MISSING_SIGNATURE, bent, *signers_of(ready, bent), pays=stranger)


def test_every_account_that_changes_must_be_writable(case: Case, ready: Chain, stranger: Keypair) -> None:
    instruction = case.build(ready)
    positions = [i for i, meta in enumerate(instruction.accounts) if meta.is_writable]
    assert positions
    for position in positions:
        bent = with_account(instruction, position, read_only)
        ready.refuses(E.NOT_WRITABLE, bent, *signers_of(ready, bent), pays=stranger)


def test_a_strangers_account_is_refused_at_every_position(case: Case, ready: Chain, stranger: Keypair) -> None:
    instruction = case.build(ready)
    assert len(case.refusals) == len(instruction.accounts)
    for position, error in enumerate(case.refusals):
        if case is INITIALISE and position == 0:
            continue
        other = Keypair()
        ready.svm.airdrop(other.pubkey(), SOL)
        bent = with_account(instruction, position, other.pubkey())
        ready.refuses(error, bent, *signers_of(ready, bent, other), pays=stranger)


def test_a_forged_copy_owned_by_another_program_is_refused(case: Case, ready: Chain, stranger: Keypair) -> None:
    instruction = case.build(ready)
    for position, meta in enumerate(instruction.accounts):
        genuine = ready.svm.get_account(meta.pubkey)
        if genuine is None or genuine.owner not in (ready.program_id, layout.UPGRADEABLE_LOADER):
            continue
        forged = Pubkey.new_unique()
        ready.svm.set_account(
            forged, Account(genuine.lamports, bytes(genuine.data), Pubkey.new_unique(), executable=False, rent_epoch=0)
        )
        bent = with_account(instruction, position, forged)
        # the programdata account is known by its address
        error = E.ADDRESS if genuine.owner == layout.UPGRADEABLE_LOADER else E.FOREIGN_ACCOUNT
        ready.refuses(error, bent, *signers_of(ready, bent), pays=stranger)


def test_an_account_assigned_to_the_program_but_not_written_by_it_is_refused(
    case: Case, ready: Chain, stranger: Keypair
) -> None:
    instruction = case.build(ready)
    for position, meta in enumerate(instruction.accounts):
        genuine = ready.svm.get_account(meta.pubkey)
        if genuine is None or genuine.owner != ready.program_id:
            continue
        for size in (0, len(genuine.data)):
            empty = Pubkey.new_unique()
            ready.svm.set_account(empty, Account(SOL, bytes(size), ready.program_id, executable=False, rent_epoch=0))
            bent = with_account(instruction, position, empty)
            ready.refuses(E.ACCOUNT_KIND, bent, *signers_of(ready, bent), pays=stranger)


def test_an_account_of_the_wrong_size_is_refused(case: Case, ready: Chain, stranger: Keypair) -> None:
    instruction = case.build(ready)
    for position, meta in enumerate(instruction.accounts):
        genuine = ready.svm.get_account(meta.pubkey)
        if genuine is None or genuine.owner != ready.program_id:
            continue
        data = bytes(genuine.data)
        for wrong in (data[:-1], data + b"\0"):
            other = Pubkey.new_unique()
            ready.svm.set_account(other, Account(SOL, wrong, ready.program_id, executable=False, rent_epoch=0))
            bent = with_account(instruction, position, other)
            ready.refuses(E.ACCOUNT_SIZE, bent, *signers_of(ready, bent), pays=stranger)


def test_data_too_short_or_too_long_is_refused(case: Case, ready: Chain, stranger: Keypair) -> None:
    instruction = case.build(ready)
    data = bytes(instruction.data)
    for wrong in {data[:-1], data[:1] if len(data) > 1 else b"", data + b"\0", data + bytes(8), b""}:
        bent = with_data(instruction, wrong)
        ready.refuses(E.DATA_SIZE, bent, *signers_of(ready, bent), pays=stranger)


def test_too_few_and_too_many_accounts_are_refused(case: Case, ready: Chain, stranger: Keypair) -> None:
    instruction = case.build(ready)
    accounts = list(instruction.accounts)
    more = AccountMeta(Pubkey.new_unique(), is_signer=False, is_writable=False)
    beyond_all_room = [AccountMeta(SYSTEM_PROGRAM, is_signer=False, is_writable=False)] * 80
    # for settle, other vaults than deltas are a matter of the data's size
    errors = (E.ACCOUNT_COUNT, E.DATA_SIZE)
    for wrong, error in (
        (accounts[:1], errors[0]),
        (accounts[:0], errors[0]),
        (accounts[:-1], errors[len(accounts) > 6]),
        ([*accounts, more], errors[len(accounts) > 6]),
        ([*accounts, *beyond_all_room], errors[0]),
    ):
        bent = Instruction(ready.program_id, instruction.data, wrong)
        ready.refuses(error, bent, *signers_of(ready, bent), pays=stranger)


def copy_of(key: Pubkey) -> Callable[[AccountMeta], AccountMeta]:
    return lambda meta: AccountMeta(key, is_signer=False, is_writable=meta.is_writable)


MAY_BE_THE_FIRST = {"initialise": 1, "open_vault": 4, "withdraw": 2}
"""The upgrade authority may pay, the authority may own a vault."""


def test_an_account_given_twice_is_refused(case: Case, ready: Chain, stranger: Keypair) -> None:
    instruction = case.build(ready)
    keys = [meta.pubkey for meta in instruction.accounts]
    for first, second in combinations(range(len(keys)), 2):
        if first == 0 and second == MAY_BE_THE_FIRST.get(case.build.__name__):
            continue
        bent = with_account(instruction, second, copy_of(keys[first]))
        ready.refuses(E.DUPLICATE_ACCOUNT, bent, *signers_of(ready, bent), pays=stranger)


@pytest.mark.parametrize("opcode", [8, 255])
def test_an_unknown_opcode_is_refused(chain: Chain, opcode: int) -> None:
    instruction = withdraw(chain)
    bent = with_data(instruction, bytes([opcode]) + bytes(instruction.data)[1:])
    chain.refuses(E.UNKNOWN_INSTRUCTION, bent, chain.authority, chain.owners[0])


def test_accounts_of_the_program_do_not_stand_in_for_each_other(case: Case, ready: Chain, stranger: Keypair) -> None:
    """One of each kind, of another lane where it has one, at every position of the program's own."""
    if case is INITIALISE:
        return  # there is none yet
    settled = Batch(lane=OTHER_LANE)
    ready.settle(settled)
    impostors = {
        layout.Kind.CONFIG: layout.config_address(ready.program_id),
        layout.Kind.CIRCUIT: layout.circuit_address(ready.program_id, LARGE.circuit_id),
        layout.Kind.HOUSE: ready.house(OTHER_LANE),
        layout.Kind.VAULT: ready.vault(1, OTHER_LANE),
        layout.Kind.BATCH: ready.record(settled),
        layout.Kind.TABLE: layout.table_address(ready.program_id, OTHER_LANE, 0),
    }
    table = instructions.register_table(ready.program_id, ready.authority.pubkey(), OTHER_LANE, 0, lookup_table(ready))
    ready.send([table], ready.authority)
    instruction = case.build(ready)
    for position, meta in enumerate(instruction.accounts):
        genuine = ready.svm.get_account(meta.pubkey)
        is_new = genuine is None and meta.is_writable
        if not is_new and (genuine is None or genuine.owner != ready.program_id):
            continue
        for kind, impostor in impostors.items():
            if genuine is not None and kind == genuine.data[layout.KIND_OFFSET]:
                continue  # of the same kind: see `test_attacks`
            bent = with_account(instruction, position, impostor)
            twice = impostor in (other.pubkey for other in instruction.accounts)
            error = E.DUPLICATE_ACCOUNT if twice else E.ADDRESS if is_new else E.ACCOUNT_KIND
            ready.refuses(error, bent, *signers_of(ready, bent), pays=stranger)
