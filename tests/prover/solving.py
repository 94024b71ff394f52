"""Witnesses made from the constraints alone, honest or forged: no other description of the circuit is used.

What the constraints determine is a set of linear forms over the wires that grows: where both factors of a constraint are known
forms, its right side becomes known too, until every wire is. The only wires that no product determines are bits: groups that a
linear form of known wires decomposes into. A forger may choose the inputs, any bit, and by how much any single product is off;
all the rest follows from that. `Plan` works out the order once; running it makes a witness.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from heapq import heappop, heappush
from typing import Final, NamedTuple

from settlement.poseidon import FIELD_MODULUS
from tests.prover.r1cs import CompiledForm, Constraint, Form, R1cs

ONE: Final = 0
MAX_BITS: Final = 253
_EXPONENTS: Final = {pow(2, exponent, FIELD_MODULUS): exponent for exponent in range(-MAX_BITS, MAX_BITS + 1)}


class BitGroup(NamedTuple):
    """Bits that decompose `source`: position to wire. The position `eliminated` has no wire: the compiler replaced that bit by the
    rest of the decomposition, so it is boolean only if `constraint` holds."""

    constraint: int
    source: Form
    wires: Mapping[int, int]
    eliminated: int

    @property
    def width(self) -> int:
        return len(self.wires) + 1


class Forgery(NamedTuple):
    """What a forger chooses besides the inputs: bits by wire, and errors by constraint (right side less product)."""

    bits: Mapping[int, int] = {}
    errors: Mapping[int, int] = {}


HONEST: Final = Forgery()


class _Step:
    """slot := scale·(a·b + error of the constraint) + rest; without a constraint, slot := rest."""

    def __init__(self, slot: int, rest: Form, product: tuple[int, Form, Form, int] | None = None) -> None:
        self.slots = (slot,)
        self._rest = CompiledForm(rest)
        self.constraint, a, b, self._scale = product or (None, {}, {}, 0)
        self._a, self._b = CompiledForm(a), CompiledForm(b)
        self.reads = frozenset(rest.keys() | a.keys() | b.keys()) - {ONE}
        self.forged_by = () if self.constraint is None else (~self.constraint,)

    def run(self, values: list[int], forgery: Forgery) -> None:
        value = self._rest(values)
        if self.constraint is not None:
            value += self._scale * (self._a(values) * self._b(values) + forgery.errors.get(self.constraint, 0))
        values[self.slots[0]] = value % FIELD_MODULUS


class _BitStep:
    """The bits of a group := those of its source's canonical integer, but for those that the forger chooses."""

    def __init__(self, group: BitGroup) -> None:
        self.slots = tuple(group.wires.values())
        self._positions = tuple(group.wires)
        self._source = CompiledForm(group.source)
        self.reads = frozenset(group.source) - {ONE}
        self.forged_by = self.slots

    def run(self, values: list[int], forgery: Forgery) -> None:
        source = self._source(values)
        for position, wire in zip(self._positions, self.slots, strict=True):
            values[wire] = forgery.bits.get(wire, source >> position & 1) % FIELD_MODULUS


class Solution:
    """A witness with what it was made from. `changed`: the wires in which it differs from the one it was derived from."""

    def __init__(self, values: list[int], wire_count: int, forgery: Forgery, changed: frozenset[int]) -> None:
        self.values = values
        self.witness = values[:wire_count]
        self.forgery = forgery
        self.changed = changed


