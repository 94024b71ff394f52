"""What the program refuses, and with which code: every code has an attack here, or a reason why none can reach it.

One account or one byte at a time is bent in `test_accounts`, proofs in `test_proofs`; here are attacks with a meaning.
Whatever a proof does not fit is PROOF_REJECTED, since there is one public input for all of it: another number, lane,
count, root, vault, net, player or circuit cannot be told apart by the program.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import pytest
from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.rent import Rent

from ledger import instructions, layout
from ledger.program_errors import ProgramError, decode_error
from settlement.poseidon import FIELD_MODULUS
from settlement.shapes import Shape
from tests.program.chain import (
    HOUSE_BALANCE,
    LANE,
    LARGE,
    OTHER_LANE,
    SMALL,
    SOL,
    VAULT_BALANCE,
    AnyProver,
    Batch,
    Chain,
    lookup_table,
    read_only,
    registration,
    unsigned,
    with_account,
    with_data,
)

E = ProgramError
BATCH: Final = Batch()
SETTLED: Final = Batch(number=50)
EMPTYING: Final = Batch(number=51, lane=OTHER_LANE, nets=[-VAULT_BALANCE, 3_000])
"""Settled too, and has left the vault empty."""
OTHERS_CIRCUIT: Final = Shape(circuit_id=107, bets=SMALL.bets, players=SMALL.players)
"""Of the same capacity as `SMALL`, with another key."""
TWIN_CIRCUIT: Final = Shape(circuit_id=108, bets=SMALL.bets, players=SMALL.players - 1)
"""Of another capacity than `SMALL`, with the same key."""
BET_COUNT_AT, ROOT_AT, DELTAS_AT = 9, 11, 171
MAX, MIN = 2**63 - 1, -(2**63)
FUNDS: Final = 10 * SOL


@dataclass(frozen=True)
class Scene:
    """Four vaults on `LANE` and two on another, four circuits and two, two settled batches, a table and a thief."""

    chain: Chain
    thief: Keypair
    sponsor: Keypair
    """Pays the fees, and is no party to anything."""
    other_prover: AnyProver

    @property
    def program(self) -> Pubkey:
        return self.chain.program_id

    @property
    def authority(self) -> Pubkey:
        return self.chain.authority.pubkey()

    def owner(self, position: int) -> Pubkey:
        return self.chain.owners[position].pubkey()

    def settle(self, batch: Batch = BATCH, proven: Batch | None = None, by: AnyProver | None = None) -> Instruction:
        """The settlement of a batch by a proof of another, if one is given, made by another prover, if one is given."""
        return self.chain.settlement(batch, (by or self.chain.prover).prove((proven or batch).statement()))

    def unproven(self, batch: Batch, nets: Sequence[int] | None = None) -> Instruction:
        """The settlement of a batch that cannot be proven, or whose proof is of no account."""
        settlement = self.chain.settlement(batch, bytes(128))
        if nets is None:
            return settlement
        data = bytes(settlement.data)[:DELTAS_AT] + b"".join(net.to_bytes(8, "little", signed=True) for net in nets)
        return with_data(settlement, data)

    def withdrawal(self, lamports: int, position: int = 0) -> Instruction:
        return instructions.withdraw(self.program, self.authority, LANE, self.owner(position), lamports)

    def bankroll(self, lamports: int) -> Instruction:
        return instructions.withdraw_bankroll(self.program, self.authority, LANE, lamports)

    def table(self, number: int) -> Instruction:
        return instructions.register_table(self.program, self.authority, LANE, number, lookup_table(self.chain))

    def house(self, lane: int = 9) -> Instruction:
        return instructions.open_house(self.program, self.authority, lane)

    def vault(self, owner: Pubkey | None = None) -> Instruction:
        return instructions.open_vault(self.program, self.authority, LANE, owner or Pubkey.new_unique())

    def initialise(self, authority: Pubkey | None = None) -> Instruction:
        key = self.chain.upgrade_authority.pubkey()
        return instructions.initialise(self.program, key, key, authority or key)

    def circuit(self, bets: int = 16, players: int = 8, circuit_id: int = 99) -> Instruction:
        return registration(self.chain, Shape(circuit_id=circuit_id, bets=bets, players=players))

    def stolen(self, instruction: Instruction, position: int = 0) -> Instruction:
        """The instruction with the thief in somebody's place."""
        return with_account(instruction, position, self.thief.pubkey())

    def rewritten(self, address: Pubkey, data: bytes | None = None, lamports: int | None = None) -> None:
        """Writes to an account as nobody but a test can."""
        old = self.chain.account(address)
        self.chain.svm.set_account(
            address,
            Account(
                old.lamports if lamports is None else lamports,
                bytes(old.data) if data is None else data,
                old.owner,
                False,
                0,
            ),
        )

    def copied(self, address: Pubkey) -> Pubkey:
        """An account of the program with the same data at an address that is none of its own."""
        twin, old = Pubkey.new_unique(), self.chain.account(address)
        self.chain.svm.set_account(twin, Account(old.lamports, bytes(old.data), old.owner, False, 0))
        return twin


