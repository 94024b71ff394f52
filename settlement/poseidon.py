"""Poseidon over BN254's scalar field as circomlib and Solana's `sol_poseidon` have it: x^5, one capacity element, output first.

Parameters are generated as the paper says (Grassi et al., "Poseidon: A New Hash Function for Zero-Knowledge Proof Systems",
eprint 2019/458, appendices E and F), not copied. Written out because no package of it installs on every Python from 3.11 on;
tests hold it to circomlib's circuit and to the chain's syscall.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Final, NamedTuple

FIELD_MODULUS: Final = 21888242871839275222246405745257275088548364400416034343698204186575808495617
FIELD_BITS: Final = 254
MAX_INPUTS: Final = 12
"""`sol_poseidon` takes no more."""

FULL_ROUNDS: Final = 8
PARTIAL_ROUNDS: Final = (56, 57, 56, 60, 60, 63, 64, 63, 60, 66, 60, 65)
"""By number of inputs, from 1: for 128 bits of security (the paper's table 2; circomlib's `poseidon.circom`)."""

_GRAIN_TAPS: Final = (62, 51, 38, 23, 13, 0)
_GRAIN_STATE_BITS: Final = 80
_GRAIN_STEP_BITS: Final = _GRAIN_STATE_BITS - max(_GRAIN_TAPS)
_GRAIN_DISCARDED_BITS: Final = 160


class _Parameters(NamedTuple):
    """For one width: a constant per element and round, and the rows of the MDS matrix."""

    round_constants: list[list[int]]
    matrix: list[list[int]]
    partial_rounds: int


def poseidon(inputs: Sequence[int]) -> int:
    """The hash of 1 to 12 field elements, each in 0…`FIELD_MODULUS`-1; raises `ValueError` for anything else."""
    if not 1 <= len(inputs) <= MAX_INPUTS or any(not 0 <= value < FIELD_MODULUS for value in inputs):
        raise ValueError("Poseidon takes 1 to 12 field elements")
    parameters = _parameters(len(inputs))
    first_partial, after_partial = FULL_ROUNDS // 2, FULL_ROUNDS // 2 + parameters.partial_rounds
    state = [0, *inputs]
    for number, constants in enumerate(parameters.round_constants):
        state = [value + constant for value, constant in zip(state, constants, strict=True)]
        if first_partial <= number < after_partial:
            state[0] = pow(state[0], 5, FIELD_MODULUS)
        else:
            state = [pow(value, 5, FIELD_MODULUS) for value in state]
        state = [
            sum(factor * value for factor, value in zip(row, state, strict=True)) % FIELD_MODULUS
            for row in parameters.matrix
        ]
    return state[0]


@cache
def _parameters(input_count: int) -> _Parameters:
    width, partial_rounds = input_count + 1, PARTIAL_ROUNDS[input_count - 1]
    bits = _grain_bits(width, partial_rounds)

    def number() -> int:
        return int("".join(map(str, islice(bits, FIELD_BITS))), 2)

    def element() -> int:
        while (value := number()) >= FIELD_MODULUS:
            pass
        return value

    rounds = FULL_ROUNDS + partial_rounds
    round_constants = [[element() for _ in range(width)] for _ in range(rounds)]
    # A Cauchy matrix: 1 / (x_i + y_j).
    points = [number() % FIELD_MODULUS for _ in range(2 * width)]
    matrix = [[pow(x + y, -1, FIELD_MODULUS) for y in points[width:]] for x in points[:width]]
    return _Parameters(round_constants, matrix, partial_rounds)


def _grain_bits(width: int, partial_rounds: int) -> Iterator[int]:
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
    raw = islice(_lfsr(seed), _GRAIN_DISCARDED_BITS, None)
    return (second for first, second in zip(raw, raw, strict=False) if first)


def _lfsr(seed: str) -> Iterator[int]:
    # The state's first bit is the integer's lowest; as many bits are made at once as depend on none of each other.
    state = int(seed[::-1], 2)
    mask = (1 << _GRAIN_STEP_BITS) - 1
    while True:
        fresh = 0
        for tap in _GRAIN_TAPS:
            fresh ^= state >> tap
        fresh &= mask
        state = state >> _GRAIN_STEP_BITS | fresh << (_GRAIN_STATE_BITS - _GRAIN_STEP_BITS)
        for position in range(_GRAIN_STEP_BITS):
            yield fresh >> position & 1
