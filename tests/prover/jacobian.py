"""The Jacobian of a circuit's constraints at a witness, and its rank over the scalar field.

Full column rank over the wires that are no inputs means that no such wire can move, however little, while the inputs stay: none is
free. It says nothing of distant solutions; those are what forged witnesses try.
"""

from collections import defaultdict
from collections.abc import Sequence

from settlement.poseidon import FIELD_MODULUS
from tests.prover.r1cs import CompiledForm, R1cs, Witness

Row = dict[int, int]


def jacobian(circuit: R1cs, witness: Witness) -> list[Row]:
    """d(A·w)(B·w) + (A·w)d(B·w) - d(C·w) by constraint, over the wires that are neither the constant nor inputs."""
    given = {0, *circuit.inputs}
    rows: list[Row] = []
    for a, b, c in circuit.constraints:
        row: Row = defaultdict(int)
        for form, factor in ((a, CompiledForm(b)(witness)), (b, CompiledForm(a)(witness)), (c, -1)):
            for wire, coefficient in form.items():
                if wire not in given:
                    row[wire] += coefficient * factor
        rows.append({wire: value for wire, total in row.items() if (value := total % FIELD_MODULUS)})
    return rows


def unknown_wires(circuit: R1cs) -> int:
    """How many columns the Jacobian has."""
    return circuit.wire_count - 1 - len(circuit.inputs)


def rank(rows: Sequence[Row]) -> int:
    """The rank of a sparse matrix over the scalar field.

    Gaussian elimination that always takes a shortest row next: while there are rows of one entry, their columns just go.
    """
    rows_with: dict[int, set[int]] = defaultdict(set)
    left = {number: dict(row) for number, row in enumerate(rows) if row}
    by_length: dict[int, set[int]] = defaultdict(set)
    for number, row in left.items():
        by_length[len(row)].add(number)
        for column in row:
            rows_with[column].add(number)
    found = 0
    while left:
        length = min(length for length, numbers in by_length.items() if numbers)
        number = by_length[length].pop()
        pivot_row = left.pop(number)
        for column in pivot_row:
            rows_with[column].discard(number)
        pivot = min(pivot_row, key=lambda column: len(rows_with[column]))
        found += 1
        inverse = pow(pivot_row.pop(pivot), -1, FIELD_MODULUS)
        for other in rows_with.pop(pivot):
            row = left[other]
            by_length[len(row)].discard(other)
            factor = row.pop(pivot) * inverse
            for column, value in pivot_row.items():
                difference = (row.get(column, 0) - factor * value) % FIELD_MODULUS
                if difference:
                    row[column] = difference
                    rows_with[column].add(other)
                elif column in row:
                    del row[column]
                    rows_with[column].discard(other)
            if row:
                by_length[len(row)].add(other)
            else:
                del left[other]
    return found
