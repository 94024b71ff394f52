"""The program once more, in plain Python: what a transaction does to every account, or with which code it is refused.

It is there to be compared with the program, so it shares none of its encoders: it reads the instructions' bytes by
itself, keeps accounts as values and takes only addresses and the names of the codes from `ledger`. Of proofs it knows
what the test that made them tells it.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar, Final, NamedTuple, TypeVar

from solders.pubkey import Pubkey

from ledger import layout
from ledger.program_errors import ProgramError as E

SYSTEM: Final = Pubkey.default()
UPGRADEABLE_LOADER: Final = Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111")
LOOKUP_TABLES: Final = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
READ_ONLY_BY_NATURE: Final = frozenset({SYSTEM, UPGRADEABLE_LOADER, LOOKUP_TABLES})
"""Programs that the runtime lets nobody write, whatever a transaction says."""

SIGNATURE_FEE: Final = 5_000
RENT_PER_BYTE: Final = 6_960
ACCOUNT_OVERHEAD_BYTES: Final = 128
U64: Final = 2**64
SCALAR_FIELD: Final = 21888242871839275222246405745257275088548364400416034343698204186575808495617
MAX_PLAYERS: Final = 64
MAX_ACCOUNTS: Final = 70
ANY_BAD_PROOF: Final = frozenset({E.PROOF_ENCODING, E.PROOF_REJECTED})
"""A proof of which the model knows no more than that nobody made it may be refused as either."""


@dataclass(frozen=True)
class Config:
    BYTES: ClassVar = 34
    authority: Pubkey


@dataclass(frozen=True)
class Circuit:
    BYTES: ClassVar = 8 + 576
    circuit_id: int
    bets: int
    players: int
    key: bytes


@dataclass(frozen=True)
class House:
    BYTES: ClassVar = 16
    lane: int
    vault_count: int = 0
    highest_batch: int = 0


@dataclass(frozen=True)
class Vault:
    BYTES: ClassVar = 40
    lane: int
    index: int
    owner: Pubkey


@dataclass(frozen=True)
class Record:
    BYTES: ClassVar = 66
    lane: int
    number: int
    circuit_id: int
    bet_count: int
    player_count: int
    house_delta: int
    slot: int
    bets_root: int


@dataclass(frozen=True)
class Table:
    BYTES: ClassVar = 38
    lane: int
    number: int
    address: Pubkey


@dataclass(frozen=True)
class Blank:
    """An account that somebody has assigned to the program and that the program never wrote."""

    size: int


State = Config | Circuit | House | Vault | Record | Table | Blank
S = TypeVar("S", Config, Circuit, House, Vault)


class Meta(NamedTuple):
    """An account of an instruction with the rights that the transaction as a whole gives it."""

    key: Pubkey
    signs: bool
    writable: bool


class Call(NamedTuple):
    """An instruction for the program."""

    metas: Sequence[Meta]
    data: bytes


class Transfer(NamedTuple):
    """An instruction for the system program."""

    source: Pubkey
    to: Pubkey
    lamports: int


class Statement(NamedTuple):
    """All that a proof is about, and the key that it is for."""

    key: bytes
    players: int
    lane: int
    number: int
    bet_count: int
    bets_root: int
    house_delta: int
    vaults: tuple[tuple[int, int], ...]
    """Index and net of each."""


class Refusal(Exception):
    """`codes` has one, but for a proof that the model cannot tell apart; None is the runtime, for want of rent."""

    def __init__(self, *codes: int | None) -> None:
        super().__init__(codes)
        self.codes = frozenset(codes)


def require(condition: bool, code: int) -> None:
    if not condition:
        raise Refusal(code)


def rent_minimum(size: int) -> int:
    return (ACCOUNT_OVERHEAD_BYTES + size) * RENT_PER_BYTE


@dataclass
class Model:
    """A chain's accounts. Everything not in `states` or `foreign` belongs to the system program."""

    program: Pubkey
    upgrade_authority: Pubkey | None
    lamports: dict[Pubkey, int] = field(default_factory=dict[Pubkey, int])
    states: dict[Pubkey, State] = field(default_factory=dict[Pubkey, State])
    foreign: Mapping[Pubkey, tuple[Pubkey, int]] = field(default_factory=dict[Pubkey, tuple[Pubkey, int]])
    """Owner and size of accounts of other programs, which nothing here changes."""
    proven: dict[bytes, Statement] = field(default_factory=dict[bytes, Statement])
    refused_proofs: dict[bytes, int] = field(default_factory=dict[bytes, int])
    """Proofs that hold for nothing, and with which code the program must say so."""
    points: frozenset[bytes] = frozenset()
    """Those of verifying keys; nobody finds another by chance, but known ones can be put together anew."""
    slot: int = 0

    def copy(self) -> "Model":
        """Of the accounts; what is known of proofs is shared."""
        return replace(self, lamports=dict(self.lamports), states=dict(self.states))

    def balance(self, key: Pubkey) -> int:
        return self.lamports.get(key, 0)

    def owner(self, key: Pubkey) -> Pubkey:
        if key in self.states:
            return self.program
        return self.foreign[key][0] if key in self.foreign else SYSTEM

    def size(self, key: Pubkey) -> int:
        state = self.states.get(key)
        if state is None:
            return self.foreign[key][1] if key in self.foreign else 0
        return state.size if isinstance(state, Blank) else state.BYTES

    def run(self, payer: Pubkey, signatures: int, instructions: Sequence[Call | Transfer]) -> frozenset[int | None]:
        """Runs a transaction. Returns the codes of which one refuses it; empty if it is accepted."""
        self.lamports[payer] -= SIGNATURE_FEE * signatures
        attempt = self.copy()
        try:
            for instruction in instructions:
                if isinstance(instruction, Transfer):
                    attempt.transfer(instruction)
                else:
                    attempt.call(instruction)
            attempt.require_rent(self)
        except Refusal as refusal:
            return refusal.codes
        self.lamports, self.states = attempt.lamports, attempt.states
        return frozenset()

    def require_rent(self, before: "Model") -> None:
        """The runtime's own rule: whatever holds lamports holds its rent minimum."""
        for key, lamports in self.lamports.items():
            if 0 < lamports < rent_minimum(self.size(key)) and lamports != before.balance(key):
                raise Refusal(None)

    def transfer(self, transfer: Transfer) -> None:
        require(self.balance(transfer.source) >= transfer.lamports, 1)  # SystemError::ResultWithNegativeLamports
        self.move(transfer.source, transfer.to, transfer.lamports)

    def move(self, source: Pubkey, to: Pubkey, lamports: int) -> None:
        assert 0 <= lamports <= self.balance(source)
        self.lamports[source] = self.balance(source) - lamports
        self.lamports[to] = self.balance(to) + lamports

    # ---- The program ----

    def call(self, call: Call) -> None:
        require(len(call.metas) <= MAX_ACCOUNTS, E.ACCOUNT_COUNT)
        require(len(call.data) >= 1, E.DATA_SIZE)
        opcodes = {
            0: self.initialise,
            1: self.register_circuit,
            2: self.open_house,
            3: self.open_vault,
            4: self.withdraw,
            5: self.settle,
            6: self.register_table,
            7: self.withdraw_bankroll,
        }
        handler = opcodes.get(call.data[0])
        if handler is None:
            raise Refusal(E.UNKNOWN_INSTRUCTION)
        handler(call.metas, call.data)

    def initialise(self, metas: Sequence[Meta], data: bytes) -> None:
        require_shape(metas, data, 5, 33)
        payer, upgrade_authority, config, programdata, system = metas
        require_distinct(metas, may_repeat_first=1)
        require_payer(payer, system)
        require(upgrade_authority.signs, E.MISSING_SIGNATURE)
        require(programdata.key == layout.programdata_address(self.program), E.ADDRESS)
        require(upgrade_authority.key == self.upgrade_authority, E.NOT_UPGRADE_AUTHORITY)
        self.claim(config, layout.config_address(self.program), E.CONFIG_EXISTS)
        self.create(config, Config(Pubkey.from_bytes(data[1:33])), payer)

    def register_circuit(self, metas: Sequence[Meta], data: bytes) -> None:
        require_shape(metas, data, 4, 7 + 576)
        authority, config, circuit, system = metas
        require_distinct(metas)
        require_payer(authority, system)
        self.require_authority(authority, config)
        circuit_id, bets, players = struct.unpack_from("<HHH", data, 1)
        require(bets >= 1 and 1 <= players <= MAX_PLAYERS, E.CIRCUIT_SHAPE)
        self.claim(circuit, layout.circuit_address(self.program, circuit_id), E.CIRCUIT_EXISTS)
        require(points_of(data[7:]) <= self.points, E.VERIFYING_KEY)
        self.create(circuit, Circuit(circuit_id, bets, players, data[7:]), authority)

    def open_house(self, metas: Sequence[Meta], data: bytes) -> None:
        require_shape(metas, data, 4, 3)
        authority, config, house, system = metas
        require_distinct(metas)
        require_payer(authority, system)
        self.require_authority(authority, config)
        (lane,) = struct.unpack_from("<H", data, 1)
        self.claim(house, layout.house_address(self.program, lane), E.HOUSE_EXISTS)
        self.create(house, House(lane), authority)

    def open_vault(self, metas: Sequence[Meta], data: bytes) -> None:
        require_shape(metas, data, 6, 1)
        authority, config, house, vault, owner, system = metas
        require_distinct(metas, may_repeat_first=4)
        require_payer(authority, system)
        self.require_authority(authority, config)
        of = self.state(house, House)
        require(house.writable, E.NOT_WRITABLE)
        self.claim(vault, layout.vault_address(self.program, of.lane, owner.key), E.VAULT_EXISTS)
        self.create(vault, Vault(of.lane, of.vault_count + 1, owner.key), authority)
        self.states[house.key] = replace(of, vault_count=of.vault_count + 1)

    def register_table(self, metas: Sequence[Meta], data: bytes) -> None:
        require_shape(metas, data, 6, 3)
        authority, config, house, entry, table, system = metas
        require_distinct(metas)
        require_payer(authority, system)
        self.require_authority(authority, config)
        lane = self.state(house, House).lane
        require(self.owner(table.key) == LOOKUP_TABLES, E.NOT_LOOKUP_TABLE)
        (number,) = struct.unpack_from("<H", data, 1)
        self.claim(entry, layout.table_address(self.program, lane, number), E.TABLE_EXISTS)
        self.create(entry, Table(lane, number, table.key), authority)

    def withdraw(self, metas: Sequence[Meta], data: bytes) -> None:
        require_shape(metas, data, 4, 9)
        authority, config, owner, vault = metas
        require_distinct(metas, may_repeat_first=2)
        self.require_authority(authority, config)
        require(owner.signs, E.MISSING_SIGNATURE)
        require(owner.writable, E.NOT_WRITABLE)
        of = self.state(vault, Vault)
        require(vault.writable, E.NOT_WRITABLE)
        require(of.owner == owner.key, E.WRONG_VAULT_OWNER)
        self.pay_out(vault, owner, data)

    def withdraw_bankroll(self, metas: Sequence[Meta], data: bytes) -> None:
        require_shape(metas, data, 3, 9)
        authority, config, house = metas
        require_distinct(metas)
        self.require_authority(authority, config)
        require(authority.writable, E.NOT_WRITABLE)
        self.state(house, House)
        require(house.writable, E.NOT_WRITABLE)
        self.pay_out(house, authority, data)

    def pay_out(self, source: Meta, to: Meta, data: bytes) -> None:
        (lamports,) = struct.unpack_from("<Q", data, 1)
        require(lamports < U64 // 2, E.AMOUNT_OVERFLOW)
        require(self.balance(source.key) - lamports >= rent_minimum(self.size(source.key)), E.WITHDRAWAL_UNCOVERED)
        self.move(source.key, to.key, lamports)

    def settle(self, metas: Sequence[Meta], data: bytes) -> None:
        require(len(metas) > 6, E.ACCOUNT_COUNT)
        require(len(data) == 171 + 8 * (len(metas) - 6), E.DATA_SIZE)
        authority, config, circuit_meta, house_meta, record, system = metas[:6]
        vault_metas = metas[6:]
        require_distinct(metas)
        require_payer(authority, system)
        self.require_authority(authority, config)
        circuit = self.state(circuit_meta, Circuit)
        house = self.state(house_meta, House)
        require(house_meta.writable, E.NOT_WRITABLE)
        number, bet_count = struct.unpack_from("<QH", data, 1)
        bets_root = int.from_bytes(data[11:43], "big")
        proof = data[43:171]
        nets = struct.unpack_from(f"<{len(vault_metas)}q", data, 171)
        require(len(vault_metas) <= circuit.players, E.PLAYER_COUNT)
        require(1 <= bet_count <= circuit.bets, E.BET_COUNT)
        require(bets_root < SCALAR_FIELD, E.BETS_ROOT_RANGE)

        indices: list[int] = []
        for meta in vault_metas:
            vault = self.state(meta, Vault)
            require(meta.writable, E.NOT_WRITABLE)
            require(vault.lane == house.lane, E.VAULT_LANE)
            require(vault.index > (indices[-1] if indices else 0), E.VAULT_ORDER)
            indices.append(vault.index)

        settled = self.states.get(record.key)
        same = isinstance(settled, Record) and settled.bets_root == bets_root
        self.claim(
            record,
            layout.batch_address(self.program, house.lane, number),
            E.BATCH_EXISTS if same else E.BATCH_NUMBER_TAKEN,
        )

        total = 0
        for net in nets:
            total += net
            require(-(2**63) <= total < 2**63, E.AMOUNT_OVERFLOW)
        require(total != -(2**63), E.AMOUNT_OVERFLOW)
        for position, (meta, net) in enumerate(zip(vault_metas, nets, strict=True)):
            require(rent_minimum(Vault.BYTES) <= self.balance(meta.key) + net < U64, E.VAULT_UNCOVERED + position)
        require(rent_minimum(House.BYTES) <= self.balance(house_meta.key) - total < U64, E.HOUSE_UNCOVERED)

        statement = Statement(
            circuit.key,
            circuit.players,
            house.lane,
            number,
            bet_count,
            bets_root,
            -total,
            tuple(zip(indices, nets, strict=True)),
        )
        proven = self.proven.get(proof)
        if proven is None:
            known = self.refused_proofs.get(proof)
            raise Refusal(*(ANY_BAD_PROOF if known is None else {known}))
        require(proven == statement, E.PROOF_REJECTED)

        self.create(
            record,
            Record(house.lane, number, circuit.circuit_id, bet_count, len(nets), -total, self.slot, bets_root),
            authority,
        )
        for meta, net in zip(vault_metas, nets, strict=True):
            self.lamports[meta.key] += net
        self.lamports[house_meta.key] -= total
        self.states[house_meta.key] = replace(house, highest_batch=max(house.highest_batch, number))

    # ---- What they have in common ----

    def state(self, meta: Meta, kind: type[S]) -> S:
        require(self.owner(meta.key) == self.program, E.FOREIGN_ACCOUNT)
        state = self.states[meta.key]
        if not isinstance(state, kind):
            raise Refusal(E.ACCOUNT_KIND)
        return state

    def require_authority(self, authority: Meta, config: Meta) -> None:
        require(authority.signs, E.MISSING_SIGNATURE)
        require(self.state(config, Config).authority == authority.key, E.WRONG_AUTHORITY)

    def claim(self, meta: Meta, address: Pubkey, code_if_used: int) -> None:
        require(meta.key == address, E.ADDRESS)
        require(self.owner(meta.key) == SYSTEM, code_if_used)
        require(meta.writable, E.NOT_WRITABLE)

    def create(self, meta: Meta, state: State, payer: Meta) -> None:
        size = state.size if isinstance(state, Blank) else state.BYTES
        missing = max(0, rent_minimum(size) - self.balance(meta.key))
        require(self.balance(payer.key) >= missing, E.PAYER_UNCOVERED)
        self.move(payer.key, meta.key, missing)
        self.states[meta.key] = state


def points_of(key: bytes) -> set[bytes]:
    """The points of a verifying key: alpha, beta, gamma, delta and two of IC."""
    ends = (0, 64, 192, 320, 448, 512, 576)
    return {key[start:end] for start, end in pairwise(ends)}


def require_shape(metas: Sequence[Meta], data: bytes, accounts: int, size: int) -> None:
    require(len(metas) == accounts, E.ACCOUNT_COUNT)
    require(len(data) == size, E.DATA_SIZE)


def require_distinct(metas: Sequence[Meta], may_repeat_first: int | None = None) -> None:
    """No account twice, but that the one at a position may be the first."""
    keys = [meta.key for meta in metas]
    if may_repeat_first is not None and keys[may_repeat_first] == keys[0]:
        del keys[may_repeat_first]
    require(len(set(keys)) == len(keys), E.DUPLICATE_ACCOUNT)


def require_payer(payer: Meta, system: Meta) -> None:
    require(payer.signs, E.MISSING_SIGNATURE)
    require(payer.writable, E.NOT_WRITABLE)
    require(system.key == SYSTEM, E.NOT_SYSTEM_PROGRAM)
