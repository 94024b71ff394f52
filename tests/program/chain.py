"""A chain in memory with the program deployed as on a real cluster, and money on it, for the tests of the program."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple, Self

import groth16py
import pytest
from solders.account import Account
from solders.address_lookup_table_account import ID as LOOKUP_TABLE_PROGRAM
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import Message
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import Transaction
from solders.transaction_metadata import FailedTransactionMetadata, TransactionMetadata
from solders.transaction_status import InstructionErrorCustom, TransactionErrorInstructionError

from ledger import instructions, layout, loader
from ledger.instructions import VaultDelta
from ledger.proof_encoding import compress_proof
from program.build import ARTEFACT
from settlement.commitment import Slot, identity, public_input
from settlement.shapes import SHAPES, Shape
from settlement.verifying_keys import encode_verifying_key

SOL: Final = 1_000_000_000
FUNDS: Final = 1_000 * SOL
VAULT_BALANCE: Final = SOL
HOUSE_BALANCE: Final = 100 * SOL
SIGNATURE_FEE: Final = 5_000
"""Lamports for each signature of a transaction."""
LANE: Final = 3
OTHER_LANE: Final = 4
SMALL, LARGE = SHAPES[:2]

LOOKUP_TABLE_HEADER_BYTES: Final = 56

_CIRCUIT_FOR_ANY_STATEMENT = """
pragma circom 2.0.0;
template Any() {
    signal input statement;
    signal input left;
    signal input right;
    statement === left * right;
}
component main {public [statement]} = Any();
"""


class Refused(Exception):
    """The chain refused a transaction; `code` is the program's, if it was the program."""

    def __init__(self, error: object, logs: list[str]) -> None:
        super().__init__(f"{error}\n" + "\n".join(logs))
        self.error = error
        self.code: int | None = None
        if isinstance(error, TransactionErrorInstructionError) and isinstance(error.err, InstructionErrorCustom):
            self.code = error.err.code


class Standing(NamedTuple):
    """An account as it stands; two compare equal if nothing about it has changed."""

    lamports: int
    data: bytes
    owner: Pubkey
    executable: bool

    @classmethod
    def of(cls, account: Account) -> Self:
        return cls(account.lamports, bytes(account.data), account.owner, account.executable)


class AnyProver:
    """Proves whatever public input it is asked to: these tests are about the program, not about the circuit."""

    def __init__(self, folder: Path) -> None:
        source = folder / "any.circom"
        source.write_text(_CIRCUIT_FOR_ANY_STATEMENT)
        self._key, verifying_key = groth16py.setup_circom(str(source), [])
        self.verifying_key = encode_verifying_key(verifying_key.to_json())

    def prove(self, statement: int) -> bytes:
        """A proof as the program takes it."""
        return compress_proof(groth16py.prove(self._key, {"statement": statement, "left": statement, "right": 1}))


@dataclass(frozen=True)
class Batch:
    """A settlement to be: `nets` are lamports for the lane's vaults at `positions`, counted from 0."""

    number: int = 1
    nets: Sequence[int] = (-1_000, 3_000)
    positions: Sequence[int] = range(layout.MAX_PLAYERS_PER_CIRCUIT)
    lane: int = LANE
    shape: Shape = SMALL
    bet_count: int = 5
    bets_root: int = 0x1234

    def statement(self) -> int:
        slots = [Slot(vault_index=i + 1, net=net) for i, net in zip(self.positions, self.nets, strict=False)]
        return public_input(identity(self.lane, self.number, self.bet_count), self.bets_root, slots, self.shape)


