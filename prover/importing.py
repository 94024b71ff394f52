"""Takes over a ceremony's key: only the file that was pinned by its SHA-256, only for our circuit, and only if it proves.

It must never leave a half-written key that counts, nor replace a key that is there without being told to.
"""

import hashlib
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any, Final

from prover.child import run_program
from prover.compiling import compile_r1cs
from prover.contributions import REHEARSAL_BEACON, UnfitFile
from prover.inputs import circuit_signals, values_of
from prover.keys import check_keys, key_files, origin_in
from prover.programs import witness_program
from prover.r1cs import read_constraints
from prover.storing import drafts_in, put, remove, turn
from prover.witness import WitnessProgram, as_wtns
from prover.zkey import Zkey, read_zkey, require_fit
from settlement import commitment
from settlement.batches import PlayerSlot, Statement
from settlement.circuits import CircuitKey, KeyOrigin
from settlement.commitment import Entry, Slot
from settlement.errors import KeyRefused
from settlement.limits import MAX_BATCH_NUMBER, MAX_BATCH_STAKES_LAMPORTS, MAX_LANE
from settlement.shapes import Shape
from settlement.verifying_keys import encode_verifying_key, verifying_key_digest

MAX_ZKEY_BYTES: Final = 512 * 2**20
"""Over ten times the largest shape's (280x56)."""
IMPORT_TIMEOUT_SECONDS: Final = 600.0
"""Over ten times what the largest shape (280x56) takes on two busy cores."""
TRIALS: Final = 3
"""True statements that must be proven, each a random one: a key that was weakened for some would have to be lucky."""
_ANYBODY: Final = "1" * 32
"""Who plays is not in the proof."""


def import_ceremony_key(keys_dir: Path, shape: Shape, file: Path, sha256: str, *, replace: bool = False) -> CircuitKey:
    """Makes the key of `shape` out of the ceremony's `.zkey` in `file`, whose SHA-256 must be `sha256`. Blocks for seconds.

    `replace`: put it in the place of whatever key there is. Importing the same file again only mends what is damaged. What the
    public beacon of rehearsals has ended is a rehearsal's, whoever says what: that only guards against mistakes. Raises
    `KeyRefused` with what is wrong, or `ProvingKeyMissing` if keys cannot be kept or the circuit does not compile.
    """
    content = _pinned(file, sha256)
    try:
        zkey = read_zkey(content)
    except UnfitFile as unfit:
        raise KeyRefused(f"{file} {unfit} (shape {shape.name})") from None
    rehearsed = bool(zkey.contributions) and zkey.contributions[-1].beacon == REHEARSAL_BEACON
    origin = KeyOrigin.REHEARSAL if rehearsed else KeyOrigin.CEREMONY
    with turn(keys_dir):
        present = origin_in(keys_dir, shape)
        if not replace and present is not None and not _is_of(keys_dir, shape, present, zkey, sha256):
            raise KeyRefused(
                f"shape {shape.name} has a key already ({key_files(keys_dir, shape, present).note}), and with another one nothing"
                " that the chain has registered for it can be proven any more: say --replace if that is meant"
            )
        with drafts_in(keys_dir) as drafts:
            names = ("circuit.r1cs", "proving_key", "copy", "verifying_key", "witness_program")
            r1cs, proving_key, copy, verifying_key, kept_program = (drafts / name for name in names)
            compile_r1cs(shape, r1cs)
            circuit = r1cs.read_bytes()
            try:
                require_fit(zkey, read_constraints(circuit))
            except UnfitFile as unfit:
                raise KeyRefused(f"{file} {unfit} (shape {shape.name})") from None
            program = witness_program(circuit)
            kept_program.write_bytes(program)
            # What was checked is what is imported, whatever becomes of the file.
            proving_key.write_bytes(content)
            said = run_program(
                "trying_process.py",
                *(proving_key, copy, verifying_key),
                seconds=IMPORT_TIMEOUT_SECONDS,
                stdin=json.dumps(_trials(shape, WitnessProgram(program), drafts)),
            )
            if said is not None:
                raise KeyRefused(f"{file} is no usable key for shape {shape.name}: {said}")
            if verifying_key_digest(encode_verifying_key(verifying_key.read_text())) != _digest(zkey):
                raise KeyRefused(
                    f"{file} is no usable key for shape {shape.name}: its verifying key was not taken over"
                )
            put(
                keys_dir,
                shape,
                origin,
                proving_key=proving_key,
                verifying_key=verifying_key,
                witness_program=kept_program,
                r1cs_sha256=hashlib.sha256(circuit).hexdigest(),
            )
        for other in set(KeyOrigin) - {origin}:
            remove(keys_dir, shape, other)
    return check_keys(keys_dir, shape)