class Plan:
    """How to make a witness for `circuit`. `groups`: its bits. `checks`: the constraints that make nothing, so must come out right."""

    def __init__(self, circuit: R1cs) -> None:
        """Raises `ValueError` if the constraints leave a wire undetermined, bits aside."""
        self.circuit = circuit
        self.booleans = {wire: number for number, wire in _boolean_wires(circuit)}
        self.groups = _bit_groups(circuit, self.booleans)
        self._steps: list[_Step | _BitStep] = []
        self.checks: list[int] = []
        self._slots = circuit.wire_count
        self._known: set[int] = {ONE, *circuit.inputs}
        # Reduced row echelon form: a wire not known yet, as a form of slots and of wires that are not known and have no row.
        self._rows: dict[int, Form] = {}
        self._derive()

    def solve(self, inputs: Sequence[int], forgery: Forgery = HONEST) -> Solution:
        """All wires, given the inputs in the order of their wires, and what the forger chooses."""
        values = [0] * self._slots
        values[ONE] = 1
        for wire, value in zip(self.circuit.inputs, inputs, strict=True):
            values[wire] = value % FIELD_MODULUS
        for step in self._steps:
            step.run(values, forgery)
        return Solution(values, self.circuit.wire_count, forgery, frozenset(range(1, self.circuit.wire_count)))

    def change(self, base: Solution, inputs: Sequence[int], forgery: Forgery = HONEST) -> Solution:
        """What `solve` gives for these arguments, by computing anew only what differs from `base`."""
        values = base.values.copy()
        changed: set[int] = set()
        for wire, value in zip(self.circuit.inputs, inputs, strict=True):
            if values[wire] != (reduced := value % FIELD_MODULUS):
                values[wire] = reduced
                changed.add(wire)
        due = {number for slot in changed for number in self._readers[slot]}
        for forged in (base.forgery, forgery):
            due.update(self._makers[key] for key in (*forged.bits, *(~number for number in forged.errors)))
        queue = sorted(due)
        while queue:
            number = heappop(queue)
            step = self._steps[number]
            before = [values[slot] for slot in step.slots]
            step.run(values, forgery)
            for slot, old in zip(step.slots, before, strict=True):
                if values[slot] != old:
                    changed.add(slot)
                    for reader in self._readers[slot]:
                        if reader not in due:
                            due.add(reader)
                            heappush(queue, reader)
        count = self.circuit.wire_count
        return Solution(values, count, forgery, frozenset(wire for wire in changed if wire < count))

    @cached_property
    def _readers(self) -> list[list[int]]:
        """By slot: the steps that read it, all after the one that makes it."""
        readers: list[list[int]] = [[] for _ in range(self._slots)]
        for number, step in enumerate(self._steps):
            for slot in step.reads:
                readers[slot].append(number)
        return readers

    @cached_property
    def _makers(self) -> dict[int, int]:
        """By bit wire, and by complement of a constraint's number: the step in which a forger changes it."""
        return {key: number for number, step in enumerate(self._steps) for key in step.forged_by}

    def _derive(self) -> None:
        for group in self.groups:
            assert group.source.keys() <= self._known, "bits are of inputs"
            self._steps.append(_BitStep(group))
            self._known.update(group.wires.values())
        pending = range(len(self.circuit.constraints))
        while pending:
            left = [number for number in pending if not self._try(number)]
            if len(left) == len(pending):
                break
            pending = left
        undetermined = [wire for wire in range(self.circuit.wire_count) if wire not in self._known]
        if undetermined or pending:
            raise ValueError(f"the constraints do not determine {len(undetermined)} wires: {undetermined[:10]}")

    def _try(self, number: int) -> bool:
        """Learns what constraint `number` tells; False if its factors are not known yet."""
        constraint = self.circuit.constraints[number]
        a, b = self._reduced(constraint.a), self._reduced(constraint.b)
        if self._unknown(a) or self._unknown(b):
            return False
        c = self._reduced(constraint.c)
        unknown = self._unknown(c)
        if not unknown:
            self.checks.append(number)
            return True
        pivot = unknown[-1]
        scale = pow(c.pop(pivot), -1, FIELD_MODULUS)
        rest = {wire: -value * scale % FIELD_MODULUS for wire, value in c.items()}
        product = number, a, b, scale
        if len(unknown) == 1:
            self._steps.append(_Step(pivot, rest, product))
            self._known.add(pivot)
            self._substitute(pivot, {pivot: 1})
        else:
            slot = self._slots
            self._slots += 1
            self._steps.append(_Step(slot, {}, product))
            self._known.add(slot)
            self._rows[pivot] = row = {**rest, slot: 1}
            self._substitute(pivot, row)
        return True

    def _substitute(self, wire: int, form: Form) -> None:
        """Puts `form` for `wire` into the other rows; a row without unknown wires makes its own wire known."""
        for pivot, row in list(self._rows.items()):
            if pivot == wire or wire not in row:
                continue
            self._rows[pivot] = row = _sum(row, wire, form)
            if not self._unknown(row):
                del self._rows[pivot]
                self._steps.append(_Step(pivot, row))
                self._known.add(pivot)

    def _unknown(self, form: Form) -> list[int]:
        return [wire for wire in form if wire not in self._known]

    def _reduced(self, form: Form) -> Form:
        """`form` with every wire that has a row replaced by it."""
        for wire in [wire for wire in form if wire in self._rows]:
            form = _sum(form, wire, self._rows[wire])
        return dict(form)


