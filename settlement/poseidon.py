"""Poseidon over BN254's scalar field as circomlib and Solana's `sol_poseidon` have it: x^5, one capacity element, output first.

Parameters are generated as the paper says (Grassi et al., "Poseidon: A New Hash Function for Zero-Knowledge Proof Systems",
eprint 2019/458, appendices E and F), not copied. Written out because no package of it installs on every Python from 3.11 on;
tests hold it to circomlib's circuit, to the chain's syscall and to the definition as it stands in the paper.

Most rounds are partial: x^5 of the first element only. They are computed in other coordinates, worked out once per width, in which
such a round costs two products an element instead of a matrix (the paper's appendix B gets there by factoring the matrix).
"""

from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain, islice
from operator import mul
from typing import Final, NamedTuple

FIELD_MODULUS: Final = 21888242871839275222246405745257275088548364400416034343698204186575808495617
FIELD_BITS: Final = 254
MAX_INPUTS: Final = 12
"""`sol_poseidon` takes no more."""

FULL_ROUNDS: Final = 8
PARTIAL_ROUNDS: Final = (56, 57, 56, 60, 60, 63, 64, 63, 60, 66, 60, 65)
"""By number of inputs, from 1: for 128 bits of security (the paper's table 2; circomlib's `poseidon.circom`)."""

REMEMBERED_HASHES: Final = 4_096
"""Of the latest batches, some ten each, in a few megabytes."""

_ROUNDS_PER_BLOCK: Final = 12
"""After so many partial rounds the other elements are brought up to date at once: any number is right, 8 to 12 are fastest."""

_GRAIN_TAPS: Final = (62, 51, 38, 23, 13, 0)
_GRAIN_STATE_BITS: Final = 80
_GRAIN_STEP_BITS: Final = _GRAIN_STATE_BITS - max(_GRAIN_TAPS)
_GRAIN_DISCARDED_BITS: Final = 160

_Vector = Sequence[int]
_Matrix = Sequence[_Vector]


class Parameters(NamedTuple):
    """For one width: a constant per element and round, and the rows of the MDS matrix."""

    round_constants: list[list[int]]
    matrix: list[list[int]]
    partial_rounds: int


class _FullRound(NamedTuple):
    """Adds constants, takes all to the fifth power, multiplies by a matrix."""

    constants: _Vector
    matrix: _Matrix


class _PartialRound(NamedTuple):
    """What the first element becomes, after `constant` was added and the fifth power taken: `of_rest`·(the other elements at the
    block's start) + `of_firsts`·(the first elements of the block's rounds, this one's last)."""

    constant: int
    of_rest: _Vector
    of_firsts: _Vector


class _Block(NamedTuple):
    """Partial rounds, then the other elements grow by `growth`, a row for each, times the first elements of the rounds."""

    rounds: list[_PartialRound]
    growth: _Matrix


class _Schedule(NamedTuple):
    opening: list[_FullRound]
    blocks: list[_Block]
    closing: list[_FullRound]


def poseidon(inputs: Sequence[int]) -> int:
    """The hash of 1 to 12 field elements, each in 0…`FIELD_MODULUS`-1; raises `ValueError` for anything else."""
    if not 1 <= len(inputs) <= MAX_INPUTS or any(not 0 <= value < FIELD_MODULUS for value in inputs):
        raise ValueError("Poseidon takes 1 to 12 field elements")
    return remembered(tuple(inputs))


@lru_cache(maxsize=REMEMBERED_HASHES)
def remembered(inputs: tuple[int, ...]) -> int:
    """As `poseidon`, which checks the inputs. What a claim hashes, the prover that checks it hashes again, often in the same process."""
    opening, blocks, closing = _schedule(len(inputs))
    first, *rest = _full_rounds([0, *inputs], opening)
    for rounds, growth in blocks:
        firsts: list[int] = []
        for constant, of_rest, of_firsts in rounds:
            value = first + constant
            square = value * value % FIELD_MODULUS
            firsts.append(square * square % FIELD_MODULUS * value % FIELD_MODULUS)
            first = (sum(map(mul, of_rest, rest)) + sum(map(mul, of_firsts, firsts))) % FIELD_MODULUS
        rest = [(value + sum(map(mul, row, firsts))) % FIELD_MODULUS for value, row in zip(rest, growth, strict=True)]
    return _full_rounds([first, *rest], closing)[0]


def _full_rounds(state: list[int], rounds: Sequence[_FullRound]) -> list[int]:
    for constants, matrix in rounds:
        powers: list[int] = []
        for element, constant in zip(state, constants, strict=True):
            value = element + constant
            square = value * value % FIELD_MODULUS
            powers.append(square * square % FIELD_MODULUS * value % FIELD_MODULUS)
        state = _times(matrix, powers)
    return state


