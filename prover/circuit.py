"""The circuit's source as it is compiled for one shape, and the hash that ties a key to it. Compiles nothing itself."""

import hashlib
from pathlib import Path
from typing import Final

import groth16py

from settlement.shapes import Shape

CIRCUITS_DIR: Final = Path(__file__).parent / "circuits"
CIRCUIT_HASH_HEX_CHARS: Final = 16
"""Enough of a SHA-256 to tell circuits apart by accident; a key's own digest guards its content."""


def main_source(shape: Shape) -> str:
    """The circom file whose `main` is the circuit for `shape`; its one public signal is `publicInput`."""
    return (
        "pragma circom 2.1.0;\n\n"
        'include "settlement.circom";\n\n'
        f"component main = Settlement({shape.bets}, {shape.players});\n"
    )


def include_dirs() -> list[Path]:
    """Where circom finds what `main_source` includes: this package's circuit, and the circomlib that groth16py carries."""
    return [CIRCUITS_DIR, Path(groth16py.circomlib_path(2))]


def circuit_hash(shape: Shape) -> str:
    """Names everything a key depends on: the circuit, the shape, and the version of groth16py (its compiler and circomlib)."""
    digest = hashlib.sha256()
    for part in (main_source(shape), (CIRCUITS_DIR / "settlement.circom").read_text(), groth16py.__version__):
        digest.update(hashlib.sha256(part.encode()).digest())
    return digest.hexdigest()[:CIRCUIT_HASH_HEX_CHARS]