@dataclass
class Chain:
    """`owners` hold the vaults of `LANE`, in the order of their indices, from 1; the first two hold some on `OTHER_LANE`."""

    svm: LiteSVM
    program: Keypair
    upgrade_authority: Keypair
    authority: Keypair
    prover: AnyProver
    owners: list[Keypair] = field(default_factory=list[Keypair])

    @cached_property
    def program_id(self) -> Pubkey:
        return self.program.pubkey()

    def send(self, batch: Sequence[Instruction], *signers: Keypair) -> TransactionMetadata:
        """Runs a transaction paid by its first signer. Raises `Refused`."""
        self.svm.expire_blockhash()
        message = Message(list(batch), signers[0].pubkey())
        result = self.svm.send_transaction(Transaction(list(signers), message, self.svm.latest_blockhash()))
        if isinstance(result, FailedTransactionMetadata):
            raise Refused(result.err(), result.meta().logs())
        return result

    def account(self, address: Pubkey) -> Account:
        account = self.svm.get_account(address)
        assert account is not None
        return account

    def data(self, address: Pubkey) -> bytes:
        return bytes(self.account(address).data)

    def lamports(self, address: Pubkey) -> int:
        return self.svm.get_balance(address) or 0

    def house(self, lane: int = LANE) -> Pubkey:
        return layout.house_address(self.program_id, lane)

    def vault(self, position: int, lane: int = LANE) -> Pubkey:
        return layout.vault_address(self.program_id, lane, self.owners[position].pubkey())

    def settlement(self, batch: Batch, proof: bytes | None = None) -> Instruction:
        return instructions.settle(
            self.program_id,
            self.authority.pubkey(),
            batch.shape.circuit_id,
            batch.lane,
            batch.number,
            bet_count=batch.bet_count,
            bets_root=batch.bets_root,
            proof=proof or self.prover.prove(batch.statement()),
            deltas=[
                VaultDelta(self.vault(i, batch.lane), net) for i, net in zip(batch.positions, batch.nets, strict=False)
            ],
        )

    def settle(self, batch: Batch) -> TransactionMetadata:
        return self.send([self.settlement(batch)], self.authority)

    def record(self, batch: Batch) -> Pubkey:
        return layout.batch_address(self.program_id, batch.lane, batch.number)

    def state(self, also: Iterable[Pubkey] = ()) -> dict[Pubkey, Standing | None]:
        """Every account of the program, of the players and those `also` named, None for one that does not exist."""
        state: dict[Pubkey, Standing | None] = {
            key: Standing.of(account) for key, account in self.svm.get_program_accounts(self.program_id)
        }
        for key in (*(owner.pubkey() for owner in self.owners), *also):
            account = self.svm.get_account(key)
            state[key] = account and Standing.of(account)
        return state

    def refusal(self, instruction: Instruction, *signers: Keypair, pays: Keypair | None = None) -> int | None:
        """The program's code for refusing the instruction; asserts that it does, and that only the fee was taken.

        Compared are all accounts of the program, of the players and of the instruction, to the byte, and the payer's.
        """
        payer = pays or self.authority
        all_signers = [payer, *(signer for signer in signers if signer != payer)]
        touched = [payer.pubkey(), *(meta.pubkey for meta in instruction.accounts)]
        before = self.state(touched)
        with pytest.raises(Refused) as refused:
            self.send([instruction], *all_signers)
        after = self.state(touched)
        paying, paid = before.pop(payer.pubkey()), after.pop(payer.pubkey())
        assert paying is not None
        assert paid == paying._replace(lamports=paying.lamports - SIGNATURE_FEE * len(all_signers))
        assert before == after
        return refused.value.code

    def refuses(self, error: int, instruction: Instruction, *signers: Keypair, pays: Keypair | None = None) -> None:
        """Asserts that the program refuses the instruction with `error`, and changes nothing."""
        assert self.refusal(instruction, *signers, pays=pays) == error


