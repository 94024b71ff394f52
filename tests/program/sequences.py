"""Random transactions, run on a chain and on the model, and every account and lamport compared after each.

A sequence is a list of seeds, one for each transaction, which is made of its seed and of what stands on the model then.
So a sequence can be replayed, and shortened to what it takes to fail, by leaving seeds out.
"""

import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from random import Random
from typing import Final, NamedTuple, Self

from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import TransferParams, transfer
from solders.sysvar import CLOCK
from solders.transaction_status import TransactionErrorInsufficientFundsForRent

from ledger import instructions, layout
from ledger.instructions import Opcode, VaultDelta
from ledger.program_errors import ProgramError
from settlement.commitment import Slot, identity, public_input
from settlement.poseidon import FIELD_MODULUS
from settlement.shapes import Shape
from tests.program import model
from tests.program.chain import SIGNATURE_FEE, SOL, AnyProver, Chain, Refused, initialisation, with_account
from tests.program.model import Call, Model, Transfer

LANES: Final = (0, 0x0103)
NUMBERS: Final = (1, 2, 2**64 - 1, 0)
ROOTS: Final = (0x11, FIELD_MODULUS - 1)
SHAPES: Final = (
    Shape(circuit_id=1, bets=4, players=3),
    Shape(circuit_id=2, bets=4, players=3),
    Shape(circuit_id=0x0201, bets=9, players=2),
)
"""The second has another key, the third the first's key and another capacity."""
KEY_OF: Final = {1: 0, 2: 1, 0x0201: 0}
AMOUNTS: Final = (0, 1, 1_000, 5_000, SOL // 10)
U63: Final = 2**63
U64: Final = 2**64
NATIVE_LOADER: Final = Pubkey.from_string("NativeLoader1111111111111111111111111111111")
WRONG_SHARE: Final = 0.3
"""Of the transactions that are bent away from what was meant."""
NOT_PROVEN: Final = bytes(range(128))
"""Stands in for a proof until it is known that the program would look at it; its points are not on the curve."""


REFUSED_FOR_THE_PROOF: Final[frozenset[int | None]] = frozenset({ProgramError.PROOF_ENCODING})


class Divergence(AssertionError):
    """The program did something else than the model."""


class Person(NamedTuple):
    """A key, and its address, which takes time to derive."""

    keypair: Keypair
    address: Pubkey

    @classmethod
    def of(cls, keypair: Keypair) -> Self:
        return cls(keypair, keypair.pubkey())

    @classmethod
    def new(cls) -> Self:
        return cls.of(Keypair())


class Planned(NamedTuple):
    """A transaction to be, and in words what it is for."""

    instructions: list[Instruction]
    payer: Person
    told: str


class Snapshot(NamedTuple):
    model: Model
    accounts: dict[Pubkey, Account]


@dataclass
class Tally:
    """What a run of many sequences has seen, so that it cannot pass by testing nothing."""

    sequences: int = 0
    transactions: int = 0
    accepted: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[int | None] = field(default_factory=lambda: Counter[int | None]())


@dataclass
class World:
    """A chain and its model, both with the same people on them."""

    chain: Chain
    provers: Sequence[AnyProver]
    authority: Person = field(default_factory=Person.new)
    sponsor: Person = field(default_factory=Person.new)
    """Pays most fees and has no rights."""
    stranger: Person = field(default_factory=Person.new)
    owners: Sequence[Person] = field(default_factory=lambda: [Person.new() for _ in range(4)])
    poor: Person = field(default_factory=Person.new)
    """Owns a vault and not a lamport besides."""
    assigned: Person = field(default_factory=Person.new)
    """Has given its account, of a vault's size, to the program."""
    tables: Sequence[Pubkey] = field(default_factory=lambda: [Pubkey.new_unique() for _ in range(2)])
    tally: Tally = field(default_factory=Tally)
    made: dict[model.Statement, bytes] = field(default_factory=dict[model.Statement, bytes])
    """The proofs made so far, in any sequence."""

    def __post_init__(self) -> None:
        self.chain.authority = self.authority.keypair
        self.upgrade_authority = Person.of(self.chain.upgrade_authority)
        people = (self.authority, self.sponsor, self.stranger, *self.owners)
        foreign: dict[Pubkey, tuple[Pubkey, int]] = dict.fromkeys(self.tables, (model.LOOKUP_TABLES, 56))
        foreign[layout.programdata_address(self.program)] = (model.UPGRADEABLE_LOADER, 0)
        foreign[SYSTEM_PROGRAM] = (NATIVE_LOADER, 0)
        points = [model.points_of(prover.verifying_key) for prover in self.provers]
        self.model = Model(
            self.program,
            self.upgrade_authority.address,
            foreign=foreign,
            points=frozenset(set[bytes]().union(*points)),
            slot=self.chain.svm.get_clock().slot,
        )
        for person in people:
            self.chain.svm.set_account(person.address, Account(1_000 * SOL, b"", SYSTEM_PROGRAM, False, 0))
        for table in self.tables:
            self.chain.svm.set_account(table, Account(SOL, bytes([1, *[0] * 55]), model.LOOKUP_TABLES, False, 0))
        blank = Account(SOL, bytes(layout.VAULT_BYTES), self.program, False, 0)
        self.chain.svm.set_account(self.assigned.address, blank)
        self.model.states[self.assigned.address] = model.Blank(layout.VAULT_BYTES)
        self.model.refused_proofs.update(
            {
                bytes(128): ProgramError.PROOF_ENCODING,
                NOT_PROVEN: ProgramError.PROOF_ENCODING,
                b"\x40" + bytes(127): ProgramError.PROOF_ENCODING,
                b"\x80" + bytes(127): ProgramError.PROOF_REJECTED,
            }
        )
        self.keys = {
            person.address: person.keypair for person in (*people, self.poor, self.assigned, self.upgrade_authority)
        }
        for key in (*self.keys, *foreign):
            self.model.lamports[key] = self.chain.lamports(key)
        self.untouched = {key: self.chain.account(key) for key in foreign}

    def know(self, keys: Iterable[Pubkey]) -> None:
        """Adds accounts of other programs, none of which anybody here may change."""
        foreign = dict(self.model.foreign)
        for key in keys:
            account = self.chain.account(key)
            self.untouched[key], self.model.lamports[key] = account, account.lamports
            foreign[key] = account.owner, len(account.data)
        self.model.foreign = foreign

    @property
    def program(self) -> Pubkey:
        return self.chain.program_id

    # ---- Running ----

    def open(self) -> None:
        """Initialises, registers the circuits and opens both lanes with vaults and money."""
        authority = self.authority.address
        self.execute([initialisation(self.chain)], self.upgrade_authority, "initialise")
        for shape in SHAPES:
            self.execute([self.registration(shape)], self.authority, "register")
        for lane in LANES:
            house = instructions.open_house(self.program, authority, lane)
            self.execute([house, self.payment(layout.house_address(self.program, lane), SOL)], self.authority, "open")
        first, second, third, fourth = (owner.address for owner in self.owners)
        for lane, owners in zip(LANES, ((first, second, self.poor.address), (first, third, fourth)), strict=True):
            for owner in owners:
                opening = instructions.open_vault(self.program, authority, lane, owner)
                payment = self.payment(layout.vault_address(self.program, lane, owner), SOL // 10)
                self.execute([opening, payment], self.authority, "open")
        self.compare()

    def snapshot(self) -> Snapshot:
        return Snapshot(
            self.model.copy(),
            {
                key: self.chain.account(key)
                for key, held in self.model.lamports.items()
                if held and key not in self.untouched
            },
        )

    def restore(self, snapshot: Snapshot) -> None:
        gone = Account(0, b"", SYSTEM_PROGRAM, False, 0)
        for key in self.model.lamports.keys() - snapshot.accounts.keys() - self.untouched.keys():
            self.chain.svm.set_account(key, gone)
        for key, account in snapshot.accounts.items():
            self.chain.svm.set_account(key, account)
        slot = self.model.slot + 1
        self.model = snapshot.model.copy()
        self.model.slot = slot
        self.chain.svm.warp_to_slot(slot)

    def play(self, seeds: Sequence[int], start: Snapshot) -> None:
        """Runs a sequence. Raises `Divergence`."""
        self.restore(start)
        for seed in seeds:
            planned = self.plan(Random(seed))
            self.execute(*planned)
            self.compare()
        self.tally.sequences += 1

    def execute(self, batch: Sequence[Instruction], payer: Person, told: str) -> None:
        """Runs a transaction on both; raises `Divergence` if one refuses it and the other not, or with another code."""
        signers = dict.fromkeys([payer.address, *(m.pubkey for i in batch for m in i.accounts if m.is_signer)])
        for instruction in batch:
            for meta in instruction.accounts:
                self.model.lamports.setdefault(meta.pubkey, 0)
        before = self.model.copy()
        expected = self.model.run(payer.address, len(signers), self.calls(batch, payer))
        self.tally.transactions += 1
        try:
            self.chain.send(batch, *(self.keys[key] for key in signers))
        except Refused as refused:
            code, is_rent = refused.code, isinstance(refused.error, TransactionErrorInsufficientFundsForRent)
            if (code is None and not is_rent) or code not in expected:
                raise Divergence(f"{told}: refused with {refused}, the model says {expected or 'accepted'}") from None
            self.tally.refused[code] += 1
            return
        if expected:
            raise Divergence(f"{told}: accepted, the model refuses it with {expected}")
        self.require_consent(batch, before, signers.keys(), SIGNATURE_FEE * len(signers))
        for instruction in batch:
            if instruction.program_id == self.program:
                self.tally.accepted[Opcode(instruction.data[0]).name] += 1

    def require_consent(
        self, batch: Sequence[Instruction], before: Model, signers: Collection[Pubkey], fee: int
    ) -> None:
        """Whatever the model says: nobody loses without having agreed, and nothing comes from nowhere."""
        opcodes = {i.data[0] for i in batch if i.program_id == self.program}
        gains = {key: self.chain.lamports(key) - held for key, held in before.lamports.items()}
        if sum(gains.values()) != -fee:
            raise Divergence(f"{sum(gains.values()) + fee} lamports came from nowhere")
        authorities = {state.authority for state in self.model.states.values() if isinstance(state, model.Config)}
        for opcode in opcodes:
            rulers = {self.upgrade_authority.address} if opcode == Opcode.INITIALISE else authorities
            if rulers.isdisjoint(signers):
                raise Divergence(f"{Opcode(opcode).name} was accepted without the signature of who may do it")
        for key, gain in gains.items():
            match before.states.get(key):
                case model.Vault(owner=owner):
                    agreed = Opcode.SETTLE in opcodes or (Opcode.WITHDRAW in opcodes and owner in signers)
                case model.House():
                    agreed = bool(opcodes & {Opcode.SETTLE, Opcode.WITHDRAW_BANKROLL})
                case None:
                    agreed = key in signers
                case _:
                    agreed = False
            if gain < 0 and not agreed:
                raise Divergence(f"{key} has lost {-gain} lamports without its consent")

    def calls(self, batch: Sequence[Instruction], payer: Person) -> list[Call | Transfer]:
        """The instructions as the model takes them: rights are those that the transaction as a whole gives a key."""
        metas = [meta for instruction in batch for meta in instruction.accounts]
        signing = {payer.address, *(meta.pubkey for meta in metas if meta.is_signer)}
        writable = {payer.address, *(meta.pubkey for meta in metas if meta.is_writable)} - model.READ_ONLY_BY_NATURE
        calls: list[Call | Transfer] = []
        for instruction in batch:
            keys = [meta.pubkey for meta in instruction.accounts]
            if instruction.program_id == SYSTEM_PROGRAM:
                calls.append(Transfer(keys[0], keys[1], int.from_bytes(instruction.data[4:], "little")))
            else:
                rights = [model.Meta(key, key in signing, key in writable) for key in keys]
                calls.append(Call(rights, bytes(instruction.data)))
        return calls

    # ---- Comparing ----

    def compare(self) -> None:
        """Every account of the program, field by field; every lamport of everybody; every account of other programs."""
        found = dict(self.chain.svm.get_program_accounts(self.program))
        if found.keys() != self.model.states.keys():
            raise Divergence(f"the program's accounts differ: {found.keys() ^ self.model.states.keys()}")
        for key, state in self.model.states.items():
            if (data := bytes(found[key].data)) != (expected := encoded(self.program, state)):
                raise Divergence(f"{key} holds {data.hex()}, the model says {state}: {expected.hex()}")
        for key, lamports in self.model.lamports.items():
            if self.chain.lamports(key) != lamports:
                raise Divergence(f"{key} holds {self.chain.lamports(key)} lamports, the model says {lamports}")
            if key not in found and key not in self.untouched:
                account = self.chain.svm.get_account(key)
                if account is not None and (account.owner != SYSTEM_PROGRAM or account.data):
                    raise Divergence(f"{key} was nobody's and is now {account}")
        for key, before in self.untouched.items():
            if key != CLOCK and self.chain.account(key) != before:
                raise Divergence(f"{key} of another program has changed")

    # ---- Making transactions up ----

    def plan(self, rng: Random) -> Planned:
        """One transaction, mostly of one instruction."""
        batch: list[Instruction] = []
        told: list[str] = []
        for _ in range(2 if rng.random() < 0.1 else 1):
            kind = rng.choices(list(self.makers), weights=[weight for _, weight in self.makers.values()])[0]
            made = self.makers[kind][0](rng)
            told.append(kind)
            if made.program_id == self.program and rng.random() < WRONG_SHARE:
                made, how = self.bent(made, rng)
                told.append(how)
            batch.append(made)
        payer = rng.choices([self.sponsor, self.authority, self.stranger, self.owners[0]], [14, 4, 1, 1])[0]
        return Planned(batch, payer, ", ".join(told))

    @property
    def makers(self) -> dict[str, tuple[Callable[[Random], Instruction], int]]:
        """What to make, and how often."""
        return {
            "initialise": (self.an_initialisation, 2),
            "register_circuit": (self.a_registration, 2),
            "open_house": (self.a_house, 2),
            "open_vault": (self.a_vault, 4),
            "withdraw": (self.a_withdrawal, 6),
            "settle": (self.a_settlement, 12),
            "register_table": (self.a_table, 3),
            "withdraw_bankroll": (self.a_bankroll, 4),
            "deposit": (self.a_deposit, 3),
            "gift to an address to come": (self.a_gift, 2),
            "ruin": (self.a_ruin, 1),
        }

    def payment(self, to: Pubkey, lamports: int) -> Instruction:
        return transfer(TransferParams(from_pubkey=self.authority.address, to_pubkey=to, lamports=lamports))

    def an_authority(self, rng: Random) -> Pubkey:
        return (self.authority if rng.random() < 0.95 else self.stranger).address

    def an_owner(self, rng: Random) -> Pubkey:
        people = (*self.owners, self.poor, self.authority, self.assigned, self.stranger)
        return rng.choice(people).address

    def an_initialisation(self, rng: Random) -> Instruction:
        upgrade_authority = self.upgrade_authority if rng.random() < 0.8 else self.stranger
        payer = upgrade_authority if rng.random() < 0.5 else self.sponsor
        named = self.authority if rng.random() < 0.95 else self.stranger
        return instructions.initialise(self.program, payer.address, upgrade_authority.address, named.address)

    def registration(self, shape: Shape) -> Instruction:
        key = self.provers[KEY_OF[shape.circuit_id]].verifying_key
        return self.registering(self.authority.address, shape, key)

    def registering(self, authority: Pubkey, shape: Shape, key: bytes) -> Instruction:
        return instructions.register_circuit(
            self.program,
            authority,
            shape.circuit_id,
            bets=shape.bets,
            players=shape.players,
            verifying_key=key,
        )

    def a_registration(self, rng: Random) -> Instruction:
        shape = rng.choice(SHAPES)
        if rng.random() < 0.5:
            shape = Shape(
                circuit_id=rng.choice([1, 7, 0xFFFF]),
                bets=rng.choice([0, 1, 4, 0xFFFF]),
                players=rng.choice([0, 1, 3, 64, 65]),
            )
        key = bytearray(rng.choice(self.provers).verifying_key)
        if rng.random() < 0.35:
            key[rng.randrange(len(key))] ^= 1 << rng.randrange(8)
        return self.registering(self.an_authority(rng), shape, bytes(key))

    def a_house(self, rng: Random) -> Instruction:
        return instructions.open_house(self.program, self.an_authority(rng), rng.choice([*LANES, 0xFFFF, 0x0301]))

    def a_vault(self, rng: Random) -> Instruction:
        return instructions.open_vault(self.program, self.an_authority(rng), rng.choice(LANES), self.an_owner(rng))

    def a_table(self, rng: Random) -> Instruction:
        table = rng.choice([*self.tables, *self.tables, self.stranger.address])
        number = rng.choice([0, 0, 0, 1, 0xFFFF])
        return instructions.register_table(self.program, self.an_authority(rng), rng.choice(LANES), number, table)

    def an_amount(self, rng: Random, account: Pubkey, size: int) -> int:
        """To take out of an account: about as much as it has, or far beyond."""
        balance = max(0, self.model.balance(account) - model.rent_minimum(size))
        if rng.random() < 0.15:
            return rng.choice([U63 - 1, U63, U64 - 1, U64 - balance - 1])
        return rng.choice([*AMOUNTS, balance, balance, balance + 1])

    def a_withdrawal(self, rng: Random) -> Instruction:
        lane, owner = rng.choice(LANES), self.an_owner(rng)
        vaults = [s for s in self.model.states.values() if isinstance(s, model.Vault)]
        if vaults and rng.random() < 0.8:
            vault = rng.choice(vaults)
            lane, owner = vault.lane, vault.owner
        amount = self.an_amount(rng, layout.vault_address(self.program, lane, owner), layout.VAULT_BYTES)
        withdrawal = instructions.withdraw(self.program, self.an_authority(rng), lane, owner, amount)
        if vaults and rng.random() < 0.08:
            vault = rng.choice(vaults)
            return with_account(withdrawal, 3, layout.vault_address(self.program, vault.lane, vault.owner))
        return withdrawal

    def a_bankroll(self, rng: Random) -> Instruction:
        lane = rng.choice(LANES)
        amount = self.an_amount(rng, layout.house_address(self.program, lane), layout.HOUSE_BYTES)
        return instructions.withdraw_bankroll(self.program, self.an_authority(rng), lane, amount)

    def a_deposit(self, rng: Random) -> Instruction:
        targets = [k for k, s in self.model.states.items() if isinstance(s, (model.Vault, model.House))]
        return self.payment(rng.choice(targets or [self.poor.address]), rng.choice(AMOUNTS))

    def a_gift(self, rng: Random) -> Instruction:
        lane = rng.choice(LANES)
        to = rng.choice(
            [
                layout.batch_address(self.program, lane, rng.choice(NUMBERS)),
                layout.vault_address(self.program, lane, self.an_owner(rng)),
                layout.house_address(self.program, rng.choice([0xFFFF, lane])),
                layout.table_address(self.program, lane, rng.choice([0, 1])),
                layout.config_address(self.program),
            ]
        )
        return self.payment(to, rng.choice([1, 890_880, SOL // 100]))

    def a_ruin(self, rng: Random) -> Instruction:
        """Leaves the authority with less than it takes to open anything, but the fees of some transactions."""
        left = rng.choice([1_000_000, 1_200_000])
        return transfer(
            TransferParams(
                from_pubkey=self.authority.address,
                to_pubkey=self.sponsor.address,
                lamports=max(0, self.model.balance(self.authority.address) - left),
            )
        )

    def a_settlement(self, rng: Random) -> Instruction:
        """Of some vaults of a lane, in order. Proven if it takes a proof to be refused or accepted."""
        lane = rng.choice(LANES)
        shape = rng.choice([SHAPES[0], *SHAPES])
        vaults = sorted(
            (s for s in self.model.states.values() if isinstance(s, model.Vault) and s.lane == lane),
            key=lambda vault: vault.index,
        )
        count = min(len(vaults), rng.randint(1, shape.players + (rng.random() < 0.1)))
        chosen = [vaults[i] for i in sorted(rng.sample(range(len(vaults)), count))]
        if rng.random() < 0.05:
            chosen.reverse()
        if not chosen:  # on a lane without vaults
            chosen = [model.Vault(lane, 1, self.owners[0].address)]
        if rng.random() < 0.05:
            elsewhere = [s for s in self.model.states.values() if isinstance(s, model.Vault) and s.lane != lane]
            chosen[-1] = rng.choice(elsewhere or chosen)
        deltas = self.some_deltas(rng, chosen)
        bet_count = shape.bets if rng.random() < 0.9 else rng.choice([0, 1, shape.bets + 1])
        root = rng.choice(ROOTS) if rng.random() < 0.97 else rng.choice([FIELD_MODULUS, 2**256 - 1])
        settle = partial(
            instructions.settle,
            self.program,
            self.an_authority(rng),
            shape.circuit_id,
            lane,
            rng.choice(NUMBERS),
            bet_count=bet_count,
            bets_root=root,
            deltas=deltas,
        )
        draft = settle(proof=NOT_PROVEN)
        if self.model.copy().run(self.sponsor.address, 1, self.calls([draft], self.sponsor)) != REFUSED_FOR_THE_PROOF:
            return draft
        number = int.from_bytes(draft.data[1:9], "little")
        circuit = self.model.states[layout.circuit_address(self.program, shape.circuit_id)]
        assert isinstance(circuit, model.Circuit)
        if all(prover.verifying_key != circuit.key for prover in self.provers):
            return draft  # nobody has a proving key for it
        nets = tuple((vault.index, delta.lamports) for vault, delta in zip(chosen, deltas, strict=True))
        statement = model.Statement(
            circuit.key, circuit.players, lane, number, bet_count, root, -sum(net for _, net in nets), nets
        )
        what = rng.random()
        if what < 0.1:
            return settle(proof=rng.choice(list(self.model.refused_proofs)))
        proof = self.proof(self.another(statement, rng) if what < 0.2 else statement)
        return settle(proof=with_a_and_b_negated(proof) if what > 0.9 else proof)

    def another(self, statement: model.Statement, rng: Random) -> model.Statement:
        """A statement that differs in one thing."""
        (index, net), *others = statement.vaults
        return rng.choice(
            [
                statement._replace(key=rng.choice(self.provers).verifying_key),
                statement._replace(players=5),
                statement._replace(lane=statement.lane ^ 1),
                statement._replace(number=statement.number ^ 1),
                statement._replace(bet_count=statement.bet_count ^ 2),
                statement._replace(bets_root=statement.bets_root - 1),
                statement._replace(house_delta=statement.house_delta + 1, vaults=((index, net - 1), *others)),
                statement._replace(vaults=((index + 1, net), *others)),
            ]
        )

    def some_deltas(self, rng: Random, vaults: Sequence[model.Vault]) -> list[VaultDelta]:
        """For each vault, of few patterns, so that proofs made before often do again."""
        pattern = rng.choice([(-1_000,), (5_000,), (-1_000, 5_000), (None, 1_000), (0, None), (None,)])
        deltas: list[VaultDelta] = []
        for position, vault in enumerate(vaults):
            address = layout.vault_address(self.program, vault.lane, vault.owner)
            balance = max(0, self.model.balance(address) - model.rent_minimum(layout.VAULT_BYTES))
            net = pattern[position % len(pattern)]
            if rng.random() < 0.06:
                net = rng.choice([-balance - 1, SOL, U63 - 1, -U63, 1 - U63])
            deltas.append(VaultDelta(address, -balance if net is None else net))
        return deltas

    def proof(self, statement: model.Statement) -> bytes:
        """A proof of the statement, which the model gets to know."""
        proof = self.made.get(statement)
        if proof is None:
            shape = Shape(circuit_id=0, bets=statement.bet_count, players=statement.players)
            slots = [Slot(vault_index=index, net=net) for index, net in statement.vaults]
            batch = identity(statement.lane, statement.number, statement.bet_count)
            prover = next(prover for prover in self.provers if prover.verifying_key == statement.key)
            proof = prover.prove(public_input(batch, statement.bets_root, slots, shape))
            self.made[statement] = proof
            for form in (proof, with_a_and_b_negated(proof)):
                self.model.proven[form] = statement
        return proof

    def bent(self, made: Instruction, rng: Random) -> tuple[Instruction, str]:
        """The instruction with one thing about it changed, and in words what."""
        accounts, data = list(made.accounts), bytearray(made.data)
        at = rng.randrange(len(accounts))
        meta, others = accounts[at], list(self.model.lamports)
        how = rng.choice(
            ["signer", "writable", "other", "other", "swap", "twice", "fewer", "more", "bit", "bit", "cut", "tail"]
        )
        match how:
            case "signer":
                signs = not meta.is_signer and meta.pubkey in self.keys
                accounts[at] = AccountMeta(meta.pubkey, signs, meta.is_writable)
            case "writable":
                accounts[at] = AccountMeta(meta.pubkey, meta.is_signer, not meta.is_writable)
            case "other":
                key = rng.choice(others)
                accounts[at] = AccountMeta(key, meta.is_signer and key in self.keys, meta.is_writable)
            case "swap":
                to = rng.randrange(len(accounts))
                accounts[at], accounts[to] = accounts[to], accounts[at]
            case "twice":
                accounts[rng.randrange(len(accounts))] = meta
            case "fewer":
                del accounts[at]
            case "more":
                accounts.insert(at, AccountMeta(rng.choice(others), is_signer=False, is_writable=True))
            case "bit":
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            case "cut":
                del data[rng.randrange(len(data)) :]
            case _:
                data += bytes(rng.choice([1, 8]))
        return Instruction(made.program_id, bytes(data), accounts), f"{how} at {at}"


def with_a_and_b_negated(proof: bytes) -> bytes:
    """Another proof of the same statement: e(-A, -B) = e(A, B). Anybody can make it."""
    changed = bytearray(proof)
    changed[0] ^= 0x80
    changed[32] ^= 0x80
    return bytes(changed)


def described(instruction: Instruction) -> str:
    """On one line: the data, and the accounts with s for a signer and w for a writable one."""
    metas = [f"{m.pubkey}{':s' * m.is_signer}{':w' * m.is_writable}" for m in instruction.accounts]
    return f"{bytes(instruction.data).hex()} on {' '.join(metas)}"


@cache
def encoded(program: Pubkey, state: model.State) -> bytes:
    """An account's data as the model predicts it."""
    match state:
        case model.Config(authority):
            seeds, body = [b"config"], bytes(authority)
        case model.Circuit(circuit_id, bets, players, key):
            seeds = [b"circuit", struct.pack("<H", circuit_id)]
            body = struct.pack("<HHH", circuit_id, bets, players) + key
        case model.House(lane, vault_count, highest_batch):
            seeds, body = [b"house", struct.pack("<H", lane)], struct.pack("<HIQ", lane, vault_count, highest_batch)
        case model.Vault(lane, index, owner):
            seeds = [b"vault", struct.pack("<H", lane), bytes(owner)]
            body = struct.pack("<HI", lane, index) + bytes(owner)
        case model.Record(lane, number, circuit_id, bet_count, player_count, house_delta, slot, root):
            seeds = [b"batch", struct.pack("<HQ", lane, number)]
            body = struct.pack("<HQHHHqQ", lane, number, circuit_id, bet_count, player_count, house_delta, slot)
            body += root.to_bytes(32, "big")
        case model.Table(lane, number, address):
            seeds = [b"table", struct.pack("<HH", lane, number)]
            body = struct.pack("<HH", lane, number) + bytes(address)
        case model.Blank(size):
            return bytes(size)
    kinds = (model.Config, model.Circuit, model.House, model.Vault, model.Record, model.Table)
    _, bump = Pubkey.find_program_address(seeds, program)
    return bytes([1 + kinds.index(type(state)), bump]) + body
