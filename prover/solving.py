"""The order in which a circuit's constraints determine its wires: no other description of the circuit is used.

What the constraints determine is a set of linear forms over the wires that grows: where both factors of a constraint are known
forms, its right side becomes known too, until every wire is. The only wires that no product determines are bits: groups that a
linear form of inputs decomposes into. It is derived once for a key, in seconds; what it comes to is then kept (`prover.programs`).
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from prover.r1cs import Constraint, ConstraintSystem, Form
from settlement.poseidon import FIELD_MODULUS

ONE: Final = 0
"""The wire of the constant."""
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


class Product(NamedTuple):
    """slot := scale·a·b + rest, which is what `constraint` says."""

    slot: int
    constraint: int
    a: Form
    b: Form
    scale: int
    rest: Form


class Sum(NamedTuple):
    """slot := form."""

    slot: int
    form: Form


Step = BitGroup | Product | Sum


class Derivation:
    """How every wire of `circuit` follows from its inputs. The values it goes by are in slots: first the wires, then others.

    `groups`: its bits; `booleans`: by wire, the constraint that it is 0 or 1. `checks`: the constraints that make nothing, so must
    come out right. `steps`: each reads only what is an input, one, or made by a step before it.
    """

    def __init__(self, circuit: ConstraintSystem) -> None:
        """Raises `ValueError` if the constraints leave a wire undetermined, bits aside."""
        self.circuit = circuit
        self.booleans = {wire: number for number, wire in _boolean_wires(circuit)}
        self.groups = _bit_groups(circuit, self.booleans)
        self.steps: list[Step] = []
        self.checks: list[int] = []
        self.slots = circuit.wire_count
        self._known: set[int] = {ONE, *circuit.inputs}
        # Reduced row echelon form: a wire not known yet, as a form of slots and of wires that are not known and have no row.
        self._rows: dict[int, Form] = {}
        self._derive()

    def _derive(self) -> None:
        for group in self.groups:
            if not group.source.keys() <= self._known:
                raise ValueError(f"constraint {group.constraint} makes bits of what is no input")
            self.steps.append(group)
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
        if len(unknown) == 1:
            self.steps.append(Product(pivot, number, a, b, scale, rest))
            self._known.add(pivot)
            self._substitute(pivot, {pivot: 1})
        else:
            slot = self.slots
            self.slots += 1
            self.steps.append(Product(slot, number, a, b, scale, {}))
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
                self.steps.append(Sum(pivot, row))
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


def _boolean_wires(circuit: ConstraintSystem) -> Iterable[tuple[int, int]]:
    """The constraints that one wire is 0 or 1, with that wire."""
    for number, constraint in enumerate(circuit.constraints):
        form = _boolean_form(constraint)
        if form is not None and len(form) == 1 and ONE not in form:
            yield number, next(iter(form))


def _bit_groups(circuit: ConstraintSystem, booleans: Mapping[int, int]) -> list[BitGroup]:
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
