"""Compiles one circuit and makes its Groth16 keys, in a process of its own: `setup_process.py MAIN PKEY VKEY INCLUDE_DIR…`.

The compiler writes to standard output and the set-up holds the interpreter's lock for seconds; neither may happen inside a
worker. Single-party set-up: whoever ran it can forge proofs, so these keys must never guard funds.
"""

import sys
from pathlib import Path

import groth16py


def main(main_path: str, proving_key_path: str, verifying_key_path: str, *include_dirs: str) -> None:
    """Writes the proving key (groth16py's format) and the verifying key (snarkjs JSON) of the circuit at `main_path`."""
    proving_key, verifying_key = groth16py.setup_circom(main_path, list(include_dirs))
    proving_key.save(proving_key_path)
    Path(verifying_key_path).write_text(verifying_key.to_json())


if __name__ == "__main__":
    main(*sys.argv[1:])
