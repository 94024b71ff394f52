"""Proofs that are not what a prover made: every field element, every flag, every point that is none.

A proof travels compressed, so of its eight field elements four stand in it, the x of A, B (two) and C; of each point's
y there is one bit. Whether bytes name a point is worked out here by py_ecc's arithmetic, not by the chain's.
"""

from collections.abc import Callable
from typing import Final

import pytest
from py_ecc.bn128.bn128_curve import b2, curve_order, multiply
from py_ecc.fields import bn128_FQ2 as FQ2
from solders.instruction import Instruction

from ledger.program_errors import ProgramError
from settlement.verifying_keys import BASE_FIELD_MODULUS as Q
from tests.program.chain import Batch, Chain
from tests.program.sequences import with_a_and_b_negated

E = ProgramError
BATCH: Final = Batch()
PROOF_AT: Final = 43
WORD: Final = 32
WORDS: Final = {"A.x": 0, "B.x imaginary": 32, "B.x real": 64, "C.x": 96}
POINTS: Final = {"A": 0, "B": 32, "C": 96}
Y_IS_LARGER: Final = 0x80
AT_INFINITY: Final = 0x40
FLAGS: Final = Y_IS_LARGER | AT_INFINITY

Mutation = Callable[[int], int]
CHANGES: Final[dict[str, Mutation]] = {
    "one more": lambda x: (x + 1) % Q,
    "one less": lambda x: (x - 1) % Q,
    "the opposite": lambda x: -x % Q,
    "another bit": lambda x: (x ^ 1 << 200) % Q,
    "zero": lambda _: 0,
    "one": lambda _: 1,
    "the largest element": lambda _: Q - 1,
}
"""All stay below q."""
BEYOND_THE_FIELD: Final = {"q": Q, "q and one": Q + 1, "all bits but the flags": 2**254 - 1}


@pytest.fixture
def genuine(chain: Chain) -> bytes:
    return chain.prover.prove(BATCH.statement())


def code_of(chain: Chain, proof: bytes) -> int | None:
    return chain.refusal(settlement(chain, proof))


def settlement(chain: Chain, proof: bytes) -> Instruction:
    return chain.settlement(BATCH, proof)


def word(proof: bytes, at: int) -> int:
    """A coordinate, without the flags above it."""
    value = int.from_bytes(proof[at : at + WORD], "big")
    return value if at == WORDS["B.x real"] else value & ~(FLAGS << 248)


def with_word(proof: bytes, at: int, value: int) -> bytes:
    """The proof with another coordinate under the same flags."""
    flags = 0 if at == WORDS["B.x real"] else proof[at] & FLAGS
    return proof[:at] + (value | flags << 248).to_bytes(WORD, "big") + proof[at + WORD :]


