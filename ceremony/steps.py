"""The steps of a ceremony, over files in one folder that everybody may see; docs/ceremony.md says who does which.

    <shape>.r1cs          the circuit
    powers-<n>.ptau       phase 1 (any circuit) after n contributions
    powers.ptau           phase 1, ended by a beacon and prepared for phase 2; or a public one
    <shape>-<n>.zkey      phase 2 (this circuit) after n contributions
    <shape>.zkey          the key, ended by a beacon
    <shape>.vkey.json     its verifying key
    transcript.txt        what to publish

Nothing secret is ever written: a contributor's randomness stays in the process that used it.
"""

import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from ceremony import snarkjs
from ceremony.snarkjs import StepFailed
from prover.compiling import compile_r1cs
from prover.contributions import (
    Contribution,
    FileKind,
    UnfitFile,
    contributions_of,
    require_contributions,
    require_ended,
)
from prover.keys import file_digest
from prover.r1cs import circuit_power, read_constraints
from prover.zkey import read_zkey
from settlement.shapes import SHAPES, Shape
from settlement.verifying_keys import encode_verifying_key, verifying_key_digest

BEACON_ITERATIONS_EXPONENT: Final = 10
"""2^10 hashes over the beacon."""
BEACON_NAME: Final = "beacon"
MAX_NAME_CHARS: Final = 64
"""snarkjs cuts off the rest."""
MAX_FILE_BYTES: Final = 512 * 2**20
"""Over ten times what the largest shape (280x56) needs of phase 1."""

_CURVE: Final = "bn128"
_FIRST_POWERS: Final = "powers-0.ptau"
_FINAL_POWERS: Final = "powers.ptau"
_TRANSCRIPT: Final = "transcript.txt"

_T = TypeVar("_T")
_NUMBERED: Final = re.compile(r"(?P<stem>.+)-(?P<number>\d+)\.(?P<suffix>ptau|zkey)")


