"""Which constraint does what in the settlement circuit, found by what the constraints say, not by where they stand.

The compiler drops linear constraints by replacing wires. So the bits that it dropped are boolean only by their group's constraint,
and the sums over trios of slots stand as they are in the squares with which the public input's hashes begin.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final, NamedTuple, Self

from prover.inputs import Signals
from settlement.commitment import NET_STRIDE_BITS, NETS_PER_ELEMENT, PACK_BITS, PACKS_PER_ELEMENT, STAKE_BITS
from settlement.poseidon import FIELD_MODULUS
from settlement.shapes import Shape
from tests.prover.r1cs import CompiledForm, Form, R1cs, Witness
from tests.prover.solving import ONE, BitGroup, Plan

THIRD: Final = 2
"""The place of a trio's third slot; the first one's is 0."""


@dataclass(frozen=True)
class Inputs:
    """The circuit's input signals in the order of their declaration. Any field elements; negative ones stand for their residues."""

    scope: int
    ids_digest: int
    stakes: tuple[int, ...]
    guesses: tuple[int, ...]
    outcomes: tuple[int, ...]
    trios: tuple[int, ...]
    seconds: tuple[int, ...]
    thirds: tuple[int, ...]

    @classmethod
    def of(cls, signals: Signals) -> Self:
        names = {"ids_digest": "idsDigest"}
        values = {field.name: signals[names.get(field.name, field.name)] for field in fields(cls)}
        assert len(values) == len(signals)
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})  # pyright: ignore[reportArgumentType]

    @property
    def flat(self) -> list[int]:
        return [
            self.scope,
            self.ids_digest,
            *(value for field in fields(self)[2:] for value in getattr(self, field.name)),
        ]

    @property
    def slots(self) -> tuple[int, ...]:
        """What the trios and places come to; only for honest ones is it a slot."""
        return tuple(
            NETS_PER_ELEMENT * trio + second + 2 * third
            for trio, second, third in zip(self.trios, self.seconds, self.thirds, strict=True)
        )

    def with_bet(self, bet: int, **changes: int) -> Self:
        """`changes`: stake, guess, outcome, trio, second or third of one place; or its slot, which stands for the last three."""
        if (slot := changes.pop("slot", None)) is not None:
            place = slot % NETS_PER_ELEMENT
            changes |= {"trio": slot // NETS_PER_ELEMENT, "second": int(place == 1), "third": int(place == THIRD)}
        plural = {"guess": "guesses"}
        names = {name: plural.get(name, f"{name}s") for name in changes}
        return replace(
            self, **{names[name]: changed(getattr(self, names[name]), bet, v) for name, v in changes.items()}
        )

    def true_nets(self, players: int) -> tuple[int, ...]:
        """What the bets come to by the rules of the game; raises `ValueError` if one of them breaks the format."""
        nets = [0] * players
        for stake, guess, outcome, slot in zip(self.stakes, self.guesses, self.outcomes, self.slots, strict=True):
            if not (0 <= stake < 1 << STAKE_BITS and {guess, outcome} <= {0, 1} and 0 <= slot < players):
                raise ValueError("no bet")
            nets[slot] += stake if guess == outcome else -stake
        return tuple(nets)

    def as_read(self) -> Self:
        """What the bets root says that the bets are: packs read from their elements. Raises `ValueError` if it says nothing."""
        packs = [
            stake + (guess << STAKE_BITS) + (outcome << STAKE_BITS + 1) + (slot << STAKE_BITS + 2)
            for stake, guess, outcome, slot in zip(self.stakes, self.guesses, self.outcomes, self.slots, strict=True)
        ]
        read = self
        for bet, pack in enumerate(_unpacked(packs)):
            read = read.with_bet(
                bet,
                stake=pack & (1 << STAKE_BITS) - 1,
                guess=pack >> STAKE_BITS & 1,
                outcome=pack >> STAKE_BITS + 1 & 1,
                slot=pack >> STAKE_BITS + 2,
            )
        return read


def changed(values: Sequence[int], position: int, value: int) -> tuple[int, ...]:
    """`values` with another one at `position`, which may be counted from the end."""
    copy = list(values)
    copy[position] = value
    return tuple(copy)


def _unpacked(packs: Sequence[int]) -> list[int]:
    read: list[int] = []
    for start in range(0, len(packs), PACKS_PER_ELEMENT):
        group = packs[start : start + PACKS_PER_ELEMENT]
        element = sum(pack << PACK_BITS * i for i, pack in enumerate(group)) % FIELD_MODULUS
        if element >> PACK_BITS * len(group):
            raise ValueError("an element holds more than its packs")
        read.extend(element >> PACK_BITS * i & (1 << PACK_BITS) - 1 for i in range(len(group)))
    return read


def _digits(element: int) -> list[int]:
    """The amounts of least absolute value, 80 bits apart, that come to `element`; what is beyond stays in the last one."""
    left = element - FIELD_MODULUS * (element > FIELD_MODULUS // 2)
    digits: list[int] = []
    for _ in range(NETS_PER_ELEMENT - 1):
        rest = (left + (1 << NET_STRIDE_BITS - 1)) >> NET_STRIDE_BITS
        digits.append(left - (rest << NET_STRIDE_BITS))
        left = rest
    return [*digits, left]


class BetConstraints(NamedTuple):
    """The constraints of one bet: `guess`, `outcome`, `second` and `third` are boolean; `exclusive`: the last two are not both one;
    `both`: the product of the first two; `delta`: what the bet moves; `placed`: that in the units of its place in a trio; `halvings`
    hand it down the demultiplexer, from the root's level on; `cuts`: nothing goes where there is no trio."""

    guess: int
    outcome: int
    second: int
    third: int
    exclusive: int
    both: int
    delta: int
    placed: int
    halvings: tuple[tuple[int, ...], ...]
    cuts: tuple[int, ...]
    stake_bits: BitGroup
    trio_bits: BitGroup


class Anatomy:
    """Where in `plan`'s constraints the parts of Settlement(shape) are."""

    def __init__(self, plan: Plan, shape: Shape) -> None:
        circuit = plan.circuit
        wires = iter(circuit.inputs)
        assert len([next(wires), next(wires)]) == 2, "scope and ids digest come first"
        columns = [[next(wires) for _ in range(shape.bets)] for _ in range(6)]
        assert next(wires, None) is None
        groups = {next(iter(group.source.keys() - {ONE})): group for group in plan.groups}
        assert len(groups) == len(plan.groups) == 2 * shape.bets
        self.trios = -(-shape.players // NETS_PER_ELEMENT)
        self.products = _products_by_factor(plan, shape)
        self.bets: list[BetConstraints] = []
        deltas: list[int] = []
        amounts: list[frozenset[int]] = []
        for stake, guess, outcome, trio, second, third in zip(*columns, strict=True):
            delta = self._product({stake: 1})
            (delta_wire,) = circuit.constraints[delta].c
            placed = self._product({delta_wire: 1})
            bits = bit_forms(groups[trio])
            levels = [self.products[_factor(form)] for form in reversed(bits)]
            assert [len(level) for level in levels] == [
                -(-self.trios >> len(bits) - level) for level in range(len(bits))
            ]
            deltas.append(delta_wire)
            amounts.append(frozenset(circuit.constraints[placed].c))
            self.bets.append(
                BetConstraints(
                    guess=plan.booleans[guess],
                    outcome=plan.booleans[outcome],
                    second=plan.booleans[second],
                    third=plan.booleans[third],
                    exclusive=self._product({second: 1}, {third: 1}),
                    both=self._product({guess: 1}, {outcome: 1}),
                    delta=delta,
                    placed=placed,
                    halvings=tuple(tuple(n for n in level if circuit.constraints[n].c) for level in levels),
                    cuts=tuple(n for level in levels for n in level if not circuit.constraints[n].c),
                    stake_bits=groups[stake],
                    trio_bits=groups[trio],
                )
            )
        self._elements = _sums_that_are_hashed(circuit, amounts, 1)
        assert len(self._elements) == self.trios
        (self._house,) = _sums_that_are_hashed(circuit, [frozenset({wire}) for wire in deltas], -1)

    def nets(self, witness: Witness) -> list[int]:
        """What the public input tells that the nets are, with those of the last trio's slots that there are not."""
        return [net for element in self._elements for net in _digits(element(witness))]

    def house_delta(self, witness: Witness) -> int:
        """What the public input tells that the house gains."""
        value = self._house(witness)
        return value - FIELD_MODULUS * (value > FIELD_MODULUS // 2)

    def _product(self, *factors: Form) -> int:
        """The only constraint with these factors."""
        first, *others = (self.products[_factor(form)] for form in factors)
        (number,) = set(first).intersection(*others)
        return number


Factor = frozenset[tuple[int, int]]


def _products_by_factor(plan: Plan, shape: Shape) -> dict[Factor, list[int]]:
    """By factor, up to a constant one: the constraints with it that say more than that something is boolean."""
    booleans = {*plan.booleans.values(), *(group.constraint for group in plan.groups)}
    products: dict[Factor, list[int]] = defaultdict(list)
    for number, (a, b, _) in enumerate(plan.circuit.constraints):
        if number not in booleans and ONE not in a.keys() & b.keys():
            for form in (a, b):
                if form and len(form) <= 1 + shape.players.bit_length() and ONE not in form:
                    products[_factor(form)].append(number)
    return products


def _sums_that_are_hashed(circuit: R1cs, wires: Sequence[frozenset[int]], sign: int) -> list[CompiledForm]:
    """The sums of one wire of each set, all with this sign, that are squared, which is how a hash begins, in the order of the
    constraints; less the constant that is added to them."""
    of = {wire: number for number, group in enumerate(wires) for wire in group}
    found: list[CompiledForm] = []
    for constraint in circuit.constraints:
        for form, other in (constraint[:2], constraint[1::-1]):
            sum_ = {wire: value for wire, value in form.items() if wire != ONE}
            if (
                form.keys() == other.keys()
                and set(sum_.values()) == {sign % FIELD_MODULUS}
                and sorted(of.get(wire, -1) for wire in sum_) == [*range(len(wires))]
            ):
                found.append(CompiledForm(sum_))
                break
    return found


def _factor(form: Form) -> Factor:
    """`form` up to a constant factor."""
    first = form[min(form)]
    inverse = first if first in (1, FIELD_MODULUS - 1) else pow(first, -1, FIELD_MODULUS)
    return frozenset(_scaled(form, inverse).items())


def _scaled(form: Form, factor: int) -> Form:
    return {wire: value * factor % FIELD_MODULUS for wire, value in form.items()}


def bit_forms(group: BitGroup) -> list[Form]:
    """The bits of `group` from the lowest, the one without a wire as what the others leave of the source."""
    inverse = pow(2, -group.eliminated, FIELD_MODULUS)
    left = {**group.source, **{wire: -(1 << position) for position, wire in group.wires.items()}}
    return [_scaled(left, inverse) if i == group.eliminated else {group.wires[i]: 1} for i in range(group.width)]