@pytest.fixture
def scene(chain: Chain, other_prover: AnyProver) -> Scene:
    thief, sponsor = Keypair(), Keypair()
    for key in (thief, sponsor):
        chain.svm.airdrop(key.pubkey(), FUNDS)
    scene = Scene(chain, thief, sponsor, other_prover)
    others = with_data(
        registration(chain, OTHERS_CIRCUIT),
        bytes(registration(chain, OTHERS_CIRCUIT).data)[:7] + other_prover.verifying_key,
    )
    for instruction in (others, registration(chain, TWIN_CIRCUIT), scene.table(0)):
        chain.send([instruction], chain.authority)
    for batch in (SETTLED, EMPTYING):
        chain.settle(batch)
    return scene


@pytest.fixture(scope="session")
def other_prover(tmp_path_factory: pytest.TempPathFactory) -> AnyProver:
    return AnyProver(tmp_path_factory.mktemp("other"))


@dataclass(frozen=True)
class Attack:
    told: str
    code: int
    build: Callable[[Scene], Instruction]


def swapped(instruction: Instruction, one: int, other: int) -> Instruction:
    keys = [meta.pubkey for meta in instruction.accounts]
    return with_account(with_account(instruction, one, keys[other]), other, keys[one])


def bit_flipped(instruction: Instruction, at: int, bit: int = 0) -> Instruction:
    data = bytearray(instruction.data)
    data[at] ^= 1 << bit
    return with_data(instruction, bytes(data))


def with_root(instruction: Instruction, root: int) -> Instruction:
    data = bytes(instruction.data)
    return with_data(instruction, data[:ROOT_AT] + root.to_bytes(32, "big") + data[ROOT_AT + 32 :])


def with_one_more_vault(instruction: Instruction, vault: Pubkey, net: int) -> Instruction:
    more = AccountMeta(vault, is_signer=False, is_writable=True)
    data = bytes(instruction.data) + net.to_bytes(8, "little", signed=True)
    return Instruction(instruction.program_id, data, [*instruction.accounts, more])


def as_opcode(instruction: Instruction, opcode: int) -> Instruction:
    return with_data(instruction, bytes([opcode]) + bytes(instruction.data)[1:])


def poor_authority(scene: Scene, instruction: Instruction) -> Instruction:
    scene.rewritten(scene.authority, lamports=900_000)
    return instruction


def odd_rent(scene: Scene, instruction: Instruction) -> Instruction:
    scene.chain.svm.set_rent(Rent(lamports_per_byte=3_480, exemption_threshold=1.5))
    return instruction


def full_lane(scene: Scene, instruction: Instruction) -> Instruction:
    data = scene.chain.data(scene.chain.house())
    scene.rewritten(scene.chain.house(), data=data[:4] + b"\xff" * 4 + data[8:])
    return instruction


def without_upgrades(scene: Scene, instruction: Instruction) -> Instruction:
    """As the loader leaves a frozen program: no upgrade authority."""
    address = layout.programdata_address(scene.program)
    data = bytearray(scene.chain.data(address))
    data[12] = 0  # Option::None
    scene.rewritten(address, data=bytes(data))
    return instruction


def cut_short(scene: Scene, instruction: Instruction) -> Instruction:
    scene.rewritten(scene.chain.vault(1), data=scene.chain.data(scene.chain.vault(1))[:-1])
    return instruction


def crowd(scene: Scene) -> Batch:
    """More players than the smallest circuit has."""
    while len(scene.chain.owners) <= SMALL.players:
        scene.chain.owners.append(Keypair())
        scene.chain.send([scene.vault(scene.chain.owners[-1].pubkey())], scene.chain.authority)
    return Batch(nets=[0] * (SMALL.players + 1))


