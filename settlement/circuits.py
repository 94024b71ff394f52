"""Circuit keys as the domain sees them: which one a prover holds, which one the chain has, and whether the first may be used.

A proof under any other key than the registered one is refused by the program; a proof under a development key can be forged by
whoever made the key. Both are found out here, before the first batch.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict

from settlement.errors import KeyRefused
from settlement.shapes import SHAPES, Shape

ACCEPT_FORGEABLE_KEYS: Final = "CROUPIER_ACCEPT_FORGEABLE_DEVELOPMENT_KEYS=true"
"""The setting by which an operator takes the risk upon himself."""


FOREIGN_CIRCUIT: Final = "NOT one of this release's: whoever made its key can settle anything"
"""Said wherever a circuit is shown that belongs to none of the shapes."""


class KeyOrigin(StrEnum):
    """Who could forge proofs: whoever made a development key, or ran a rehearsal of the ceremony; of a ceremony's key, only all
    contributors to one of its phases together. What is later here counts for more.
    """

    DEVELOPMENT = "development"
    REHEARSAL = "rehearsal"
    CEREMONY = "ceremony"

    @property
    def remark(self) -> str:
        """For people, wherever a key is shown."""
        return f"{self.value}: unsafe for funds" if self.is_forgeable else self.value

    @property
    def is_forgeable(self) -> bool:
        """Whether a single party could have kept what it takes to forge proofs."""
        return self is not KeyOrigin.CEREMONY


class CircuitKey(BaseModel):
    """A shape's key as a prover holds it.

    `sha256`: of the verifying key's bytes as they stand on chain; it names the key. `zkey_sha256`: of the ceremony's file.
    """

    model_config = ConfigDict(frozen=True)

    shape: Shape
    origin: KeyOrigin
    sha256: str
    zkey_sha256: str | None = None


class RegisteredCircuit(BaseModel):
    """A circuit on chain. `sha256`: of its verifying key's bytes."""

    model_config = ConfigDict(frozen=True)

    circuit_id: int
    bets: int
    players: int
    sha256: str

    def holds(self, key: CircuitKey) -> bool:
        """Whether proofs under `key` are proofs for this circuit."""
        expected = (key.shape.circuit_id, key.shape.bets, key.shape.players, key.sha256)
        return (self.circuit_id, self.bets, self.players, self.sha256) == expected

    @property
    def is_foreign(self) -> bool:
        """Whether it is none of this release's: whoever made its key may know how to prove anything by it."""
        known = {(shape.circuit_id, shape.bets, shape.players) for shape in SHAPES}
        return (self.circuit_id, self.bets, self.players) not in known


class RegisteredCircuits(BaseModel):
    """The circuits of one program. `place`: program and ledger, for people; `local`: whether it is Croupier's local ledger."""

    model_config = ConfigDict(frozen=True)

    place: str
    local: bool
    circuits: tuple[RegisteredCircuit, ...]

    def of(self, shape: Shape) -> RegisteredCircuit | None:
        """What is registered under the shape's number."""
        return next((circuit for circuit in self.circuits if circuit.circuit_id == shape.circuit_id), None)


def require_registered(key: CircuitKey, registered: RegisteredCircuits) -> None:
    """Raises `KeyRefused`, naming both digests, unless the chain has this key for its shape."""
    found = registered.of(key.shape)
    if found is None:
        raise KeyRefused(
            f"circuit {key.shape.circuit_id} ({key.shape.name}) is not registered with {registered.place}, and the proving key"
            f" here belongs to verifying key {key.sha256}: run `python starter.py circuit register {key.shape.name}`"
        )
    if not found.holds(key):
        raise KeyRefused(
            f"the proving key of shape {key.shape.name} belongs to verifying key {key.sha256}, but {registered.place} has"
            f" {found.sha256} as circuit {found.circuit_id} ({found.bets}x{found.players}): use the key files that belong to it"
            " (CROUPIER_CIRCUIT_KEYS)"
        )


def require_unforgeable(keys: Iterable[CircuitKey], *, place: str, local: bool, accept_forgeable: bool) -> None:
    """Raises `KeyRefused` if a forgeable key is to guard what is worth something, unless an operator accepts that."""
    if local or accept_forgeable:
        return
    forgeable = [key.shape.name for key in keys if key.origin.is_forgeable]
    if forgeable:
        raise forgeable_refused(forgeable, place)


def forgeable_refused(shapes: Iterable[str], place: str) -> KeyRefused:
    """Says what forgeable keys are, and the ways out."""
    names = list(shapes)
    return KeyRefused(
        f"{place} is not a local ledger, and the circuit keys of {', '.join(names)} are for development or from a"
        f" rehearsal: whoever made them can forge proofs. Import a ceremony's (`python starter.py circuit import {names[0]} FILE"
        f" --sha256 HEX`), or set {ACCEPT_FORGEABLE_KEYS} where nothing is at stake"
    )
