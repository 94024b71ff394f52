"""Tries a key: `trying_process.py ZKEY COPY VKEY`, with what must and must not be proven as JSON on standard input.

The JSON is a list of trials, each with an `honest` and a `false` claim: the path of a `witness` and the `public_input`. In a process
of its own, for groth16py panics over points that are none.
"""

import json
import sys
from pathlib import Path

import groth16py


def main(zkey_path: str, copy_path: str, verifying_key_path: str) -> None:
    """Writes the verifying key (snarkjs JSON). What is wrong with the key is the last line on standard error."""
    trials = json.load(sys.stdin)
    proving_key, verifying_key = groth16py.import_zkey(zkey_path)
    # The import takes points as they are. What groth16py loads in its own format it checks, every point of it.
    proving_key.save(copy_path)
    groth16py.ProvingKey.load(copy_path)
    text = verifying_key.to_json()
    Path(verifying_key_path).write_text(text)
    # As a worker will read it.
    verifier = groth16py.Verifier(groth16py.VerifyingKey.from_snarkjs(text))
    for trial in trials:
        honest, false = (
            (groth16py.prove_wtns(proving_key, claim["witness"]), [claim["public_input"]])
            for claim in (trial["honest"], trial["false"])
        )
        if not verifier.verify(*honest):
            sys.exit("a proof of a true statement does not verify under it")
        if verifier.verify(honest[0], false[1]) or verifier.verify(*false):
            sys.exit("a proof of a false statement verifies under it")


if __name__ == "__main__":
    main(*sys.argv[1:])