def by_circuit(scene: Scene, instruction: Instruction, shape: Shape) -> Instruction:
    return with_account(instruction, 2, layout.circuit_address(scene.program, shape.circuit_id))


def with_bit_off(scene: Scene, at: int, bit: int) -> Instruction:
    return bit_flipped(scene.settle(), at, bit)


def without_vaults(instruction: Instruction) -> Instruction:
    return Instruction(instruction.program_id, bytes(instruction.data)[:DELTAS_AT], list(instruction.accounts)[:6])


def swapped_in(instruction: Instruction, position: int, other: int) -> Instruction:
    return with_account(instruction, position, list(instruction.accounts)[other].pubkey)


def overflowing_owner(scene: Scene, instruction: Instruction) -> Instruction:
    scene.rewritten(scene.owner(0), lamports=2**64 - 1)
    return instruction


def rival_root(batch: Batch) -> Batch:
    return replace(batch, bets_root=batch.bets_root ^ 1)


def uncovered(position: int) -> Attack:
    nets = [0, 0, 0, 0]
    nets[position] = -VAULT_BALANCE - 5_000
    batch = Batch(nets=nets)
    return Attack(f"settle an overdraft of vault {position}", E.VAULT_UNCOVERED + position, lambda s: s.settle(batch))


ATTACKS: Final[list[Attack]] = [
    # ---- initialise ----
    Attack("initialise again", E.CONFIG_EXISTS, lambda s: s.initialise()),
    Attack("initialise for another authority", E.CONFIG_EXISTS, lambda s: s.initialise(s.thief.pubkey())),
    Attack(
        "initialise as somebody else than the upgrade authority",
        E.NOT_UPGRADE_AUTHORITY,
        lambda s: instructions.initialise(s.program, *[s.thief.pubkey()] * 3),
    ),
    Attack(
        "initialise as the authority", E.NOT_UPGRADE_AUTHORITY, lambda s: with_account(s.initialise(), 1, s.authority)
    ),
    Attack("initialise a frozen program", E.NOT_UPGRADE_AUTHORITY, lambda s: without_upgrades(s, s.initialise())),
    Attack("initialise under rent that nobody knows", E.CONFIG_EXISTS, lambda s: odd_rent(s, s.initialise())),
    # ---- register_circuit ----
    Attack("register a circuit as a stranger", E.WRONG_AUTHORITY, lambda s: s.stolen(s.circuit())),
    Attack(
        "register a circuit as the upgrade authority",
        E.WRONG_AUTHORITY,
        lambda s: with_account(s.circuit(), 0, s.chain.upgrade_authority.pubkey()),
    ),
    Attack("register a circuit again", E.CIRCUIT_EXISTS, lambda s: s.circuit(circuit_id=SMALL.circuit_id)),
    Attack(
        "register another key under a circuit's id",
        E.CIRCUIT_EXISTS,
        lambda s: with_data(
            s.circuit(circuit_id=SMALL.circuit_id),
            bytes(s.circuit(circuit_id=SMALL.circuit_id).data)[:7] + s.other_prover.verifying_key,
        ),
    ),
    Attack("register a circuit at another id's address", E.ADDRESS, lambda s: bit_flipped(s.circuit(), 1)),
    Attack("register a circuit for no bets", E.CIRCUIT_SHAPE, lambda s: s.circuit(bets=0)),
    Attack("register a circuit for no players", E.CIRCUIT_SHAPE, lambda s: s.circuit(players=0)),
    Attack("register a circuit for 65 players", E.CIRCUIT_SHAPE, lambda s: s.circuit(players=65)),
    Attack("register a key one bit off", E.VERIFYING_KEY, lambda s: bit_flipped(s.circuit(), 7 + 63)),
    Attack(
        "register a key to which the public input is nothing",
        E.VERIFYING_KEY,
        lambda s: bit_flipped(s.circuit(), 7 + 512 + 32, bit=6),  # the flag of the point at infinity, on IC1
    ),
    Attack("register a circuit without the rent", E.PAYER_UNCOVERED, lambda s: poor_authority(s, s.circuit())),
    # ---- open_house ----
    Attack("open a lane as a stranger", E.WRONG_AUTHORITY, lambda s: s.stolen(s.house())),
    Attack("open a lane again", E.HOUSE_EXISTS, lambda s: s.house(LANE)),
    Attack("open a lane at another's address", E.ADDRESS, lambda s: bit_flipped(s.house(), 1)),
    Attack("open a lane under rent that nobody knows", E.SYSVAR, lambda s: odd_rent(s, s.house())),
    Attack("open a lane without the rent", E.PAYER_UNCOVERED, lambda s: poor_authority(s, s.house())),
    # ---- open_vault ----
    Attack("open a vault as a stranger", E.WRONG_AUTHORITY, lambda s: s.stolen(s.vault())),
    Attack("open a vault as its owner", E.WRONG_AUTHORITY, lambda s: s.stolen(s.vault(s.thief.pubkey()))),
    Attack("open a vault again", E.VAULT_EXISTS, lambda s: s.vault(s.owner(0))),
    Attack(
        "open a vault at another owner's address", E.ADDRESS, lambda s: with_account(s.vault(), 4, s.thief.pubkey())
    ),
    Attack(
        "open a vault at another lane's address",
        E.ADDRESS,
        lambda s: with_account(s.vault(), 2, s.chain.house(OTHER_LANE)),
    ),
    Attack("open a vault of itself", E.DUPLICATE_ACCOUNT, lambda s: with_account(s.vault(), 4, s.chain.house())),
    Attack("open a vault beyond the last index", E.VAULT_INDEX_EXHAUSTED, lambda s: full_lane(s, s.vault())),
    Attack("open a vault without the rent", E.PAYER_UNCOVERED, lambda s: poor_authority(s, s.vault())),
    # ---- register_table ----
    Attack("register a table as a stranger", E.WRONG_AUTHORITY, lambda s: s.stolen(s.table(1))),
    Attack("register a table again", E.TABLE_EXISTS, lambda s: s.table(0)),
    Attack("register a table at another number's address", E.ADDRESS, lambda s: bit_flipped(s.table(1), 1)),
    Attack(
        "register a table at another lane's address",
        E.ADDRESS,
        lambda s: with_account(s.table(1), 2, s.chain.house(OTHER_LANE)),
    ),
    Attack("register a person as a table", E.NOT_LOOKUP_TABLE, lambda s: with_account(s.table(1), 4, s.owner(0))),
    Attack("register a vault as a table", E.NOT_LOOKUP_TABLE, lambda s: with_account(s.table(1), 4, s.chain.vault(0))),
    Attack("register a table without the rent", E.PAYER_UNCOVERED, lambda s: poor_authority(s, s.table(1))),
    # ---- withdraw ----
    Attack("withdraw more than the balance", E.WITHDRAWAL_UNCOVERED, lambda s: s.withdrawal(VAULT_BALANCE - 1_000 + 1)),
    Attack("withdraw the largest amount", E.WITHDRAWAL_UNCOVERED, lambda s: s.withdrawal(MAX)),
    Attack("withdraw a negative amount", E.AMOUNT_OVERFLOW, lambda s: s.withdrawal(2**64 - 1)),
    Attack("withdraw 2^63", E.AMOUNT_OVERFLOW, lambda s: s.withdrawal(2**63)),
    Attack(
        "withdraw to an owner whose lamports would overflow",
        E.AMOUNT_OVERFLOW,
        lambda s: overflowing_owner(s, s.withdrawal(1)),
    ),
    Attack("withdraw with a stranger for authority", E.WRONG_AUTHORITY, lambda s: s.stolen(s.withdrawal(1))),
    Attack(
        "withdraw with the owner for authority",
        E.WRONG_AUTHORITY,
        lambda s: with_account(s.withdrawal(1), 0, s.owner(0)),
    ),
    Attack("withdraw from another's vault", E.WRONG_VAULT_OWNER, lambda s: s.stolen(s.withdrawal(1), 2)),
    Attack(
        "withdraw as the authority from a player's vault",
        E.WRONG_VAULT_OWNER,
        lambda s: with_account(s.withdrawal(1), 2, s.authority),
    ),
    Attack("withdraw from the house", E.ACCOUNT_KIND, lambda s: with_account(s.withdrawal(1), 3, s.chain.house())),
    Attack(
        "withdraw from a batch record",
        E.ACCOUNT_KIND,
        lambda s: with_account(s.withdrawal(1), 3, s.chain.record(SETTLED)),
    ),
    Attack(
        "withdraw from what is no account of the program", E.FOREIGN_ACCOUNT, lambda s: s.stolen(s.withdrawal(1), 3)
    ),
    Attack("withdraw under rent that nobody knows", E.SYSVAR, lambda s: odd_rent(s, s.withdrawal(1))),
    # ---- withdraw_bankroll ----
    Attack("take more than the bankroll", E.WITHDRAWAL_UNCOVERED, lambda s: s.bankroll(HOUSE_BALANCE - 2_000 + 1)),
    Attack("take a negative amount from the house", E.AMOUNT_OVERFLOW, lambda s: s.bankroll(2**64 - 1)),
    Attack("take the bankroll as a stranger", E.WRONG_AUTHORITY, lambda s: s.stolen(s.bankroll(1))),
    Attack("take a vault for the bankroll", E.ACCOUNT_KIND, lambda s: with_account(s.bankroll(1), 2, s.chain.vault(0))),
    Attack(
        "take a record for the bankroll",
        E.ACCOUNT_KIND,
        lambda s: with_account(s.bankroll(1), 2, s.chain.record(SETTLED)),
    ),
    Attack("take the config for the bankroll", E.DUPLICATE_ACCOUNT, lambda s: swapped_in(s.bankroll(1), 2, 1)),
    # ---- settle: the shape ----
    Attack("call what is no instruction", E.UNKNOWN_INSTRUCTION, lambda s: as_opcode(s.settle(), 8)),
    Attack("settle without data", E.DATA_SIZE, lambda s: with_data(s.settle(), b"")),
    Attack("settle without vaults", E.ACCOUNT_COUNT, lambda s: without_vaults(s.settle())),
    Attack("settle with a delta too few", E.DATA_SIZE, lambda s: with_data(s.settle(), bytes(s.settle().data)[:-8])),
    Attack(
        "settle with half a delta more", E.DATA_SIZE, lambda s: with_data(s.settle(), bytes(s.settle().data) + bytes(4))
    ),
    Attack("settle as a stranger", E.WRONG_AUTHORITY, lambda s: s.stolen(s.settle())),
    Attack("settle without a signature", E.MISSING_SIGNATURE, lambda s: with_account(s.settle(), 0, unsigned)),
    Attack("settle with a house that cannot change", E.NOT_WRITABLE, lambda s: with_account(s.settle(), 3, read_only)),
    Attack("settle with a vault that cannot change", E.NOT_WRITABLE, lambda s: with_account(s.settle(), 7, read_only)),
    Attack("settle with another's program for system", E.NOT_SYSTEM_PROGRAM, lambda s: s.stolen(s.settle(), 5)),
    # ---- settle: accounts ----
    Attack("settle vaults that stand swapped", E.VAULT_ORDER, lambda s: swapped(s.settle(), 6, 7)),
    Attack("settle a vault twice", E.DUPLICATE_ACCOUNT, lambda s: with_account(s.settle(), 7, s.chain.vault(0))),
    Attack(
        "settle a twin of a vault", E.VAULT_ORDER, lambda s: with_account(s.settle(), 7, s.copied(s.chain.vault(0)))
    ),
    Attack(
        "settle a vault of another lane",
        E.VAULT_LANE,
        lambda s: with_account(s.settle(), 7, s.chain.vault(1, OTHER_LANE)),
    ),
    Attack(
        "settle from another lane's house",
        E.VAULT_LANE,
        lambda s: with_account(s.settle(), 3, s.chain.house(OTHER_LANE)),
    ),
    Attack("settle the house as a player", E.DUPLICATE_ACCOUNT, lambda s: with_account(s.settle(), 7, s.chain.house())),
    Attack(
        "settle another lane's house as a player",
        E.ACCOUNT_KIND,
        lambda s: with_account(s.settle(), 7, s.chain.house(OTHER_LANE)),
    ),
    Attack("settle a vault as the house", E.ACCOUNT_KIND, lambda s: with_account(s.settle(), 3, s.chain.vault(2))),
    Attack(
        "settle a batch record as a player",
        E.ACCOUNT_KIND,
        lambda s: with_account(s.settle(), 7, s.chain.record(SETTLED)),
    ),
    Attack("settle a person as a player", E.FOREIGN_ACCOUNT, lambda s: with_account(s.settle(), 7, s.owner(1))),
    Attack("settle a vault cut short", E.ACCOUNT_SIZE, lambda s: cut_short(s, s.settle())),
    Attack(
        "settle the record of another number",
        E.ADDRESS,
        lambda s: with_account(s.settle(), 4, s.chain.record(Batch(number=2))),
    ),
    Attack(
        "settle the record of another lane",
        E.ADDRESS,
        lambda s: with_account(s.settle(), 4, s.chain.record(Batch(lane=OTHER_LANE))),
    ),
    # ---- settle: the statement ----
    Attack("settle no bets", E.BET_COUNT, lambda s: s.settle(Batch(bet_count=0))),
    Attack("settle more bets than the circuit has", E.BET_COUNT, lambda s: s.settle(Batch(bet_count=SMALL.bets + 1))),
    Attack("settle more players than the circuit has", E.PLAYER_COUNT, lambda s: s.unproven(crowd(s))),
    Attack(
        "settle a bets root of r", E.BETS_ROOT_RANGE, lambda s: with_root(s.settle(Batch(bets_root=0)), FIELD_MODULUS)
    ),
    Attack("settle the largest bets root", E.BETS_ROOT_RANGE, lambda s: with_root(s.settle(), 2**256 - 1)),
    Attack("settle a batch again", E.BATCH_EXISTS, lambda s: s.settle(SETTLED)),
    Attack("settle a batch again that emptied a vault", E.BATCH_EXISTS, lambda s: s.settle(EMPTYING)),
    Attack("settle a batch again with other nets", E.BATCH_EXISTS, lambda s: s.settle(replace(SETTLED, nets=[5, 5]))),
    Attack(
        "settle a batch again by another circuit", E.BATCH_EXISTS, lambda s: s.settle(replace(SETTLED, shape=LARGE))
    ),
    Attack("settle another batch by a settled number", E.BATCH_NUMBER_TAKEN, lambda s: s.settle(rival_root(SETTLED))),
    Attack(
        "settle another batch by a number that emptied a vault",
        E.BATCH_NUMBER_TAKEN,
        lambda s: s.settle(rival_root(EMPTYING)),
    ),
    # ---- settle: the proof, all that it binds ----
    Attack("prove another batch number", E.PROOF_REJECTED, lambda s: s.settle(BATCH, replace(BATCH, number=2))),
    Attack("prove another lane", E.PROOF_REJECTED, lambda s: s.settle(BATCH, replace(BATCH, lane=OTHER_LANE))),
    Attack("prove another count of bets", E.PROOF_REJECTED, lambda s: s.settle(BATCH, replace(BATCH, bet_count=6))),
    Attack("prove another bets root", E.PROOF_REJECTED, lambda s: s.settle(BATCH, rival_root(BATCH))),
    Attack("prove other nets", E.PROOF_REJECTED, lambda s: s.settle(BATCH, replace(BATCH, nets=[3_000, -1_000]))),
    Attack("prove a lamport more", E.PROOF_REJECTED, lambda s: s.settle(BATCH, replace(BATCH, nets=[-1_000, 3_001]))),
    Attack("prove the same sum", E.PROOF_REJECTED, lambda s: s.settle(BATCH, replace(BATCH, nets=[-1_001, 3_001]))),
    Attack("prove a player more", E.PROOF_REJECTED, lambda s: s.settle(BATCH, replace(BATCH, nets=[-1_000, 3_000, 0]))),
    Attack("prove a player fewer", E.PROOF_REJECTED, lambda s: s.settle(BATCH, replace(BATCH, nets=[-1_000]))),
    Attack("prove another vault", E.PROOF_REJECTED, lambda s: with_account(s.settle(), 7, s.chain.vault(2))),
    Attack(
        "list a vault that is not in the proof",
        E.PROOF_REJECTED,
        lambda s: with_one_more_vault(s.settle(), s.chain.vault(2), 0),
    ),
    Attack("prove for another shape", E.PROOF_REJECTED, lambda s: s.settle(BATCH, replace(BATCH, shape=LARGE))),
    Attack(
        "settle by a circuit with another key", E.PROOF_REJECTED, lambda s: by_circuit(s, s.settle(), OTHERS_CIRCUIT)
    ),
    Attack(
        "settle by a circuit with another capacity", E.PROOF_REJECTED, lambda s: by_circuit(s, s.settle(), TWIN_CIRCUIT)
    ),
    Attack(
        "prove with another circuit's key",
        E.PROOF_REJECTED,
        lambda s: s.settle(by=s.other_prover),
    ),
    *(
        Attack(f"settle with a {name} one bit off", E.PROOF_REJECTED, partial(with_bit_off, at=at, bit=bit))
        for name, at, bit in [
            ("count of bets", BET_COUNT_AT, 1),
            ("bets root (lowest bit)", ROOT_AT + 31, 0),
            ("bets root (highest bit)", ROOT_AT, 4),
            ("net (lowest bit)", DELTAS_AT, 0),
            ("net (bit 20)", DELTAS_AT + 8 + 2, 4),
        ]
    ),
    Attack("settle without a proof", E.PROOF_ENCODING, lambda s: s.unproven(BATCH)),
    # ---- settle: money ----
    *(uncovered(position) for position in range(4)),
    Attack("settle more than the house has", E.HOUSE_UNCOVERED, lambda s: s.settle(Batch(nets=[0, HOUSE_BALANCE]))),
    Attack("settle a win of 2^63 - 1", E.HOUSE_UNCOVERED, lambda s: s.settle(Batch(nets=[MAX]))),
    Attack("settle a loss of 2^63", E.AMOUNT_OVERFLOW, lambda s: s.unproven(Batch(nets=[0]), [MIN])),
    Attack("settle a loss of 2^63 against a win", E.VAULT_UNCOVERED, lambda s: s.settle(Batch(nets=[MIN, 1]))),
    Attack("settle a sum of 2^63", E.AMOUNT_OVERFLOW, lambda s: s.unproven(Batch(), [MAX, 1])),
    Attack("settle a sum below -2^63", E.AMOUNT_OVERFLOW, lambda s: s.unproven(Batch(nets=[0] * 3), [MIN, 0, -1])),
    Attack(
        "settle sums that wrap back", E.AMOUNT_OVERFLOW, lambda s: s.unproven(Batch(nets=[0] * 4), [MAX, MAX, MIN, MIN])
    ),
    Attack("settle without the record's rent", E.PAYER_UNCOVERED, lambda s: poor_authority(s, s.settle())),
    Attack("settle under rent that nobody knows", E.SYSVAR, lambda s: odd_rent(s, s.settle())),
]