def _sum(form: Form, wire: int, replacement: Form) -> Form:
    """`form` with `replacement` in the place of `wire`."""
    result = dict(form)
    factor = result.pop(wire)
    for other, coefficient in replacement.items():
        value = (result.get(other, 0) + factor * coefficient) % FIELD_MODULUS
        if value:
            result[other] = value
        else:
            result.pop(other, None)
    return result


def _boolean_wires(circuit: R1cs) -> Iterable[tuple[int, int]]:
    """The constraints that one wire is 0 or 1, with that wire."""
    for number, constraint in enumerate(circuit.constraints):
        form = _boolean_form(constraint)
        if form is not None and len(form) == 1 and ONE not in form:
            yield number, next(iter(form))


def _bit_groups(circuit: R1cs, booleans: Mapping[int, int]) -> list[BitGroup]:
    """The constraints that (source - Σ 2^i·bit_i) / 2^k is 0 or 1, where the bits are boolean wires and no i is k."""
    groups: list[BitGroup] = []
    for number, constraint in enumerate(circuit.constraints):
        form = _boolean_form(constraint)
        if form is None or len(form.keys() - {ONE}) < 2:
            continue
        bits = {wire: form[wire] for wire in form if wire in booleans and wire not in circuit.inputs}
        exponents = {_EXPONENTS.get(FIELD_MODULUS - value): wire for wire, value in bits.items()}
        if None in exponents:
            negated = {_EXPONENTS.get(value): wire for wire, value in bits.items()}
            form = {wire: -value for wire, value in _added(form, -1).items()}
            exponents = negated
        powers = sorted(exponent for exponent in exponents if exponent is not None)
        eliminated = max(0, -powers[0])
        expected = [power for power in range(-eliminated, max(powers[-1], 0) + 1) if power]
        if None in exponents or powers != expected or len(exponents) != len(bits):
            raise ValueError(f"constraint {number} is boolean, but on no decomposition into bits")
        groups.append(
            BitGroup(
                constraint=number,
                source={w: (v << eliminated) % FIELD_MODULUS for w, v in form.items() if w not in bits},
                wires={power + eliminated: exponents[power] for power in powers},
                eliminated=eliminated,
            )
        )
    return groups


def _boolean_form(constraint: Constraint) -> Form | None:
    """f, if the constraint says f(f - 1) = 0. (So does 1 - f.)"""
    if constraint.c:
        return None
    for form, other in ((constraint.a, constraint.b), (constraint.b, constraint.a)):
        less_one = _added(form, -1)
        for sign in (1, -1):
            if {wire: sign * value % FIELD_MODULUS for wire, value in other.items()} == less_one:
                return form
    return None


def _added(form: Form, constant: int) -> Form:
    total = (form.get(ONE, 0) + constant) % FIELD_MODULUS
    rest = {wire: value for wire, value in form.items() if wire != ONE}
    return {**rest, ONE: total} if total else rest
