"""Which constraint does what in the settlement circuit, found by what the constraints say, not by where they stand.

The compiler drops linear constraints by replacing wires. So the bits that it dropped are boolean only by their group's constraint,
and the sums over pairs are gone: the last bet's amounts are written as what the nets leave of the other bets' amounts.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final, NamedTuple, Self

from prover.inputs import Signals
from settlement.commitment import NET_BITS, NET_OFFSET, NETS_PER_ELEMENT, PACK_BITS, PACKS_PER_ELEMENT, STAKE_BITS
from settlement.poseidon import FIELD_MODULUS
from settlement.shapes import Shape
from tests.prover.r1cs import CompiledForm, Form, R1cs, Witness
from tests.prover.solving import ONE, BitGroup, Plan

PAIR_BITS: Final = 80
"""As in settlement.circom: the odd slot of a pair counts in units of 2^80."""


@dataclass(frozen=True)
class Inputs:
    """The circuit's input signals in the order of their declaration. Any field elements; negative ones stand for their residues."""

    identity: int
    ids_digest: int
    stakes: tuple[int, ...]
    guesses: tuple[int, ...]
    outcomes: tuple[int, ...]
    slots: tuple[int, ...]
    vaults: tuple[int, ...]
    nets: tuple[int, ...]

    @classmethod
    def of(cls, signals: Signals) -> Self:
        names = {"ids_digest": "idsDigest"}
        values = {field.name: signals[names.get(field.name, field.name)] for field in fields(cls)}
        assert len(values) == len(signals)
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})  # pyright: ignore[reportArgumentType]

    @property
    def flat(self) -> list[int]:
        return [
            self.identity,
            self.ids_digest,
            *(value for field in fields(self)[2:] for value in getattr(self, field.name)),
        ]

    def with_bet(self, bet: int, **changes: int) -> Self:
        """`changes`: stake, guess, outcome or slot of one place."""
        plural = {"stake": "stakes", "guess": "guesses", "outcome": "outcomes", "slot": "slots"}
        return replace(
            self, **{plural[name]: changed(getattr(self, plural[name]), bet, v) for name, v in changes.items()}
        )

    def with_nets(self, nets: Sequence[int]) -> Self:
        return replace(self, nets=tuple(nets))

    def true_nets(self) -> tuple[int, ...]:
        """What the bets come to by the rules of the game; raises `ValueError` if one of them breaks the format."""
        nets = [0] * len(self.nets)
        for stake, guess, outcome, slot in zip(self.stakes, self.guesses, self.outcomes, self.slots, strict=True):
            if not (0 <= stake < 1 << STAKE_BITS and {guess, outcome} <= {0, 1} and 0 <= slot < len(nets)):
                raise ValueError("no bet")
            nets[slot] += stake if guess == outcome else -stake
        return tuple(nets)

    def as_read(self) -> Self:
        """What the public input says that these are: packs and nets read from their elements. Raises `ValueError` if it says nothing."""
        packs = [
            stake + (guess << STAKE_BITS) + (outcome << STAKE_BITS + 1) + (slot << STAKE_BITS + 2)
            for stake, guess, outcome, slot in zip(self.stakes, self.guesses, self.outcomes, self.slots, strict=True)
        ]
        read = _unpacked(packs, PACKS_PER_ELEMENT, PACK_BITS)
        nets = [
            value - NET_OFFSET for value in _unpacked([n + NET_OFFSET for n in self.nets], NETS_PER_ELEMENT, NET_BITS)
        ]
        if (sum(nets) - sum(self.nets)) % FIELD_MODULUS:
            raise ValueError("the house's delta is not the opposite of the nets")
        return replace(
            self,
            stakes=tuple(pack & (1 << STAKE_BITS) - 1 for pack in read),
            guesses=tuple(pack >> STAKE_BITS & 1 for pack in read),
            outcomes=tuple(pack >> STAKE_BITS + 1 & 1 for pack in read),
            slots=tuple(pack >> STAKE_BITS + 2 for pack in read),
            nets=tuple(nets),
        )

    def tells_the_truth(self) -> bool:
        """Whether whoever reads the public input of these inputs is told what is so."""
        try:
            read = self.as_read()
            return read.true_nets() == read.nets
        except ValueError:
            return False


def changed(values: Sequence[int], position: int, value: int) -> tuple[int, ...]:
    """`values` with another one at `position`, which may be counted from the end."""
    copy = list(values)
    copy[position] = value
    return tuple(copy)


def _unpacked(values: Sequence[int], per_element: int, bits: int) -> list[int]:
    read: list[int] = []
    for start in range(0, len(values), per_element):
        group = values[start : start + per_element]
        element = sum(value << bits * i for i, value in enumerate(group)) % FIELD_MODULUS
        if element >> bits * len(group):
            raise ValueError("an element holds more than its packs")
        read.extend(element >> bits * i & (1 << bits) - 1 for i in range(len(group)))
    return read


class BetConstraints(NamedTuple):
    """The constraints of one bet: `guess`, `outcome` are boolean; `both` their product; `delta` what the bet moves; `odd` its part for
    the odd slot of a pair; `halvings` hand the amount down the demultiplexer, from the root's level on."""

    guess: int
    outcome: int
    both: int
    delta: int
    odd: int
    halvings: tuple[tuple[int, ...], ...]
    stake_bits: BitGroup
    slot_bits: BitGroup

    @property
    def moves(self) -> frozenset[int]:
        """Those that hand the bet's delta to its slot."""
        return frozenset({self.odd, *(number for level in self.halvings for number in level)})


