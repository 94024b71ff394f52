"""Takes over a ceremony's key: only the file that was pinned by its SHA-256, only for our circuit, and only if it proves.

It must never leave a half-written key that counts, nor replace a key that is there without being told to.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from prover.child import run_program
from prover.circuit import include_dirs, main_source
from prover.compiling import compile_r1cs
from prover.inputs import circuit_signals
from prover.keys import check_keys, key_files, load_verifying_key, origin_in
from prover.storing import drafts_in, put, remove, turn
from prover.zkey import UnfitZkey, read_zkey, require_fit
from settlement import commitment
from settlement.batches import PlayerSlot, Statement
from settlement.circuits import CircuitKey, KeyOrigin
from settlement.commitment import Entry, Slot
from settlement.errors import KeyRefused, ProvingKeyMissing
from settlement.shapes import Shape

MAX_ZKEY_BYTES: Final = 512 * 2**20
"""Over ten times the largest shape's (256x32)."""
IMPORT_TIMEOUT_SECONDS: Final = 600.0
"""Over ten times what the largest shape (256x32) takes on two busy cores."""
_TRIAL_STAKE_LAMPORTS: Final = 1_000
_ANYBODY: Final = "1" * 32
"""Who plays is not in the proof."""


def import_ceremony_key(keys_dir: Path, shape: Shape, file: Path, sha256: str, *, replace: bool = False) -> CircuitKey:
    """Makes the key of `shape` out of the ceremony's `.zkey` in `file`, whose SHA-256 must be `sha256`. Blocks for seconds.

    `replace`: put it in the place of whatever key there is. Importing the same file again only mends what is damaged. Raises
    `KeyRefused` with what is wrong, or `ProvingKeyMissing` if keys cannot be kept or the circuit does not compile.
    """
    content = _pinned(file, sha256)
    with turn(keys_dir):
        present = origin_in(keys_dir, shape)
        if not replace and present is not None and _zkey_of(keys_dir, shape) != sha256:
            raise KeyRefused(
                f"shape {shape.name} has a key already ({key_files(keys_dir, shape, present).note}), and with another one nothing"
                " that the chain has registered for it can be proven any more: say --replace if that is meant"
            )
        with drafts_in(keys_dir) as drafts:
            r1cs, zkey, main = (drafts / name for name in ("circuit.r1cs", "ceremony.zkey", "main.circom"))
            proving_key, verifying_key = drafts / "proving_key", drafts / "verifying_key"
            compile_r1cs(shape, r1cs)
            try:
                require_fit(read_zkey(content), r1cs.read_bytes())
            except UnfitZkey as unfit:
                raise KeyRefused(f"{file} {unfit} (shape {shape.name})") from None
            # What was checked is what is imported, whatever becomes of the file.
            zkey.write_bytes(content)
            main.write_text(main_source(shape))
            said = run_program(
                "import_process.py",
                *(zkey, main, proving_key, verifying_key, *include_dirs()),
                seconds=IMPORT_TIMEOUT_SECONDS,
                stdin=json.dumps(_trial(shape)),
            )
            if said is not None:
                raise KeyRefused(f"{file} is no usable key for shape {shape.name}: {said}")
            put(
                keys_dir,
                shape,
                KeyOrigin.CEREMONY,
                proving_key=proving_key,
                verifying_key=verifying_key,
                zkey_sha256=sha256,
            )
        remove(keys_dir, shape, KeyOrigin.DEVELOPMENT)
    return check_keys(keys_dir, shape)


def _pinned(file: Path, sha256: str) -> bytes:
    try:
        if file.stat().st_size > MAX_ZKEY_BYTES:
            raise KeyRefused(f"{file} is no key of ours: it has more than {MAX_ZKEY_BYTES} bytes")
        content = file.read_bytes()
    except OSError as error:
        raise KeyRefused(f"{file} cannot be read: {error.strerror}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise KeyRefused(f"{file} has SHA-256 {found}, not {sha256} as pinned: it is not the ceremony's file")
    return content


def _zkey_of(keys_dir: Path, shape: Shape) -> str | None:
    """The file that the shape's key was imported from; None if it was not, or cannot be told."""
    try:
        return load_verifying_key(keys_dir, shape).zkey_sha256
    except ProvingKeyMissing:
        return None


def _trial(shape: Shape) -> dict[str, Any]:
    """A full batch; and the same with a lamport more for the first player, and the public input that claims so."""
    return {"honest": _claim(shape, 0), "false": _claim(shape, 1)}


def _claim(shape: Shape, stolen_lamports: int) -> dict[str, Any]:
    entries = tuple(
        Entry(stake=_TRIAL_STAKE_LAMPORTS + at, guess=at & 1, outcome=at >> 1 & 1, slot=at % shape.players)
        for at in range(shape.bets)
    )
    nets = [stolen_lamports, *[0] * (shape.players - 1)]
    for entry in entries:
        nets[entry.slot] += entry.stake if entry.guess == entry.outcome else -entry.stake
    slots = [Slot(vault_index=at + 1, net=net) for at, net in enumerate(nets)]
    digest = commitment.ids_digest([bytes([at % 256]) * 32 for at in range(shape.bets)])
    root = commitment.bets_root(entries, digest, shape)
    public_input = commitment.public_input(commitment.identity(0, 1, shape.bets), root, slots, shape)
    statement = Statement(
        lane=0,
        number=1,
        shape=shape,
        entries=entries,
        slots=tuple(PlayerSlot(player=_ANYBODY, vault_index=slot.vault_index, net=slot.net) for slot in slots),
        ids_digest=digest,
        bets_root=root,
        public_input=public_input,
    )
    return {"signals": circuit_signals(statement), "public_input": public_input}