def begin(shape: Shape, folder: Path, powers: Path | None) -> None:
    """Starts a ceremony for `shape` in a folder that is new or empty: with phase 1, or with phase 2 after the `.ptau` in `powers`.

    Every step raises `StepFailed` or what compiling the circuit raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise StepFailed(
            f"{folder} is not empty, and a ceremony begins in a folder of its own: name another, or remove this one if it may go"
        )
    circuit = folder / f"{shape.name}.r1cs"
    compile_r1cs(shape, circuit)
    if powers is None:
        power = circuit_power(read_constraints(circuit.read_bytes()))
        snarkjs.run("powersoftau", "new", _CURVE, str(power), folder / _FIRST_POWERS)
        return
    _made(folder / _FINAL_POWERS, lambda draft: _take_over(powers, draft))
    _begin_phase_2(folder)


def contribute(file: Path, name: str) -> tuple[Path, Contribution]:
    """Adds a contribution to a numbered `.ptau` or `.zkey`; returns the file with it, which has the next number, and what it is."""
    numbered = _NUMBERED.fullmatch(file.name)
    if numbered is None or not file.exists():
        raise StepFailed(
            f"{file} is no file to contribute to: those end with a number, like powers-0.ptau or 16x8-1.zkey"
        )
    if not name.isprintable() or not 0 < len(name) <= MAX_NAME_CHARS:
        raise StepFailed(
            f"{name!r} is no name to publish: it takes 1 to {MAX_NAME_CHARS} characters, none of them a control character"
        )
    contributed = file.with_name(f"{numbered['stem']}-{int(numbered['number']) + 1}.{numbered['suffix']}")
    if contributed.exists():
        raise StepFailed(f"{contributed} is there already: contribute to it, or move it away")
    phase = "powersoftau" if numbered["suffix"] == FileKind.PTAU else "zkey"
    before = _contributions(file)

    def contribute_to(draft: Path) -> None:
        snarkjs.run(phase, "contribute", file, draft, f"--name={name}", entropy=True)
        *others, last = _contributions(draft)
        if tuple(others) != before or last.name != name:
            raise StepFailed(f"snarkjs has not put the contribution of {name} behind those of {file}")

    _made(contributed, contribute_to)
    return contributed, _contributions(contributed)[-1]


def finish(folder: Path, beacon: str) -> Path:
    """Ends the phase that is open with a beacon (hexadecimal); returns the file with which the next begins, or the final key.

    Where it was interrupted, it goes on, with the same beacon.
    """
    shape = _shape_in(folder)
    arguments = (beacon, str(BEACON_ITERATIONS_EXPONENT), f"-n={BEACON_NAME}")
    powers = folder / _FINAL_POWERS
    if not powers.exists():
        latest = _latest(folder, "powers", FileKind.PTAU)
        _made(powers, lambda draft: _end_phase_1(latest, draft, arguments))
    elif not (folder / f"{shape.name}-0.zkey").exists() and (folder / _FIRST_POWERS).exists():
        _require_beacon(powers, beacon)
    if not (folder / f"{shape.name}-0.zkey").exists():
        return _begin_phase_2(folder)
    final, transcript = folder / f"{shape.name}.zkey", folder / _TRANSCRIPT
    if transcript.exists():
        raise StepFailed(f"{transcript} is there already: this ceremony is over")
    if final.exists():
        _require_beacon(final, beacon)
    else:
        latest = _latest(folder, shape.name, FileKind.ZKEY)
        _made(final, lambda draft: snarkjs.run("zkey", "beacon", latest, draft, *arguments))
    _made(
        folder / f"{shape.name}.vkey.json", lambda draft: snarkjs.run("zkey", "export", "verificationkey", final, draft)
    )
    _made(transcript, lambda draft: draft.write_text("\n".join(verify(folder, beacon)) + "\n"))
    return final


def verify(folder: Path, beacon: str | None = None) -> list[str]:
    """Verifies a finished ceremony from its files alone; returns its transcript. Raises `StepFailed` if anything is not as it must be.

    The circuit is compiled anew: it must be the one that this release proves. `beacon`: what must have ended phase 2. Nothing is
    written to the folder.
    """
    shape = _shape_in(folder)
    circuit, powers, key = folder / f"{shape.name}.r1cs", folder / _FINAL_POWERS, folder / f"{shape.name}.zkey"
    with tempfile.TemporaryDirectory() as ours:
        compiled = Path(ours) / circuit.name
        compile_r1cs(shape, compiled)
        if compiled.read_bytes() != circuit.read_bytes():
            raise StepFailed(f"{circuit} is not this release's circuit of shape {shape.name}")
    of_powers, of_key = _contributions(powers), _contributions(key)
    _fit(powers, lambda: require_contributions(of_powers))
    _fit(key, lambda: require_ended(of_key))
    if beacon is not None:
        _require_beacon(key, beacon)
    digest = _verifying_key_digest(folder / f"{shape.name}.vkey.json", key)
    powers_said = snarkjs.run("powersoftau", "verify", powers)
    key_said = snarkjs.run("zkey", "verify", circuit, powers, key)
    # Their exit status says it too; a name in these lines cannot, for it has no line of its own.
    for file, said, word in ((powers, powers_said, "Powers of Tau Ok!"), (key, key_said, "ZKey Ok!")):
        if word not in said:
            raise StepFailed(f"snarkjs does not call {file} good: {' / '.join(said)}")
    return [
        f"Ceremony for shape {shape.name}",
        *(f"SHA-256 of {file.name}: {file_digest(file)}" for file in (circuit, powers, key)),
        f"verifying key: {digest}",
        "Phase 1:",
        *_listed(of_powers),
        "Phase 2:",
        *_listed(of_key),
        "snarkjs on phase 1:",
        *powers_said,
        "snarkjs on phase 2:",
        *key_said,
        f"pin: python starter.py circuit import {shape.name} {key.name} --sha256 {file_digest(key)}",
    ]


def _listed(contributions: Sequence[Contribution]) -> list[str]:
    return [
        f"contribution #{number} {contribution.name}: {contribution.digest}"
        + (f" of beacon {contribution.beacon}" if contribution.beacon is not None else "")
        for number, contribution in enumerate(contributions, start=1)
    ]


def _verifying_key_digest(file: Path, key: Path) -> str:
    """The digest of the verifying key in `file`, which must be the one of `key`."""
    try:
        published = encode_verifying_key(file.read_text())
    except ValueError:
        raise StepFailed(f"{file} holds no verifying key") from None
    of_key = _fit(key, lambda: read_zkey(_content(key)).verifying_key)
    if published != of_key:
        raise StepFailed(
            f"{file} is verifying key {verifying_key_digest(published)}, but that of {key.name} is {verifying_key_digest(of_key)}"
        )
    return verifying_key_digest(published)


def _require_beacon(file: Path, beacon: str) -> None:
    contributions = _contributions(file)
    found = contributions[-1].beacon if contributions else None
    if found != beacon.lower():
        raise StepFailed(f"{file} was ended by beacon {found or 'none'}, not by {beacon.lower()}")


def _contributions(file: Path) -> tuple[Contribution, ...]:
    return _fit(file, lambda: contributions_of(_content(file), FileKind(file.suffix.removeprefix("."))))


def _content(file: Path) -> bytes:
    if file.stat().st_size > MAX_FILE_BYTES:
        raise StepFailed(f"{file} is no file of ours: it has more than {MAX_FILE_BYTES} bytes")
    return file.read_bytes()


def _fit(file: Path, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except UnfitFile as unfit:
        raise StepFailed(f"{file} {unfit}") from None


def _take_over(powers: Path, draft: Path) -> None:
    try:
        contributions = _fit(powers, lambda: contributions_of(_content(powers), FileKind.PTAU))
        _fit(powers, lambda: require_contributions(contributions))
        shutil.copyfile(powers, draft)
    except OSError as error:
        raise StepFailed(f"{powers} cannot be taken over: {error.strerror or error}") from None
    snarkjs.run("powersoftau", "verify", draft)


def _end_phase_1(latest: Path, draft: Path, beacon: Sequence[str]) -> None:
    ended = draft.with_name("ended.ptau")
    snarkjs.run("powersoftau", "beacon", latest, ended, *beacon)
    snarkjs.run("powersoftau", "prepare", "phase2", ended, draft)
    snarkjs.run("powersoftau", "verify", draft)


def _begin_phase_2(folder: Path) -> Path:
    shape = _shape_in(folder)
    first, circuit = folder / f"{shape.name}-0.zkey", folder / f"{shape.name}.r1cs"
    _made(first, lambda draft: snarkjs.run("groth16", "setup", circuit, folder / _FINAL_POWERS, draft))
    return first


def _made(file: Path, make: Callable[[Path], object]) -> None:
    """Lets `make` write a draft that becomes `file` only if it succeeds: a step that was interrupted is done again."""
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".draft-") as drafts:
        draft = Path(drafts) / file.name
        make(draft)
        draft.replace(file)


def _shape_in(folder: Path) -> Shape:
    found = [shape for shape in SHAPES if (folder / f"{shape.name}.r1cs").exists()]
    if not found:
        raise StepFailed(
            f"{folder} holds no ceremony, for it has no circuit (<shape>.r1cs): `python -m ceremony begin SHAPE FOLDER` starts one"
        )
    if len(found) > 1:
        raise StepFailed(
            f"{folder} holds the circuits of {', '.join(shape.name for shape in found)}, and a ceremony is for one: move the others away"
        )
    return found[0]


def _latest(folder: Path, stem: str, kind: FileKind) -> Path:
    """The file with the highest number, if it holds enough contributions, and as many as its number says."""
    number = 0
    while (folder / f"{stem}-{number + 1}.{kind}").exists():
        number += 1
    latest = folder / f"{stem}-{number}.{kind}"
    contributions = _contributions(latest)
    try:
        require_contributions(contributions)
    except UnfitFile as unfit:
        raise StepFailed(f"{latest} {unfit}: `python -m ceremony contribute FILE --name NAME`") from None
    if len(contributions) != number:
        raise StepFailed(f"{latest} holds {len(contributions)} contributions, not the {number} of its name")
    return latest
