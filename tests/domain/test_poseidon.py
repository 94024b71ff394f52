"""Poseidon is circomlib's and the chain's, for every number of inputs, and is computed to be what it is defined to be."""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from settlement.poseidon import (
    FIELD_BITS,
    FIELD_MODULUS,
    FULL_ROUNDS,
    MAX_INPUTS,
    PARTIAL_ROUNDS,
    parameters,
    poseidon,
)

# circomlib's own tests: test/poseidoncircuit.js of circomlib 2.0.5.
OF_CIRCOMLIB: dict[tuple[int, ...], int] = {
    (1, 2, 0, 0, 0): 1018317224307729531995786483840663576608797660851238720571059489595066344487,
    (3, 4, 0, 0, 0): 5811595552068139067952687508729883632420015185677766880877743348592482390548,
}

# Of 1, of 1 and 2, … of 1 to 12, as the Rust crate light-poseidon gives them (its Python package 0.1.1), which the chain runs.
OF_LIGHT_POSEIDON = [
    18586133768512220936620570745912940619677854269274689475585506675881198879027,
    7853200120776062878684798364095072458815029376092732009249414926327459813530,
    6542985608222806190361240322586112750744169038454362455181422643027100751666,
    18821383157269793795438455681495246036402687001665670618754263018637548127333,
    6183221330272524995739186171720101788151706631170188140075976616310159254464,
    20400040500897583745843009878988256314335038853985262692600694741116813247201,
    12748163991115452309045839028154629052133952896122405799815156419278439301912,
    18604317144381847857886385684060986177838410221561136253933256952257712543953,
    13589767895268936107593642967621470491511464502761040466226072462545218539640,
    3657500514307717306974218405144578736633140001277925127187636780142269815841,
    3572015662710076994097916907865950486270383304442561406230608893458731714472,
    2501997477381648492950318384533644783248002172679259592360114615426357826485,
]

KNOWN = OF_CIRCOMLIB | {tuple(range(1, count + 1)): digest for count, digest in enumerate(OF_LIGHT_POSEIDON, 1)}


@pytest.mark.parametrize("inputs", KNOWN)
def test_the_hash_is_the_known_one(inputs: tuple[int, ...]) -> None:
    assert poseidon(inputs) == KNOWN[inputs]


def test_every_number_of_inputs_gives_a_field_element_of_its_own() -> None:
    digests = {poseidon([1] * count) for count in range(1, MAX_INPUTS + 1)}
    assert len(digests) == MAX_INPUTS == len(PARTIAL_ROUNDS)
    assert all(0 <= digest < FIELD_MODULUS for digest in digests)


EXAMPLES: Final = 200

elements = st.integers(0, FIELD_MODULUS - 1) | st.sampled_from((0, 1, FIELD_MODULUS - 1))


def as_defined(inputs: Sequence[int]) -> int:
    """Round by round: constants, fifth powers (in partial rounds, of the first element only), matrix."""
    constants, matrix, partial_rounds = parameters(len(inputs))
    partial = range(FULL_ROUNDS // 2, FULL_ROUNDS // 2 + partial_rounds)
    state = [0, *inputs]
    for number, of_round in enumerate(constants):
        state = [value + constant for value, constant in zip(state, of_round, strict=True)]
        state = [pow(v, 5, FIELD_MODULUS) if i == 0 or number not in partial else v for i, v in enumerate(state)]
        state = [sum(a * b for a, b in zip(row, state, strict=True)) % FIELD_MODULUS for row in matrix]
    return state[0]


@settings(max_examples=EXAMPLES)
@given(st.lists(elements, min_size=1, max_size=MAX_INPUTS))
def test_the_hash_is_what_it_is_defined_to_be(inputs: list[int]) -> None:
    assert poseidon(inputs) == as_defined(inputs)


@pytest.mark.parametrize("count", range(1, MAX_INPUTS + 1))
def test_every_width_is_what_it_is_defined_to_be(count: int) -> None:
    inputs = [pow(7, i + count, FIELD_MODULUS) for i in range(count)]
    assert poseidon(inputs) == as_defined(inputs)


@pytest.mark.parametrize("inputs", [[], [1] * (MAX_INPUTS + 1), [FIELD_MODULUS], [-1]])
def test_what_is_no_list_of_field_elements_is_refused(inputs: list[int]) -> None:
    with pytest.raises(ValueError, match="1 to 12 field elements"):
        poseidon(inputs)


def grain(width: int, partial_rounds: int) -> Iterator[int]:
    """The paper's appendix E, a bit at a time."""
    fields = (2, 1), (4, 0), (12, FIELD_BITS), (12, width), (10, FULL_ROUNDS), (10, partial_rounds), (30, 2**30 - 1)
    state = deque((value >> size - 1 - i & 1 for size, value in fields for i in range(size)), maxlen=80)

    def step() -> int:
        state.append(state[62] ^ state[51] ^ state[38] ^ state[23] ^ state[13] ^ state[0])
        return state[-1]

    for _ in range(160):
        step()
    while True:
        chosen, bit = step(), step()
        if chosen:
            yield bit


@pytest.mark.parametrize("count", [1, 5, 12])
def test_the_round_constants_are_the_grain_generators_numbers(count: int) -> None:
    constants, _, partial_rounds = parameters(count)
    assert partial_rounds == PARTIAL_ROUNDS[count - 1]
    bits = grain(count + 1, partial_rounds)
    for constant in (constant for of_round in constants for constant in of_round):
        while (number := int("".join(map(str, islice(bits, FIELD_BITS))), 2)) >= FIELD_MODULUS:
            pass
        assert constant == number
