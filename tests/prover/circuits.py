"""One shape's circuit with everything that tests need of it, each made when first asked for: constraints, forger and keys."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import groth16py

from prover.circuit import circuit_hash
from prover.compiling import compile_r1cs
from prover.inputs import Signals, circuit_signals
from prover.keys import load_keys, load_verifying_key
from prover.making import make_development_keys
from settlement.batches import Statement
from settlement.poseidon import FIELD_MODULUS
from settlement.shapes import Shape
from tests.prover.anatomy import Inputs
from tests.prover.attacks import ATTACKS, ready_to_attack
from tests.prover.forging import Forged, Forger
from tests.prover.r1cs import R1cs, Witness, read_r1cs, write_witness


class Keys:
    """A pair of keys used without any of the adapter's checks."""

    def __init__(self, proving_key: groth16py.ProvingKey, verifying_key: groth16py.VerifyingKey, scratch: Path) -> None:
        self.proving_key = proving_key
        self.public_inputs = verifying_key.n_public
        self._verifier = groth16py.Verifier(verifying_key)
        self._scratch = scratch

    def prove(self, witness: Witness) -> bytes:
        """A proof from `witness`, whether or not it satisfies the constraints."""
        path = self._scratch / "witness.wtns"
        write_witness(witness, path)
        return groth16py.prove_wtns(self.proving_key, str(path))

    def prove_signals(self, signals: Signals) -> bytes:
        """A proof from the witness that the compiler's own code makes of `signals`."""
        return groth16py.prove(self.proving_key, signals)

    def verifies(self, proof: bytes, public_input: int) -> bool:
        return self._verifier.verify(proof, [public_input])


class Circuit:
    """The circuit of one shape. Constraints and keys are kept in directories that outlive the tests, named after the circuit."""

    def __init__(self, shape: Shape, keys_dir: Path, scratch: Path, batch_to_attack: Statement) -> None:
        self.shape = shape
        self._keys_dir = keys_dir
        self._scratch = scratch
        self._batch_to_attack = batch_to_attack
        self._forged: dict[str, Forged] = {}

    @cached_property
    def r1cs(self) -> R1cs:
        path = self._keys_dir.parent / "constraints" / f"{self.shape.name}.{circuit_hash(self.shape)}.r1cs"
        if not path.exists():
            compile_r1cs(self.shape, path)
        return read_r1cs(path)

    @cached_property
    def forger(self) -> Forger:
        return Forger(self.r1cs, self.shape, ready_to_attack(inputs_of(self._batch_to_attack)))

    def forged(self, attack: str) -> Forged:
        """The forgery of the attack of this name."""
        if attack not in self._forged:
            self._forged[attack] = ATTACKS[attack](self.forger)
        return self._forged[attack]

    @cached_property
    def keys(self) -> Keys:
        make_development_keys(self._keys_dir, [self.shape])
        verifying_key, proving_key = load_keys(self._keys_dir, self.shape)
        return Keys(proving_key, groth16py.VerifyingKey.from_snarkjs(verifying_key.text), self._scratch)

    @property
    def verifying_key_text(self) -> str:
        """As snarkjs JSON; the keys must be there."""
        return load_verifying_key(self._keys_dir, self.shape).text


CircuitOf = Callable[[Shape], Circuit]


def inputs_of(statement: Statement) -> Inputs:
    """The input signals of `statement`, with nets as signed integers."""
    inputs = Inputs.of(circuit_signals(statement))
    return inputs.with_nets([net - FIELD_MODULUS * (net > FIELD_MODULUS // 2) for net in inputs.nets])