class Anatomy:
    """Where in `plan`'s constraints the parts of Settlement(shape) are."""

    def __init__(self, plan: Plan, shape: Shape) -> None:
        circuit = plan.circuit
        wires = iter(circuit.inputs)
        assert len([next(wires), next(wires)]) == 2, "identity and ids digest come first"
        self._stakes, self._guesses, self._outcomes, self._slots = (
            [next(wires) for _ in range(shape.bets)] for _ in range(4)
        )
        self._nets = list(circuit.inputs)[-shape.players :]
        groups = {next(iter(group.source.keys() - {ONE})): group for group in plan.groups}
        assert len(groups) == len(plan.groups) == 2 * shape.bets + shape.players
        self.net_bits = [groups[wire] for wire in self._nets]
        booleans = {*plan.booleans.values(), *(group.constraint for group in plan.groups)}
        products: dict[Factor, list[int]] = defaultdict(list)
        for number, (a, b, _) in enumerate(circuit.constraints):
            if number not in booleans and ONE not in a.keys() & b.keys():
                for form in (a, b):
                    if len(form) <= 1 + shape.players.bit_length() and ONE not in form:
                        products[_factor(form)].append(number)
        last_delta: Form = {}
        self.bets: list[BetConstraints] = []
        for bet in range(shape.bets):
            stake, guess, outcome, slot = (w[bet] for w in (self._stakes, self._guesses, self._outcomes, self._slots))
            (both,) = set(products[_factor({guess: 1})]) & set(products[_factor({outcome: 1})])
            (delta,) = products[_factor({stake: 1})]
            delta_form = _delta_form(circuit, delta, stake)
            by_bit = [products[_factor(form)] for form in bit_forms(groups[slot])]
            (odd,) = by_bit[0]
            assert _factor(delta_form) in {_factor(form) for form in circuit.constraints[odd][:2]}
            halvings = tuple(tuple(numbers) for numbers in reversed(by_bit[1:]))
            assert [len(level) for level in halvings] == [1 << level for level in range(len(halvings))]
            last_delta = delta_form
            self.bets.append(
                BetConstraints(
                    plan.booleans[guess],
                    plan.booleans[outcome],
                    both,
                    delta,
                    odd,
                    halvings,
                    groups[stake],
                    groups[slot],
                )
            )
        self._last_delta = CompiledForm(last_delta)
        self._others = self._amounts_of_other_bets(circuit)
        self._last_slot_bits = [CompiledForm(form) for form in bit_forms(self.bets[-1].slot_bits)]

    def nets_that_follow(self, witness: Witness) -> list[int]:
        """The nets that fit all that is in `witness` but its nets: small integers, both of a pair read from the pair's sum."""
        nets: list[int] = []
        for others, last in zip(self._others, self._amounts_of_last_bet(witness), strict=True):
            total = (others(witness) + last) % FIELD_MODULUS
            total -= FIELD_MODULUS * (total > FIELD_MODULUS // 2)
            odd = (total + (1 << PAIR_BITS - 1)) >> PAIR_BITS
            nets.extend((total - (odd << PAIR_BITS), odd))
        return nets

    def _amounts_of_last_bet(self, witness: Witness) -> list[int]:
        delta = self._last_delta(witness)
        low, *high = (bit(witness) for bit in self._last_slot_bits)
        amounts = [delta + ((1 << PAIR_BITS) - 1) * low * delta]
        for bit in reversed(high):
            amounts = [part for amount in amounts for part in (amount * (1 - bit), amount * bit)]
        return amounts

    def _amounts_of_other_bets(self, circuit: R1cs) -> list[CompiledForm]:
        """Of each pair, the sum of the amounts of all bets but the last.

        A last halving of the last bet says (left + right)·bit = right, where left and right are the pair's sum, which the nets
        give, less the other bets' amounts.
        """
        by_pair: dict[int, Form] = {}
        for number in self.bets[-1].halvings[-1]:
            a, b, c = circuit.constraints[number]
            both = a if self._net_pairs(a) else b
            (right,) = self._net_pairs(c)
            left = next(pair for pair in self._net_pairs(both) if pair != right)
            both, c = (_scaled(form, pow(form[self._nets[2 * right]], -1, FIELD_MODULUS)) for form in (both, c))
            by_pair[right] = self._without_nets(c)
            by_pair[left] = self._without_nets({w: both.get(w, 0) - c.get(w, 0) for w in both.keys() | c.keys()})
        return [CompiledForm(_scaled(by_pair[pair], -1)) for pair in range(len(self._nets) // 2)]

    def _net_pairs(self, form: Form) -> list[int]:
        return [i // 2 for i, wire in enumerate(self._nets) if i % 2 == 0 and wire in form]

    def _without_nets(self, form: Form) -> Form:
        return {wire: value for wire, value in form.items() if wire not in self._nets}


def _delta_form(circuit: R1cs, number: int, stake: int) -> Form:
    """What constraint `number`, stake·(1 - 2·guess - …) = delta, says that delta is."""
    a, b, c = circuit.constraints[number]
    sign, other = (a[stake], b) if stake in a else (b[stake], a)
    return _scaled(c, sign * other[ONE])


Factor = frozenset[tuple[int, int]]


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