@cache
def _schedule(input_count: int) -> _Schedule:
    """The rounds as `poseidon` computes them.

    Let a be the first element after its fifth power and r the others, and the matrix [[m, v], [w, H]]. A partial round makes
    m·a + v·r the first element and w·a + H·r the others. With k rounds left, H^k·r is kept for r: that only grows, by H^(k-1)·w·a,
    and v·H^-k stands for v. The change of coordinates goes into the last matrix before, and after k = 0 there is none.
    """
    round_constants, matrix, partial_rounds = parameters(input_count)
    half = FULL_ROUNDS // 2
    (m, *v), w = matrix[0], [row[0] for row in matrix[1:]]
    h = [row[1:] for row in matrix[1:]]
    to_first, after = _first_constants_only(round_constants[half:-half], matrix)
    transposed_inverse = _transposed(_inverse(h))
    of_rest, growth = [v], [w]
    for _ in range(partial_rounds):
        of_rest.append(_times(transposed_inverse, of_rest[-1]))
        growth.append(_times(h, growth[-1]))
    echoes = [sum(map(mul, v, column)) % FIELD_MODULUS for column in growth[: _ROUNDS_PER_BLOCK - 1]]
    of_firsts = [*reversed(echoes), m]
    blocks: list[_Block] = []
    for start in range(0, partial_rounds, _ROUNDS_PER_BLOCK):
        numbers = range(start, min(start + _ROUNDS_PER_BLOCK, partial_rounds))
        rounds = [
            _PartialRound(to_first[n], of_rest[partial_rounds - n], of_firsts[-(n - start + 1) :]) for n in numbers
        ]
        blocks.append(_Block(rounds, _transposed([growth[partial_rounds - n - 1] for n in numbers])))
    last = [matrix[0], *_product(_power(h, partial_rounds), matrix[1:])]
    opening = zip(round_constants[:half], [*[matrix] * (half - 1), last], strict=True)
    closing_constants = [_sum(round_constants[-half], after), *round_constants[-half + 1 :]]
    closing = zip(closing_constants, [*[matrix] * (half - 1), matrix[:1]], strict=True)
    return _Schedule([_FullRound(*of) for of in opening], blocks, [_FullRound(*of) for of in closing])


def _first_constants_only(round_constants: _Matrix, matrix: _Matrix) -> tuple[list[int], list[int]]:
    """The constants of partial rounds with those of the other elements put off until after the last: nothing but the matrix is done
    to them on the way."""
    to_first: list[int] = []
    put_off = [0] * len(matrix)
    for constants in round_constants:
        first, *rest = _sum(constants, put_off)
        to_first.append(first)
        put_off = _times(matrix, [0, *rest])
    return to_first, put_off


def _sum(left: _Vector, right: _Vector) -> list[int]:
    return [(a + b) % FIELD_MODULUS for a, b in zip(left, right, strict=True)]


def _times(matrix: _Matrix, column: _Vector) -> list[int]:
    return [sum(map(mul, row, column)) % FIELD_MODULUS for row in matrix]


def _product(left: _Matrix, right: _Matrix) -> list[list[int]]:
    columns = _transposed(right)
    return [_times(columns, row) for row in left]


def _transposed(matrix: _Matrix) -> list[list[int]]:
    return [list(column) for column in zip(*matrix, strict=True)]


def _power(matrix: _Matrix, exponent: int) -> _Matrix:
    """For an exponent of 1 at least."""
    if exponent == 1:
        return matrix
    half = _power(matrix, exponent // 2)
    square = _product(half, half)
    return _product(square, matrix) if exponent % 2 else square


def _inverse(matrix: _Matrix) -> list[list[int]]:
    """By Gauss and Jordan, without exchange of rows: every square submatrix of an MDS matrix is invertible."""
    size = len(matrix)
    rows = [[*row, *(int(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for column in range(size):
        scale = pow(rows[column][column], -1, FIELD_MODULUS)
        pivot = rows[column] = [value * scale % FIELD_MODULUS for value in rows[column]]
        for i, row in enumerate(rows):
            if i != column:
                factor = row[column]
                rows[i] = [(a - factor * b) % FIELD_MODULUS for a, b in zip(row, pivot, strict=True)]
    return [row[size:] for row in rows]


@cache
def parameters(input_count: int) -> Parameters:
    """Those of the hash of so many inputs."""
    width, partial_rounds = input_count + 1, PARTIAL_ROUNDS[input_count - 1]
    bits = _grain_bits(width, partial_rounds)

    def number() -> int:
        return int("".join(islice(bits, FIELD_BITS)), 2)

    def element() -> int:
        while (value := number()) >= FIELD_MODULUS:
            pass
        return value

    rounds = FULL_ROUNDS + partial_rounds
    round_constants = [[element() for _ in range(width)] for _ in range(rounds)]
    # A Cauchy matrix: 1 / (x_i + y_j).
    points = [number() % FIELD_MODULUS for _ in range(2 * width)]
    matrix = [[pow(x + y, -1, FIELD_MODULUS) for y in points[width:]] for x in points[:width]]
    return Parameters(round_constants, matrix, partial_rounds)


def _grain_bits(width: int, partial_rounds: int) -> Iterator[str]:
    """The Grain LFSR in self-shrinking mode (appendix E): of each pair of bits, the second if the first is 1."""
    seed = "".join(
        (
            f"{1:02b}",  # a prime field
            f"{0:04b}",  # the S-box x^α
            f"{FIELD_BITS:012b}",
            f"{width:012b}",
            f"{FULL_ROUNDS:010b}",
            f"{partial_rounds:010b}",
            "1" * 30,
        )
    )
    raw = islice(chain.from_iterable(_lfsr(seed)), _GRAIN_DISCARDED_BITS, None)
    return (second for first, second in zip(raw, raw, strict=False) if first == "1")


def _lfsr(seed: str) -> Iterator[str]:
    """Ever more bits at once: squared, the recurrence still holds, over a field of characteristic 2, at twice the distances."""
    # The first bit is the integer's lowest.
    known, count = int(seed[::-1], 2), _GRAIN_STATE_BITS
    while True:
        distance = 1 << (count // _GRAIN_STATE_BITS).bit_length() - 1
        step, start = _GRAIN_STEP_BITS * distance, count - _GRAIN_STATE_BITS * distance
        fresh = 0
        for tap in _GRAIN_TAPS:
            fresh ^= known >> (start + tap * distance)
        fresh &= (1 << step) - 1
        yield f"{fresh:0{step}b}"[::-1]
        known |= fresh << count
        count += step
