"""One shape's circuit with everything that tests need of it, each made when first asked for: constraints, forger and keys."""

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Final

import groth16py
import pytest

from prover.circuit import circuit_hash
from prover.compiling import compile_r1cs
from prover.inputs import Signals, circuit_signals, values_of
from prover.keys import load_keys, load_verifying_key
from prover.making import make_development_keys
from prover.memory_files import file_of
from prover.programs import program_of
from prover.witness import WitnessProgram, as_wtns
from settlement.batches import Statement
from settlement.shapes import DEFAULT_SHAPES, SHAPES, Shape
from tests.prover.anatomy import Inputs
from tests.prover.attacks import ATTACKS, ready_to_attack
from tests.prover.forging import Forged, Forger
from tests.prover.r1cs import R1cs, Witness, read_r1cs
from tests.prover.solving import Plan

EVERY_SHAPE: Final = [
    pytest.param(shape, marks=() if shape in DEFAULT_SHAPES else pytest.mark.slow, id=shape.name) for shape in SHAPES
]
"""For `parametrize`. The shapes that are not in use by default differ from the others in size alone and take as long as all else."""


class Keys:
    """A pair of keys used without any of the adapter's checks."""

    def __init__(
        self,
        proving_key: groth16py.ProvingKey,
        verifying_key: groth16py.VerifyingKey,
        program: WitnessProgram | None = None,
    ) -> None:
        self.proving_key = proving_key
        self.public_inputs = verifying_key.n_public
        self._verifier = groth16py.Verifier(verifying_key)
        self._program = program

    def prove(self, witness: Witness) -> bytes:
        """A proof from `witness`, whether or not it satisfies the constraints."""
        with file_of(as_wtns(witness)) as path:
            return groth16py.prove_wtns(self.proving_key, path)

    def prove_signals(self, signals: Signals) -> bytes:
        """A proof from the witness that the prover makes of `signals`."""
        assert self._program is not None
        return self.prove(self._program.witness(values_of(signals)))

    def verifies(self, proof: bytes, public_input: int) -> bool:
        return self._verifier.verify(proof, [public_input])


class Circuit:
    """The circuit of one shape. Constraints and keys are kept in directories that outlive the tests, named after the circuit."""

    def __init__(self, shape: Shape, keys_dir: Path, batch_to_attack: Statement) -> None:
        self.shape = shape
        self._keys_dir = keys_dir
        self._batch_to_attack = batch_to_attack
        self._forged: dict[str, Forged] = {}

    @cached_property
    def r1cs(self) -> R1cs:
        path = self._keys_dir.parent / "constraints" / f"{self.shape.name}.{circuit_hash(self.shape)}.r1cs"
        if not path.exists():
            compile_r1cs(self.shape, path)
        return read_r1cs(path)

    @cached_property
    def plan(self) -> Plan:
        return Plan(self.r1cs)

    @cached_property
    def forger(self) -> Forger:
        return Forger(self.plan, self.shape, ready_to_attack(inputs_of(self._batch_to_attack)))

    @cached_property
    def program(self) -> WitnessProgram:
        """The prover's own way to a witness."""
        return WitnessProgram(program_of(self.plan.derivation, hashlib.sha256().digest()))

    def forged(self, attack: str) -> Forged:
        """The forgery of the attack of this name."""
        if attack not in self._forged:
            self._forged[attack] = ATTACKS[attack](self.forger)
        return self._forged[attack]

    @cached_property
    def keys(self) -> Keys:
        make_development_keys(self._keys_dir, [self.shape])
        loaded = load_keys(self._keys_dir, self.shape)
        key = groth16py.VerifyingKey.from_snarkjs(loaded.verifying_key.text)
        return Keys(loaded.proving_key, key, loaded.witness_program)

    @property
    def verifying_key_text(self) -> str:
        """As snarkjs JSON; the keys must be there."""
        return load_verifying_key(self._keys_dir, self.shape).text


CircuitOf = Callable[[Shape], Circuit]


def inputs_of(statement: Statement) -> Inputs:
    """The input signals of `statement`."""
    return Inputs.of(circuit_signals(statement))