OUT_OF_REACH: Final = {
    E.PUBLIC_INPUT: "a second line: the root is checked to be a scalar, the other inputs cannot exceed 254 bits, and a "
    "Poseidon of 1 to 12 scalars does not fail",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.told for attack in ATTACKS])
def test_it_is_refused_by_its_code_and_changes_nothing(attack: Attack, scene: Scene) -> None:
    chain = scene.chain
    keys = {key.pubkey(): key for key in (chain.authority, chain.upgrade_authority, scene.thief, *chain.owners)}
    instruction = attack.build(scene)
    signers = dict.fromkeys(meta.pubkey for meta in instruction.accounts if meta.is_signer)
    chain.refuses(attack.code, instruction, *(keys[signer] for signer in signers), pays=scene.sponsor)


def test_every_code_has_an_attack_or_a_reason_to_have_none() -> None:
    attacked = {decoded[0] for attack in ATTACKS if (decoded := decode_error(attack.code))}
    assert attacked | OUT_OF_REACH.keys() == set(ProgramError)
    assert not attacked & OUT_OF_REACH.keys()


CONTROLS: Final[dict[str, Callable[[Scene], Instruction]]] = {
    "settle": lambda s: s.settle(),
    "settle by the other circuit": lambda s: s.settle(Batch(shape=OTHERS_CIRCUIT), by=s.other_prover),
    "withdraw all": lambda s: s.withdrawal(VAULT_BALANCE - 1_000),
    "take all of the bankroll": lambda s: s.bankroll(HOUSE_BALANCE - 2_000),
    "register a table": lambda s: s.table(1),
    "open a vault": lambda s: s.vault(),
    "open a lane": lambda s: s.house(),
    "register a circuit": lambda s: s.circuit(),
}


@pytest.mark.parametrize("name", CONTROLS)
def test_what_the_attacks_bend_is_accepted_as_it_is(scene: Scene, name: str) -> None:
    chain = scene.chain
    keys = {key.pubkey(): key for key in (chain.authority, *chain.owners)}
    instruction = CONTROLS[name](scene)
    signers = dict.fromkeys(meta.pubkey for meta in instruction.accounts if meta.is_signer)
    chain.send([instruction], scene.sponsor, *(keys[signer] for signer in signers))
