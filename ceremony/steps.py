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
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ceremony import snarkjs
from ceremony.snarkjs import StepFailed
from prover.compiling import compile_r1cs
from prover.keys import file_digest
from prover.zkey import circuit_power
from settlement.shapes import SHAPES, Shape
from settlement.verifying_keys import encode_verifying_key, verifying_key_digest

MIN_CONTRIBUTIONS: Final = 2
"""To each phase. One honest contributor is enough; with two, neither needs to trust the other."""
BEACON_ITERATIONS_EXPONENT: Final = 10
"""2^10 hashes over the beacon."""
BEACON_NAME: Final = "beacon"

_CURVE: Final = "bn128"
_FINAL_POWERS: Final = "powers.ptau"
_ENDED_POWERS: Final = ".powers-ended.ptau"
_TRANSCRIPT: Final = "transcript.txt"

_NUMBERED: Final = re.compile(r"(?P<stem>.+)-(?P<number>\d+)\.(?P<suffix>ptau|zkey)")


def begin(shape: Shape, folder: Path, powers: Path | None) -> None:
    """Starts a ceremony for `shape` in a folder that is new or empty: with phase 1, or with phase 2 after the `.ptau` in `powers`.

    Every step raises `StepFailed` or what compiling the circuit raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise StepFailed(f"{folder} is not empty: a ceremony begins in a folder of its own")
    circuit = folder / f"{shape.name}.r1cs"
    compile_r1cs(shape, circuit)
    if powers is None:
        power = circuit_power(circuit.read_bytes())
        snarkjs.run("powersoftau", "new", _CURVE, str(power), folder / "powers-0.ptau")
        return
    _made(folder / _FINAL_POWERS, lambda draft: _take_over(powers, draft))
    _begin_phase_2(folder)


def contribute(file: Path, name: str) -> Path:
    """Adds a contribution to a numbered `.ptau` or `.zkey`; returns the file with it, which has the next number."""
    numbered = _NUMBERED.fullmatch(file.name)
    if numbered is None or not file.exists():
        raise StepFailed(
            f"{file} is no file to contribute to: those end with a number, like powers-0.ptau or 16x8-1.zkey"
        )
    contributed = file.with_name(f"{numbered['stem']}-{int(numbered['number']) + 1}.{numbered['suffix']}")
    if contributed.exists():
        raise StepFailed(f"{contributed} is there already: contribute to it, or move it away")
    phase = "powersoftau" if numbered["suffix"] == "ptau" else "zkey"
    _made(contributed, lambda draft: snarkjs.run(phase, "contribute", file, draft, f"--name={name}", entropy=True))
    return contributed


def finish(folder: Path, beacon: str) -> Path:
    """Ends the phase that is open with a beacon (hexadecimal); returns the file with which the next begins, or the final key.

    Where it was interrupted, it goes on.
    """
    shape = _shape_in(folder)
    arguments = (beacon, str(BEACON_ITERATIONS_EXPONENT), f"-n={BEACON_NAME}")
    if not (folder / _FINAL_POWERS).exists():
        latest, ended = _latest(folder, "powers", "ptau"), folder / _ENDED_POWERS
        snarkjs.run("powersoftau", "beacon", latest, ended, *arguments)
        _made(folder / _FINAL_POWERS, lambda draft: _prepare(ended, draft))
        ended.unlink()
    if not (folder / f"{shape.name}-0.zkey").exists():
        return _begin_phase_2(folder)
    final, transcript = folder / f"{shape.name}.zkey", folder / _TRANSCRIPT
    if transcript.exists():
        raise StepFailed(f"{transcript} is there already: this ceremony is over")
    if not final.exists():
        latest = _latest(folder, shape.name, "zkey")
        _made(final, lambda draft: snarkjs.run("zkey", "beacon", latest, draft, *arguments))
    _made(
        folder / f"{shape.name}.vkey.json", lambda draft: snarkjs.run("zkey", "export", "verificationkey", final, draft)
    )
    _made(transcript, lambda draft: draft.write_text("\n".join(verify(folder)) + "\n"))
    return final


def verify(folder: Path) -> list[str]:
    """Verifies a finished ceremony from its files alone; returns its transcript. Raises `StepFailed` if anything is not as it must be.

    The circuit is compiled anew: it must be the one that this release proves.
    """
    shape = _shape_in(folder)
    circuit, key = folder / f"{shape.name}.r1cs", folder / f"{shape.name}.zkey"
    ours = folder / f".{shape.name}-ours.r1cs"
    compile_r1cs(shape, ours)
    same = ours.read_bytes() == circuit.read_bytes()
    ours.unlink()
    if not same:
        raise StepFailed(f"{circuit} is not this release's circuit of shape {shape.name}")
    powers_said = snarkjs.run("powersoftau", "verify", folder / _FINAL_POWERS)
    key_said = snarkjs.run("zkey", "verify", circuit, folder / _FINAL_POWERS, key)
    if not any("ZKey Ok!" in line for line in key_said):
        raise StepFailed(f"snarkjs does not call {key} good: {' / '.join(key_said)}")
    contributions = sum(line.startswith("contribution #") for line in key_said) - 1
    if contributions < MIN_CONTRIBUTIONS:
        raise StepFailed(f"{key} has {contributions} contributions and a beacon, it needs {MIN_CONTRIBUTIONS}")
    verifying_key = folder / f"{shape.name}.vkey.json"
    return [
        f"Ceremony for shape {shape.name}: {contributions} contributions to phase 2",
        *(f"SHA-256 of {file.name}: {file_digest(file)}" for file in (circuit, folder / _FINAL_POWERS, key)),
        f"verifying key: {verifying_key_digest(encode_verifying_key(verifying_key.read_text()))}",
        "Phase 1:",
        *powers_said,
        "Phase 2:",
        *key_said,
        f"pin: python starter.py circuit import {shape.name} {key.name} --sha256 {file_digest(key)}",
    ]


def _take_over(powers: Path, draft: Path) -> None:
    try:
        shutil.copyfile(powers, draft)
    except OSError as error:
        raise StepFailed(f"{powers} cannot be taken over: {error.strerror}") from None
    snarkjs.run("powersoftau", "verify", draft)


def _prepare(ended: Path, draft: Path) -> None:
    snarkjs.run("powersoftau", "prepare", "phase2", ended, draft)
    snarkjs.run("powersoftau", "verify", draft)


def _begin_phase_2(folder: Path) -> Path:
    shape = _shape_in(folder)
    first, circuit = folder / f"{shape.name}-0.zkey", folder / f"{shape.name}.r1cs"
    _made(first, lambda draft: snarkjs.run("groth16", "setup", circuit, folder / _FINAL_POWERS, draft))
    return first


def _made(file: Path, make: Callable[[Path], object]) -> None:
    """Lets `make` write a draft that becomes `file` only if it succeeds: a step that was interrupted is done again."""
    draft = file.with_name(f".draft-{file.name}")
    try:
        make(draft)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _shape_in(folder: Path) -> Shape:
    found = [shape for shape in SHAPES if (folder / f"{shape.name}.r1cs").exists()]
    if len(found) != 1:
        raise StepFailed(f"{folder} holds no ceremony: `python -m ceremony begin SHAPE FOLDER` starts one")
    return found[0]


def _latest(folder: Path, stem: str, suffix: str) -> Path:
    """The file with the most contributions."""
    number = 0
    while (folder / f"{stem}-{number + 1}.{suffix}").exists():
        number += 1
    if number < MIN_CONTRIBUTIONS:
        raise StepFailed(
            f"{folder / f'{stem}-{number}.{suffix}'} has {number} of {MIN_CONTRIBUTIONS} contributions:"
            " `python -m ceremony contribute FILE --name NAME`"
        )
    return folder / f"{stem}-{number}.{suffix}"
