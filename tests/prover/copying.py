"""Puts keys that are there somewhere else, or under another name, as an import does."""

import json
import shutil
import tempfile
from pathlib import Path

from prover.keys import key_files
from prover.storing import put
from settlement.circuits import KeyOrigin
from settlement.shapes import Shape


def put_copy(
    keys_dir: Path,
    shape: Shape,
    *,
    of: Path,
    of_shape: Shape | None = None,
    origin: KeyOrigin = KeyOrigin.DEVELOPMENT,
    verifying_key: str | None = None,
) -> None:
    """The development key of `of_shape` (by default `shape`) in `of` becomes that of `shape` in `keys_dir`.

    `verifying_key`: JSON to put there instead.
    """
    files = key_files(of, of_shape or shape)
    keys_dir.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=keys_dir) as folder:
        copies = {
            name: Path(shutil.copy(getattr(files, name), Path(folder) / name))
            for name in ("proving_key", "verifying_key", "witness_program")
        }
        if verifying_key is not None:
            copies["verifying_key"].write_text(verifying_key)
        put(keys_dir, shape, origin, **copies, r1cs_sha256=json.loads(files.note.read_text())["r1cs_sha256"])