def deploy(code: bytes, prover: AnyProver, svm: LiteSVM) -> Chain:
    """The program deployed through the upgradeable loader, not initialised."""
    chain = Chain(svm, Keypair(), Keypair(), Keypair(), prover)
    for key in (chain.upgrade_authority, chain.authority):
        chain.svm.airdrop(key.pubkey(), FUNDS)
    pays, buffer, rent = chain.upgrade_authority, Keypair(), chain.svm.minimum_balance_for_rent_exemption
    key = pays.pubkey()
    lamports = rent(loader.BUFFER_HEADER.size + len(code))
    create = loader.create_buffer(len(code), buffer=buffer.pubkey(), payer=key, authority=key, lamports=lamports)
    chain.send(create, pays, buffer)
    for write in loader.write_buffer(code, buffer=buffer.pubkey(), authority=key):
        chain.send([write], pays)
    lamports = rent(loader.PROGRAM_ACCOUNT_BYTES)
    final = loader.deploy(
        len(code), program=chain.program_id, buffer=buffer.pubkey(), payer=key, authority=key, lamports=lamports
    )
    chain.send(final, pays, chain.program)
    chain.svm.warp_to_slot(chain.svm.get_clock().slot + 1)
    return chain


def initialisation(chain: Chain) -> Instruction:
    upgrade_authority = chain.upgrade_authority.pubkey()
    return instructions.initialise(chain.program_id, upgrade_authority, upgrade_authority, chain.authority.pubkey())


def open_for_business(chain: Chain, vaults: int) -> None:
    """Initialises, registers both shapes, opens two lanes and the vaults, and gives everybody money."""
    authority, program = chain.authority.pubkey(), chain.program_id
    chain.send([initialisation(chain)], chain.upgrade_authority)
    for shape in SHAPES:
        chain.send([registration(chain, shape)], chain.authority)
    for lane in (LANE, OTHER_LANE):
        chain.send([instructions.open_house(program, authority, lane)], chain.authority)
        chain.send([_deposit(chain, chain.house(lane), HOUSE_BALANCE)], chain.authority)
    for position in range(vaults):
        chain.owners.append(Keypair())
        owner = chain.owners[-1].pubkey()
        for lane in (LANE, OTHER_LANE)[: 2 if position < 2 else 1]:
            opening = instructions.open_vault(program, authority, lane, owner)
            deposit = _deposit(chain, layout.vault_address(program, lane, owner), VAULT_BALANCE)
            chain.send([opening, deposit, _deposit(chain, owner, SOL)], chain.authority)


def registration(chain: Chain, shape: Shape) -> Instruction:
    return instructions.register_circuit(
        chain.program_id,
        chain.authority.pubkey(),
        shape.circuit_id,
        bets=shape.bets,
        players=shape.players,
        verifying_key=chain.prover.verifying_key,
    )


def _deposit(chain: Chain, to: Pubkey, lamports: int) -> Instruction:
    return transfer(TransferParams(from_pubkey=chain.authority.pubkey(), to_pubkey=to, lamports=lamports))


def lookup_table(chain: Chain) -> Pubkey:
    """An address lookup table without addresses."""
    table = Pubkey.new_unique()
    data = bytes([1, *[0] * (LOOKUP_TABLE_HEADER_BYTES - 1)])
    chain.svm.set_account(table, Account(SOL, data, LOOKUP_TABLE_PROGRAM, executable=False, rent_epoch=0))
    return table


def with_account(
    instruction: Instruction, position: int, change: Pubkey | Callable[[AccountMeta], AccountMeta]
) -> Instruction:
    """The instruction with another account, or with other rights to the same, at `position`."""
    accounts = list(instruction.accounts)
    meta = accounts[position]
    accounts[position] = (
        AccountMeta(change, meta.is_signer, meta.is_writable) if isinstance(change, Pubkey) else change(meta)
    )
    return Instruction(instruction.program_id, instruction.data, accounts)


def with_data(instruction: Instruction, data: bytes) -> Instruction:
    return Instruction(instruction.program_id, data, list(instruction.accounts))


def unsigned(meta: AccountMeta) -> AccountMeta:
    return AccountMeta(meta.pubkey, is_signer=False, is_writable=meta.is_writable)


def read_only(meta: AccountMeta) -> AccountMeta:
    return AccountMeta(meta.pubkey, is_signer=meta.is_signer, is_writable=False)


def program_code() -> bytes:
    return ARTEFACT.read_bytes()
