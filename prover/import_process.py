"""Turns a ceremony's `.zkey` into key files and tries them: `import_process.py ZKEY MAIN PKEY VKEY INCLUDE_DIR…`, trials on stdin.

In a process of its own for the reasons of `setup_process.py`, and because groth16py may panic over points that are none. The
trials are JSON: of each an `honest` and a `false` statement, with their `signals` and `public_input`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import groth16py


def main(zkey_path: str, main_path: str, proving_key_path: str, verifying_key_path: str, *include_dirs: str) -> None:
    """Writes the proving key (groth16py's format, with the circuit's witness code) and the verifying key (snarkjs JSON)."""
    trials = json.load(sys.stdin)
    imported, verifying_key = groth16py.import_zkey(zkey_path, main_path, list(include_dirs))
    imported.save(proving_key_path)
    Path(verifying_key_path).write_text(verifying_key.to_json())
    # As a worker will read them.
    proving_key = groth16py.ProvingKey.load(proving_key_path)
    verifier = groth16py.Verifier(groth16py.VerifyingKey.from_snarkjs(Path(verifying_key_path).read_text()))
    for trial in trials:
        honest = groth16py.prove(proving_key, trial["honest"]["signals"])
        if not verifier.verify(honest, [trial["honest"]["public_input"]]):
            sys.exit("a proof of a true statement does not verify under it")
        if verifier.verify(honest, [trial["false"]["public_input"]]) or _proves(proving_key, verifier, trial["false"]):
            sys.exit("a proof of a false statement verifies under it")


def _proves(proving_key: groth16py.ProvingKey, verifier: groth16py.Verifier, statement: dict[str, Any]) -> bool:
    try:
        proof = groth16py.prove(proving_key, statement["signals"])
    except groth16py.WitnessError:
        return False
    return verifier.verify(proof, [statement["public_input"]])


if __name__ == "__main__":
    main(*sys.argv[1:])
