"""A development key: Groth16's set-up by one party, who could forge proofs, so that it must never guard funds.

It is the set-up of the paper (https://eprint.iacr.org/2016/260, section 3.2) with its polynomials in snarkjs' bases, written as a
`.zkey`. groth16py's own set-up gives other bases, in a format that takes seconds to load. What nobody may know, its random numbers,
leaves this process only in the points made with it and, for these to be made, in a file without a name to a process of its own
(`prover.multiplying`), which ends with that; it is gone when both have ended.

Such a file never passes for a ceremony's: nobody has contributed to it, and its gamma is not the generator.
"""

import secrets
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from prover.contributions import G1_BYTES, G2_BYTES
from prover.multiplying import multiples
from prover.r1cs import ConstraintSystem, Form, circuit_power
from prover.zkey import PUBLIC_INPUTS, ZkeyPoints, zkey_file
from settlement.poseidon import FIELD_MODULUS

TWO_ADICITY: Final = 28
"""The field has roots of unity of order up to 2^28."""
ROOT_OF_UNITY: Final = pow(5, (FIELD_MODULUS - 1) >> TWO_ADICITY, FIELD_MODULUS)
"""Of order 2^28: 5 generates the field's multiplicative group, and snarkjs takes the same (https://github.com/iden3/ffjavascript)."""


class _Polynomials(NamedTuple):
    """By wire: the values at tau of the polynomials that its coefficients in A, B and C interpolate."""

    a: list[int]
    b: list[int]
    c: list[int]


def development_key(system: ConstraintSystem) -> bytes:
    """A `.zkey` for a circuit with one output; takes seconds. Raises `ValueError` if groth16py fails."""
    if len(system.outputs) != PUBLIC_INPUTS:
        raise ValueError(f"a circuit with {len(system.outputs)} outputs")
    tau, alpha, beta, gamma, delta = (1 + secrets.randbelow(FIELD_MODULUS - 1) for _ in range(5))
    power = circuit_power(system)
    a, b, c = _polynomials(system, _lagrange(tau, power))
    public = PUBLIC_INPUTS + 1
    mixed = [(beta * x + alpha * y + z) % FIELD_MODULUS for x, y, z in zip(a, b, c, strict=True)]
    ic = _divided(mixed[:public], gamma)
    private = _divided(mixed[public:], delta)
    # Of the product's excess a prover knows the values between those of the domain: at the odd powers of a root of twice the order.
    excess = _divided(_lagrange(tau, power + 1)[1::2], delta)
    made = multiples([alpha, beta, delta, *ic, *a, *private, *excess], [beta, gamma, delta, *b])
    g1, g1_b, g2 = (
        _Cut(points, size) for points, size in ((made.left, G1_BYTES), (made.right, G1_BYTES), (made.right_2, G2_BYTES))
    )
    g1_b.next(3)
    points = ZkeyPoints(
        alpha_1=g1.next(1),
        beta_1=g1.next(1),
        delta_1=g1.next(1),
        ic=g1.next(public),
        a=g1.next(len(a)),
        c=g1.next(len(private)),
        h=g1.next(len(excess)),
        beta_2=g2.next(1),
        gamma_2=g2.next(1),
        delta_2=g2.next(1),
        b_1=g1_b.next(len(b)),
        b_2=g2.next(len(b)),
    )
    return zkey_file(system, points)


class _Cut:
    """Points one behind the other, taken from the front."""

    def __init__(self, points: bytes, size: int) -> None:
        self._points = points
        self._size = size
        self._at = 0

    def next(self, count: int) -> bytes:
        start, self._at = self._at, self._at + count * self._size
        return self._points[start : self._at]


def _polynomials(system: ConstraintSystem, lagrange: Sequence[int]) -> _Polynomials:
    found = _Polynomials(*([0] * system.wire_count for _ in range(3)))
    for value, constraint in zip(lagrange, system.constraints, strict=False):
        for sums, form in zip(found, constraint, strict=True):
            _add(sums, form, value)
    # A row of its own for each public wire keeps their polynomials independent.
    for wire in range(PUBLIC_INPUTS + 1):
        found.a[wire] += lagrange[len(system.constraints) + wire]
    return _Polynomials(*([value % FIELD_MODULUS for value in sums] for sums in found))


def _add(sums: list[int], form: Form, factor: int) -> None:
    for wire, coefficient in form.items():
        sums[wire] += coefficient * factor


def _lagrange(tau: int, power: int) -> list[int]:
    """The Lagrange polynomials over the 2^power-th roots of unity, at tau: L_i = (tau^n - 1)/n · root^i/(tau - root^i)."""
    size = 1 << power
    root = pow(ROOT_OF_UNITY, 1 << (TWO_ADICITY - power), FIELD_MODULUS)
    roots = list(accumulate(range(1, size), lambda last, _: last * root % FIELD_MODULUS, initial=1))
    factor = (pow(tau, size, FIELD_MODULUS) - 1) * pow(size, -1, FIELD_MODULUS)
    inverses = _inverted([tau - root for root in roots])
    return [
        factor * root % FIELD_MODULUS * inverse % FIELD_MODULUS for root, inverse in zip(roots, inverses, strict=True)
    ]


def _inverted(values: Sequence[int]) -> list[int]:
    """The inverse of each, none of which is zero, for the price of one: each is the product of all before it over that with it."""
    products = list(accumulate(values, lambda product, value: product * value % FIELD_MODULUS, initial=1))
    inverse = pow(products.pop(), -1, FIELD_MODULUS)
    inverses: list[int] = []
    for value, product in zip(reversed(values), reversed(products), strict=True):
        inverses.append(inverse * product % FIELD_MODULUS)
        inverse = inverse * value % FIELD_MODULUS
    return inverses[::-1]


def _divided(values: Sequence[int], divisor: int) -> list[int]:
    factor = pow(divisor, -1, FIELD_MODULUS)
    return [value * factor % FIELD_MODULUS for value in values]