def _pinned(file: Path, sha256: str) -> bytes:
    try:
        # Who opens a FIFO waits for a writer, unless told not to.
        with open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise KeyRefused(f"{file} is no file that holds a key: name the ceremony's .zkey")
            content = opened.read(MAX_ZKEY_BYTES + 1)
    except OSError as error:
        raise KeyRefused(f"{file} cannot be read: {error.strerror}") from None
    if len(content) > MAX_ZKEY_BYTES:
        raise KeyRefused(f"{file} is no key of ours: it has more than {MAX_ZKEY_BYTES} bytes")
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise KeyRefused(f"{file} has SHA-256 {found}, not {sha256} as pinned: it is not the ceremony's file")
    return content


def _digest(zkey: Zkey) -> str:
    return verifying_key_digest(zkey.verifying_key)


def _is_of(keys_dir: Path, shape: Shape, present: KeyOrigin, zkey: Zkey, sha256: str) -> bool:
    """Whether the key that is there was made from `zkey`: by its note, however damaged the rest is; without one by its verifying key."""
    files = key_files(keys_dir, shape, present)
    try:
        return json.loads(files.note.read_bytes())["proving_key_sha256"] == sha256
    except (OSError, ValueError, LookupError, TypeError):
        pass
    try:
        return verifying_key_digest(encode_verifying_key(files.verifying_key.read_text())) == _digest(zkey)
    except (OSError, ValueError):
        return False


def _trials(shape: Shape, program: WitnessProgram, folder: Path) -> list[dict[str, Any]]:
    """Full batches, each honest and with a lamport more for the first player, and the public inputs that claim so.

    Their witnesses are written to `folder`.
    """
    trials: list[dict[str, Any]] = []
    for number in range(TRIALS):
        entries = random_entries(shape)
        batch = secrets.randbelow(MAX_LANE + 1), 1 + secrets.randbelow(MAX_BATCH_NUMBER)
        ids = [secrets.token_bytes(32) for _ in entries]
        vaults = sorted(secrets.SystemRandom().sample(range(1, 2**commitment.VAULT_INDEX_BITS), shape.players))
        claims: dict[str, Any] = {}
        for name, stolen in (("honest", 0), ("false", 1)):
            statement = _claim(shape, batch, entries, ids, vaults, stolen_lamports=stolen)
            witness = folder / f"{number}-{name}.wtns"
            witness.write_bytes(as_wtns(program.witness(values_of(circuit_signals(statement)))))
            claims[name] = {"witness": str(witness), "public_input": statement.public_input}
        trials.append(claims)
    return trials


def random_entries(shape: Shape) -> tuple[Entry, ...]:
    """Stakes over the whole range, so that every bit of theirs is tried, won and lost so that each net and the house's stay in theirs."""
    nets = [0] * shape.players
    entries: list[Entry] = []
    for _ in range(shape.bets):
        stake, guess, together = secrets.randbits(commitment.STAKE_BITS), secrets.randbits(1), sum(nets)
        wins = together < 0 or (together == 0 and secrets.randbits(1) == 1)
        delta = stake if wins else -stake
        # There is one: if the players have lost together, one of them has.
        slot = secrets.choice([at for at, net in enumerate(nets) if abs(net + delta) <= MAX_BATCH_STAKES_LAMPORTS])
        nets[slot] += delta
        entries.append(Entry(stake=stake, guess=guess, outcome=guess if wins else 1 - guess, slot=slot))
    return tuple(entries)


def _claim(
    shape: Shape,
    batch: tuple[int, int],
    entries: tuple[Entry, ...],
    ids: list[bytes],
    vaults: list[int],
    *,
    stolen_lamports: int,
) -> Statement:
    lane, number = batch
    nets = [stolen_lamports, *[0] * (shape.players - 1)]
    for entry in entries:
        nets[entry.slot] += entry.stake if entry.guess == entry.outcome else -entry.stake
    slots = [Slot(vault_index=vault, net=net) for vault, net in zip(vaults, nets, strict=True)]
    digest = commitment.ids_digest(ids)
    root = commitment.bets_root(entries, digest, shape)
    public_input = commitment.public_input(commitment.identity(lane, number, shape.bets), root, slots, shape)
    return Statement(
        lane=lane,
        number=number,
        shape=shape,
        entries=entries,
        slots=tuple(PlayerSlot(player=_ANYBODY, vault_index=slot.vault_index, net=slot.net) for slot in slots),
        ids_digest=digest,
        bets_root=root,
        public_input=public_input,
    )
