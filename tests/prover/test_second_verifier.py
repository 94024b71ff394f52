"""Proofs of every shape verify with py_ecc too: another implementation of the curve, and Groth16's equation written out here."""

import json
from collections.abc import Callable

import pytest
from py_ecc.fields import optimized_bn128_FQ as FQ
from py_ecc.fields import optimized_bn128_FQ2 as FQ2
from py_ecc.fields import optimized_bn128_FQ12 as FQ12
from py_ecc.optimized_bn128.optimized_curve import add, multiply, neg
from py_ecc.optimized_bn128.optimized_pairing import final_exponentiate, pairing
from py_ecc.typing import Optimized_Point3D

from prover.inputs import circuit_signals
from settlement.batches import Statement
from settlement.shapes import SHAPES, Shape
from tests.prover.circuits import CircuitOf

StatementOf = Callable[..., Statement]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_full_batch_is_proven_and_verifies_twice(
    circuit_of: CircuitOf, statement_of: StatementOf, shape: Shape
) -> None:
    statement = statement_of(shape.bets, shape.players)
    assert statement.shape == shape
    circuit = circuit_of(shape)
    proof = circuit.keys.prove_signals(circuit_signals(statement))
    assert circuit.keys.verifies(proof, statement.public_input)
    assert verifies_by_pairings(circuit.verifying_key_text, proof, statement.public_input)


def test_the_second_verifier_refuses_another_public_input(circuit_of: CircuitOf, statement_of: StatementOf) -> None:
    statement = statement_of(10, 5)
    circuit = circuit_of(statement.shape)
    proof = circuit.keys.prove_signals(circuit_signals(statement))
    assert not verifies_by_pairings(circuit.verifying_key_text, proof, statement.public_input + 1)


def verifies_by_pairings(verifying_key: str, proof: bytes, public_input: int) -> bool:
    """e(-A, B)·e(alpha, beta)·e(IC0 + x·IC1, gamma)·e(C, delta) = 1, over a proof in EIP-197 order and a key in snarkjs JSON."""
    key = json.loads(verifying_key)
    numbers = [int.from_bytes(proof[i : i + 32], "big") for i in range(0, 256, 32)]
    a, c = g1(*numbers[:2]), g1(*numbers[6:])
    b = g2((numbers[3], numbers[2]), (numbers[5], numbers[4]))
    ic = [g1(*map(int, point[:2])) for point in key["IC"]]
    inputs = add(ic[0], multiply(ic[1], public_input))

    def key_g2(name: str) -> Optimized_Point3D[FQ2]:
        x, y = ((int(part[0]), int(part[1])) for part in key[name][:2])
        return g2(x, y)

    alpha = g1(*map(int, key["vk_alpha_1"][:2]))
    product = FQ12.one()
    for left, right in (
        (b, neg(a)),
        (key_g2("vk_beta_2"), alpha),
        (key_g2("vk_gamma_2"), inputs),
        (key_g2("vk_delta_2"), c),
    ):
        product *= pairing(left, right, final_exponentiate=False)
    return final_exponentiate(product) == FQ12.one()


def g1(x: int, y: int) -> Optimized_Point3D[FQ]:
    return (FQ(x), FQ(y), FQ.one())


def g2(x: tuple[int, int], y: tuple[int, int]) -> Optimized_Point3D[FQ2]:
    return (FQ2(x), FQ2(y), FQ2.one())
