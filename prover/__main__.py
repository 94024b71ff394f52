"""Makes the development keys of every shape in use: `python -m prover KEYS_DIR`."""

import sys
from pathlib import Path

from prover.keys import UNSAFE, KeyStage, load_verifying_key, make_development_keys
from settlement.errors import ProvingKeyMissing
from settlement.shapes import SHAPES, Shape

USAGE_STATUS = 2


def _tell(shape: Shape, stage: KeyStage) -> None:
    print(f"{shape.name}: {stage}", flush=True)


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    if len(arguments) != 1:
        print("usage: python -m prover KEYS_DIR", file=sys.stderr)
        return USAGE_STATUS
    keys_dir = Path(arguments[0])
    print(f"keys for {UNSAFE}")
    try:
        make_development_keys(keys_dir, SHAPES, _tell)
        for shape in SHAPES:
            print(f"{shape.name}: verifying key {load_verifying_key(keys_dir, shape).sha256}")
    except ProvingKeyMissing as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
