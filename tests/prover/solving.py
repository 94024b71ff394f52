"""Witnesses made from the constraints alone, honest or forged, in the order that `prover.solving` derives.

A forger may choose the inputs, any bit, and by how much any single product is off; all the rest follows from that.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from heapq import heappop, heappush
from typing import Final, NamedTuple

from prover.solving import ONE, BitGroup, Derivation, Product, Step, Sum
from settlement.poseidon import FIELD_MODULUS
from tests.prover.r1cs import CompiledForm, R1cs

__all__ = ["HONEST", "ONE", "BitGroup", "Forgery", "Plan", "Solution"]


class Forgery(NamedTuple):
    """What a forger chooses besides the inputs: bits by wire, and errors by constraint (right side less product)."""

    bits: Mapping[int, int] = {}
    errors: Mapping[int, int] = {}


HONEST: Final = Forgery()


class _ProductStep:
    """slot := scale·(a·b + error of the constraint) + rest."""

    def __init__(self, product: Product) -> None:
        self.slots = (product.slot,)
        self._constraint, self._scale = product.constraint, product.scale
        self._a, self._b, self._rest = (CompiledForm(form) for form in (product.a, product.b, product.rest))
        self.reads = frozenset(product.rest.keys() | product.a.keys() | product.b.keys()) - {ONE}
        self.forged_by = (~product.constraint,)

    def run(self, values: list[int], forgery: Forgery) -> None:
        product = self._a(values) * self._b(values) + forgery.errors.get(self._constraint, 0)
        values[self.slots[0]] = (self._scale * product + self._rest(values)) % FIELD_MODULUS


class _SumStep:
    """slot := form."""

    def __init__(self, step: Sum) -> None:
        self.slots = (step.slot,)
        self._form = CompiledForm(step.form)
        self.reads = frozenset(step.form) - {ONE}
        self.forged_by = ()

    def run(self, values: list[int], _forgery: Forgery) -> None:
        values[self.slots[0]] = self._form(values)


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
    """How to make a witness for `circuit`. `groups`, `booleans` and `checks`: see `Derivation`."""

    def __init__(self, circuit: R1cs) -> None:
        """Raises `ValueError` if the constraints leave a wire undetermined, bits aside."""
        self.derivation = derivation = Derivation(circuit)
        self.circuit = circuit
        self.booleans, self.groups, self.checks = derivation.booleans, derivation.groups, derivation.checks
        self._slots = derivation.slots
        self._steps = [_runnable(step) for step in derivation.steps]

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


def _runnable(step: Step) -> _ProductStep | _SumStep | _BitStep:
    if isinstance(step, Product):
        return _ProductStep(step)
    return _BitStep(step) if isinstance(step, BitGroup) else _SumStep(step)
