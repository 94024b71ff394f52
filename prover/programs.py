"""Writes the program that makes a circuit's witness (`prover.witness` runs it) from what the constraints determine."""

import hashlib
from array import array
from collections import defaultdict
from sys import byteorder

from prover.r1cs import FIELD_BYTES, Form, read_constraints
from prover.solving import ONE, BitGroup, Derivation, Product
from prover.witness import BITS, HEADER, MAGIC, PRODUCTS, SUMS, VERSION, WORD
from settlement.poseidon import FIELD_MODULUS

_Operands = tuple[tuple[int, int], ...]
"""Nodes that a node reads, in a sum each with its signed coefficient."""


def witness_program(r1cs: bytes) -> bytes:
    """The program for the circuit in an `.r1cs`; takes seconds. Raises `ValueError` for what is none whose wires all follow."""
    return program_of(Derivation(read_constraints(r1cs)), hashlib.sha256(r1cs).digest())


def program_of(derivation: Derivation, r1cs_sha256: bytes) -> bytes:
    """The program that takes the steps of `derivation`, which is of the `.r1cs` with this digest."""
    draft = _Draft(derivation)
    code = draft.code()
    coefficients = b"".join(value.to_bytes(FIELD_BYTES, "little", signed=True) for value in draft.coefficients)
    if byteorder == "big":
        code.byteswap()
    circuit = derivation.circuit
    header = HEADER.pack(
        MAGIC,
        VERSION,
        r1cs_sha256,
        len(circuit.inputs),
        circuit.wire_count,
        len(draft.coefficients),
        len(code),
    )
    return header + coefficients + code.tobytes()


class _Draft:
    """The program as nodes, each a value; equal ones are one. A node's layer is the first after those of all that it reads."""

    def __init__(self, derivation: Derivation) -> None:
        circuit = derivation.circuit
        self._wire_count = circuit.wire_count
        self._nodes = {wire: node for node, wire in enumerate([ONE, *circuit.inputs])}
        self._given = len(self._nodes)
        self._layers = [0] * self._given
        self._made: dict[tuple[int, int, _Operands], int] = {}
        self._parts: dict[tuple[int, int, int], list[tuple[int, _Operands]]] = defaultdict(list)
        self._numbers: dict[int, int] = {}
        for step in derivation.steps:
            if isinstance(step, BitGroup):
                size = -(-step.width // 8)
                first = self._node(BITS, size, ((self._sum(self._terms(step.source)), 0),), values=8 * size)
                self._nodes.update((wire, first + position) for position, wire in step.wires.items())
            elif isinstance(step, Product):
                (left, of_left), (right, of_right) = self._factor(step.a), self._factor(step.b)
                product = self._node(PRODUCTS, 0, tuple((factor, 0) for factor in sorted((left, right))))
                terms = self._terms(step.rest)
                terms[product] += step.scale * of_left * of_right
                self._nodes[step.slot] = self._sum(terms)
            else:
                self._nodes[step.slot] = self._sum(self._terms(step.form))

    @property
    def coefficients(self) -> list[int]:
        """Those of sums, signed, in the order of the numbers that `code` gives them."""
        return list(self._numbers)

    def code(self) -> "array[int]":
        """The parts, layer by layer, and then the place of each wire."""
        places = dict(zip(range(self._given), range(self._given), strict=True))
        words: list[int] = []
        free = self._given
        for (_, kind, size), made in sorted(self._parts.items()):
            words += [kind, len(made)] if kind == PRODUCTS else [kind, size, len(made)]
            columns = list(zip(*(operands for _, operands in made), strict=True))
            words += [places[node] for column in columns for node, _ in column]
            if kind == SUMS:
                words += [self._number(coefficient) for column in columns for _, coefficient in column]
            values = 8 * size if kind == BITS else 1
            for first, _ in made:
                places.update(zip(range(first, first + values), range(free, free + values), strict=True))
                free += values
        return array(WORD, [*words, *(places[self._nodes[wire]] for wire in range(self._wire_count))])

    def _terms(self, form: Form) -> dict[int, int]:
        """A form over nodes: several wires may be one."""
        terms: dict[int, int] = defaultdict(int)
        for wire, coefficient in form.items():
            terms[self._nodes[wire]] += coefficient
        return terms

    def _factor(self, form: Form) -> tuple[int, int]:
        """A node and the number of times that `form` is it. Forms that differ in sign are the same node, as in x^5 = x·(-x²)·(-x²)."""
        terms = _reduced(self._terms(form))
        if not terms:
            return ONE, 0
        first = next(iter(terms.values()))
        times = first if len(terms) == 1 else 1 if first > 0 else -1
        return self._sum({node: value // times for node, value in terms.items()}), times

    def _sum(self, terms: dict[int, int]) -> int:
        reduced = _reduced(terms)
        if len(reduced) == 1 and 1 in reduced.values():
            return next(iter(reduced))
        operands = tuple(reduced.items()) or ((ONE, 0),)
        return self._node(SUMS, len(operands), operands)

    def _node(self, kind: int, size: int, operands: _Operands, values: int = 1) -> int:
        """The first of as many nodes as there are `values`, made now or before."""
        if (kind, size, operands) not in self._made:
            self._made[kind, size, operands] = node = len(self._layers)
            layer = 1 + max(self._layers[read] for read, _ in operands)
            self._layers += [layer] * values
            self._parts[layer, kind, size].append((node, operands))
        return self._made[kind, size, operands]

    def _number(self, coefficient: int) -> int:
        return self._numbers.setdefault(coefficient, len(self._numbers))


def _reduced(terms: dict[int, int]) -> dict[int, int]:
    """In order, and with coefficients of either sign: small numbers multiply faster, and most are small if they may be negative."""
    values = ((node, total % FIELD_MODULUS) for node, total in sorted(terms.items()))
    return {node: value - FIELD_MODULUS * (value > FIELD_MODULUS // 2) for node, value in values if value}