def is_g1(x: int) -> bool:
    """Whether there is a point with this x: y² = x³ + 3 has a root (Euler's criterion)."""
    return pow(x**3 + 3, (Q - 1) // 2, Q) in (0, 1)


def is_g2(real: int, imaginary: int) -> bool:
    """Whether there is a point of order r with this x on the twist y² = x³ + 3 / (9 + u)."""
    x = FQ2([real, imaginary])
    square = x * x * x + b2
    # In F_q² with q = 3 mod 4 (Adj and Rodríguez-Henríquez, "Square root computation over even extension fields", 2012).
    candidate = square ** ((Q - 3) // 4)
    alpha = candidate * candidate * square
    y = candidate * square
    y = FQ2([0, 1]) * y if alpha == FQ2([Q - 1, 0]) else (FQ2([1, 0]) + alpha) ** ((Q - 1) // 2) * y
    return y * y == square and multiply((x, y), curve_order) is None


def names_a_point(proof: bytes, name: str) -> bool:
    """Whether the bytes of A, B or C do. No flag and nothing else stand for the point at infinity too."""
    at = POINTS[name]
    if name == "B":
        return is_g2(word(proof, WORDS["B.x real"]), word(proof, WORDS["B.x imaginary"]))
    flags = (proof[at] ^ (Y_IS_LARGER if name == "A" else 0)) & FLAGS  # A is negated first
    return is_g1(word(proof, at)) or (flags == 0 and word(proof, at) == 0)


def expected(proof: bytes, name: str) -> E:
    """What is said of a proof with one other point."""
    return E.PROOF_REJECTED if names_a_point(proof, name) else E.PROOF_ENCODING


def test_the_arithmetic_here_knows_the_genuine_proofs_points(genuine: bytes) -> None:
    assert all(names_a_point(genuine, name) for name in POINTS)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", WORDS)
def test_another_coordinate_is_refused(chain: Chain, genuine: bytes, name: str, change: str) -> None:
    at = WORDS[name]
    mutated = with_word(genuine, at, CHANGES[change](word(genuine, at)))
    assert mutated != genuine
    chain.refuses(expected(mutated, name[0]), settlement(chain, mutated))


@pytest.mark.parametrize("beyond", BEYOND_THE_FIELD)
@pytest.mark.parametrize("name", WORDS)
def test_a_coordinate_that_is_no_field_element_is_refused(chain: Chain, genuine: bytes, name: str, beyond: str) -> None:
    mutated = with_word(genuine, WORDS[name], BEYOND_THE_FIELD[beyond])
    chain.refuses(E.PROOF_ENCODING, settlement(chain, mutated))


def test_a_coordinate_has_no_second_spelling(chain: Chain) -> None:
    """x + q, where it leaves the flags alone: the same element, were it read modulo q."""
    for name, at in WORDS.items():
        genuine = next(
            proof
            for proof in (chain.prover.prove(BATCH.statement()) for _ in range(200))
            if word(proof, at) + Q < 1 << 254
        )
        respelt = with_word(genuine, at, word(genuine, at) + Q)
        assert code_of(chain, respelt) == E.PROOF_ENCODING, name


@pytest.mark.parametrize("name", POINTS)
def test_the_opposite_of_a_point_is_refused(chain: Chain, genuine: bytes, name: str) -> None:
    """Another y: all that can be said of the y elements."""
    mutated = bytearray(genuine)
    mutated[POINTS[name]] ^= Y_IS_LARGER
    chain.refuses(E.PROOF_REJECTED, settlement(chain, bytes(mutated)))


def test_a_and_b_negated_prove_the_same_and_settle_no_more_than_once(chain: Chain, genuine: bytes) -> None:
    """Groth16 proofs can be varied by anybody; a batch is its number's, not its proof's."""
    chain.send([settlement(chain, with_a_and_b_negated(genuine))], chain.authority)
    assert code_of(chain, genuine) == E.BATCH_EXISTS


@pytest.mark.parametrize(("one", "other"), [("A.x", "C.x"), ("B.x imaginary", "B.x real")])
def test_elements_in_each_others_place_are_refused(chain: Chain, genuine: bytes, one: str, other: str) -> None:
    first, second = word(genuine, WORDS[one]), word(genuine, WORDS[other])
    mutated = with_word(with_word(genuine, WORDS[one], second), WORDS[other], first)
    chain.refuses(expected(mutated, one[0]), settlement(chain, mutated))


def test_a_single_bit_off_is_refused(chain: Chain, genuine: bytes) -> None:
    codes: set[int | None] = set()
    for bit in range(0, len(genuine) * 8, 41):
        mutated = bytearray(genuine)
        mutated[bit // 8] ^= 1 << bit % 8
        codes.add(code_of(chain, bytes(mutated)))
    assert codes == {E.PROOF_ENCODING, E.PROOF_REJECTED}


@pytest.mark.parametrize(
    ("proof", "error"),
    [
        (bytes(128), E.PROOF_ENCODING),
        (b"\xff" * 128, E.PROOF_ENCODING),
        (b"\x40" + bytes(127), E.PROOF_ENCODING),
        (b"\x80" + bytes(127), E.PROOF_REJECTED),  # every point at infinity, once A is negated
    ],
)
def test_a_degenerate_proof_is_refused(chain: Chain, proof: bytes, error: E) -> None:
    chain.refuses(error, settlement(chain, proof))


def test_a_point_of_the_twist_outside_the_group_is_refused(chain: Chain, genuine: bytes) -> None:
    """x = 2 + u has a y, and r times the point is not the point at infinity."""
    mutated = with_word(with_word(genuine, WORDS["B.x real"], 2), WORDS["B.x imaginary"], 1)
    chain.refuses(E.PROOF_ENCODING, settlement(chain, mutated))


@pytest.mark.parametrize("flags", [AT_INFINITY, FLAGS])
@pytest.mark.parametrize("name", POINTS)
def test_a_point_at_infinity_is_refused(chain: Chain, genuine: bytes, name: str, flags: int) -> None:
    """Whatever its x. Both flags together are no encoding; the program turns A's sign over before it is read."""
    mutated = bytearray(genuine)
    mutated[POINTS[name]] = mutated[POINTS[name]] & ~FLAGS | flags
    is_read_as = flags ^ Y_IS_LARGER if name == "A" else flags
    error = E.PROOF_REJECTED if is_read_as == AT_INFINITY else E.PROOF_ENCODING
    chain.refuses(error, settlement(chain, bytes(mutated)))


@pytest.mark.parametrize("flag", [Y_IS_LARGER, AT_INFINITY])
def test_a_flag_where_none_belongs_is_refused(chain: Chain, genuine: bytes, flag: int) -> None:
    mutated = bytearray(genuine)
    mutated[WORDS["B.x real"]] |= flag
    chain.refuses(E.PROOF_ENCODING, settlement(chain, bytes(mutated)))
