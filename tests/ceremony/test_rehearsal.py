"""A whole ceremony with two contributors for the smallest shape, and what becomes of its key: these tests take minutes, and run last."""

import json
import re
import shutil
import sys
from pathlib import Path

import groth16py
import pytest

from ceremony import snarkjs, steps
from prover.contributions import REHEARSAL_BEACON
from prover.groth16 import Groth16Prover
from prover.importing import import_ceremony_key
from prover.keys import check_keys, file_digest, key_files, load_keys, load_verifying_key
from prover.making import KeyStage, make_development_keys
from prover.panics import Panicked, panics_as_errors
from prover.zkey import read_zkey
from settlement.batches import Proof, Statement, statement_for
from settlement.bets import Bet
from settlement.circuits import KeyOrigin, require_unforgeable
from settlement.errors import KeyRefused, ProvingKeyMissing
from settlement.poseidon import FIELD_MODULUS
from settlement.shapes import SHAPES
from tests.ceremony.background import ROOT, SHAPE
from tests.e2e.machine import run

pytestmark = pytest.mark.slow

SMALL, LARGER = SHAPES[:2]
PLAYERS = ("1" * 32, "1" * 31 + "2")
ZKEY = f"{SHAPE}.zkey"
POINTS_OFFSET_FROM_END = 40_000
"""In the last points of the key, far from what the file says of itself."""
POINTS_OF_H = 9
"""A section of a .zkey; every proof uses all of its points."""
G1_BYTES = 64


@pytest.fixture(scope="module")
def keys(rehearsed: Path) -> Path:
    return rehearsed / "keys"


def a_statement() -> Statement:
    bets = [
        Bet(bet_id=f"bet-{at}", player=PLAYERS[at % 2], stake=1_000 + at, guess="heads", outcome=outcome)
        for at, outcome in enumerate(("heads", "tails", "tails"))
    ]
    return statement_for(0, 1, bets, {PLAYERS[0]: 1, PLAYERS[1]: 2})


@pytest.fixture(scope="module")
async def proof(keys: Path) -> Proof:
    prover = Groth16Prover(keys, [SMALL])
    try:
        await prover.load()
        return await prover.prove(a_statement())
    finally:
        prover.close()


def test_the_transcript_names_contributors_files_and_the_digest_to_pin(rehearsed: Path, keys: Path) -> None:
    transcript = (rehearsed / "transcript.txt").read_text()
    of_phase_1, of_phase_2 = transcript.partition("Phase 1:")[2].partition("snarkjs on phase 1:")[0].split("Phase 2:")
    for said in (of_phase_1, of_phase_2):
        for number, name in enumerate(("first contributor", "second contributor", "beacon"), start=1):
            assert re.search(rf"^contribution #{number} {name}: [0-9a-f]{{128}}", said, re.MULTILINE)
        assert f" of beacon {REHEARSAL_BEACON}\n" in said
    assert f"--sha256 {file_digest(rehearsed / ZKEY)}" in transcript
    assert f"verifying key: {load_verifying_key(keys, SMALL).sha256}" in transcript


def test_what_a_contributor_is_told_stands_in_the_transcript_as_we_and_as_snarkjs_say_it(rehearsed: Path) -> None:
    said = re.findall(r"^contribution of (.+): ([0-9a-f]{128})$", (rehearsed.parent / "log").read_text(), re.MULTILINE)
    assert [name for name, _ in said] == ["first contributor", "second contributor"] * 2
    ours, _, theirs = (rehearsed / "transcript.txt").read_text().partition("snarkjs on phase 1:")
    for name, digest in said:
        assert f" {name}: {digest}\n" in ours
        assert digest in re.sub(r"\s", "", theirs)


def test_a_published_verifying_key_that_is_not_the_keys_is_refused_naming_both(rehearsed: Path, tmp_path: Path) -> None:
    folder = published(rehearsed, tmp_path)
    ours = folder / f"{SHAPE}.vkey.json"
    foreign = json.loads(ours.read_text())
    foreign["IC"].reverse()
    ours.unlink()
    ours.write_text(json.dumps(foreign))
    right = re.search(r"verifying key: ([0-9a-f]{64})", (rehearsed / "transcript.txt").read_text())
    assert right is not None
    with pytest.raises(snarkjs.StepFailed, match=rf"is verifying key .*, but that of {ZKEY} is {right[1]}"):
        steps.verify(folder)


@pytest.mark.parametrize("silent", ["powersoftau", "zkey"])
def test_what_snarkjs_does_not_call_good_is_refused_and_the_folder_stays_as_it_was(
    rehearsed: Path, tmp_path: Path, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = published(rehearsed, tmp_path)
    before = sorted(folder.iterdir())
    good = {"powersoftau": ["Powers of Tau Ok!"], "zkey": ["contribution #1 ZKey Ok!:", "ZKey Ok!"]}
    good[silent] = good[silent][:-1]

    def run_snarkjs(command: str, *_: object) -> list[str]:
        return good[command]

    monkeypatch.setattr(snarkjs, "run", run_snarkjs)
    with pytest.raises(snarkjs.StepFailed, match=r"snarkjs does not call .* good"):
        steps.verify(folder, REHEARSAL_BEACON)
    assert sorted(folder.iterdir()) == before


def published(rehearsed: Path, place: Path) -> Path:
    """The same ceremony in a folder of its own."""
    folder = place / "published"
    folder.mkdir()
    for file in rehearsed.iterdir():
        if file.is_file():
            (folder / file.name).symlink_to(file)
    return folder


def test_nothing_unfinished_is_left_beside_what_is_published(rehearsed: Path) -> None:
    assert not list(rehearsed.glob(".*"))


def test_a_rehearsals_key_says_what_it_is_and_guards_nothing(rehearsed: Path, keys: Path) -> None:
    key = check_keys(keys, SMALL)
    assert (key.origin, key.zkey_sha256) == (KeyOrigin.REHEARSAL, file_digest(rehearsed / ZKEY))
    with pytest.raises(KeyRefused, match="from a rehearsal: whoever made them can forge proofs"):
        require_unforgeable([key], place="a cluster", local=False, accept_forgeable=False)
    require_unforgeable([key], place="a local ledger", local=True, accept_forgeable=False)
    stages: list[KeyStage] = []
    make_development_keys(keys, [SMALL], lambda _shape, stage: stages.append(stage))
    assert stages == [KeyStage.PRESENT]


def test_a_key_that_another_beacon_has_ended_is_a_ceremonys(rehearsed: Path, tmp_path: Path) -> None:
    content = (rehearsed / ZKEY).read_bytes()
    at = content.rindex(bytes.fromhex(REHEARSAL_BEACON))
    ceremonys = tmp_path / ZKEY
    # Whether the beacon is the one that was applied is for `zkey verify` to find out.
    ceremonys.write_bytes(content[:at] + b"\xab" + content[at + 1 :])
    key = import_ceremony_key(tmp_path / "keys", SMALL, ceremonys, file_digest(ceremonys))
    assert key.origin is KeyOrigin.CEREMONY
    with pytest.raises(KeyRefused, match="has a key already"):
        import_ceremony_key(tmp_path / "keys", SMALL, rehearsed / ZKEY, file_digest(rehearsed / ZKEY))


async def test_snarkjs_accepts_a_proof_by_the_imported_key_and_no_other_public_input(
    rehearsed: Path, proof: Proof, tmp_path: Path
) -> None:
    words = [str(int(proof.proof[at : at + 64], 16)) for at in range(0, 512, 64)]
    ax, ay, bx_imaginary, bx_real, by_imaginary, by_real, cx, cy = words
    as_json = {
        "pi_a": [ax, ay, "1"],
        "pi_b": [[bx_real, bx_imaginary], [by_real, by_imaginary], ["1", "0"]],
        "pi_c": [cx, cy, "1"],
        "protocol": "groth16",
        "curve": "bn128",
    }
    proof_file, public_file = tmp_path / "proof.json", tmp_path / "public.json"
    proof_file.write_text(json.dumps(as_json))
    exported = tmp_path / "vkey.json"
    command = [sys.executable, "starter.py", "circuit", "export", SHAPE, "--snarkjs", "--out", exported]
    done = await run(command, {"CROUPIER_CIRCUIT_KEYS": str(rehearsed / "keys")})
    assert "rehearsal: unsafe for funds, zkey " in done.out, done.err
    for verifying_key in (rehearsed / f"{SHAPE}.vkey.json", exported):
        public_file.write_text(json.dumps([str(proof.public_input)]))
        said = snarkjs.run("groth16", "verify", verifying_key, public_file, proof_file)
        assert "OK!" in said
    public_file.write_text(json.dumps([str((proof.public_input + 1) % FIELD_MODULUS)]))
    with pytest.raises(snarkjs.StepFailed, match="Invalid proof"):
        snarkjs.run("groth16", "verify", exported, public_file, proof_file)


def test_a_file_that_is_not_the_pinned_one_is_refused_naming_both_digests(rehearsed: Path, tmp_path: Path) -> None:
    tampered, pinned = tampered_copy(rehearsed / ZKEY, tmp_path), file_digest(rehearsed / ZKEY)
    with pytest.raises(KeyRefused, match=f"has SHA-256 {file_digest(tampered)}, not {pinned} as pinned"):
        import_ceremony_key(tmp_path / "keys", SMALL, tampered, pinned)


@pytest.mark.parametrize("swapped", [False, True], ids=["one byte", "two points swapped"])
def test_a_tampered_key_whose_own_digest_was_pinned_proves_nothing_and_is_refused(
    rehearsed: Path, tmp_path: Path, swapped: bool
) -> None:
    tampered = tampered_copy(rehearsed / ZKEY, tmp_path, swapped=swapped)
    said = "a proof of a true statement does not verify" if swapped else "invalid data"
    with pytest.raises(KeyRefused, match=f"is no usable key for shape 16x8: .*{said}"):
        import_ceremony_key(tmp_path / "keys", SMALL, tampered, file_digest(tampered))
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [".lock"]


def tampered_copy(file: Path, folder: Path, *, swapped: bool = False) -> Path:
    """With one bit of a point changed, or with two neighbours swapped, which stay points of the curve."""
    content = bytearray(file.read_bytes())
    at = len(content) - POINTS_OFFSET_FROM_END
    if swapped:
        points = bytes(read_zkey(bytes(content)).sections[POINTS_OF_H][: 2 * G1_BYTES])
        at = content.index(points)
        content[at : at + 2 * G1_BYTES] = points[G1_BYTES:] + points[:G1_BYTES]
    else:
        content[at] ^= 1
    tampered = folder / "tampered.zkey"
    tampered.write_bytes(content)
    return tampered


def test_a_key_for_another_shape_or_without_contributions_is_refused(rehearsed: Path, tmp_path: Path) -> None:
    file, start = rehearsed / ZKEY, rehearsed / f"{SHAPE}-0.zkey"
    with pytest.raises(KeyRefused, match=rf"is for another circuit: .* wires.*\(shape {LARGER.name}\)"):
        import_ceremony_key(tmp_path, LARGER, file, file_digest(file))
    with pytest.raises(KeyRefused, match="nobody has contributed"):
        import_ceremony_key(tmp_path, SMALL, start, file_digest(start))


def test_a_key_that_is_there_is_replaced_only_if_told_and_the_same_file_mends_it(
    rehearsed: Path, tmp_path: Path
) -> None:
    file, digest = rehearsed / ZKEY, file_digest(rehearsed / ZKEY)
    development = ROOT / "var" / "circuits"
    make_development_keys(development, [SMALL])
    for path in key_files(development, SMALL).model_dump().values():
        shutil.copy(path, tmp_path)
    with pytest.raises(KeyRefused, match=r"has a key already.*--replace"):
        import_ceremony_key(tmp_path, SMALL, file, digest)
    assert check_keys(tmp_path, SMALL).origin is KeyOrigin.DEVELOPMENT
    key = import_ceremony_key(tmp_path, SMALL, file, digest, replace=True)
    assert key == check_keys(tmp_path, SMALL)
    assert not any(path.exists() for path in key_files(tmp_path, SMALL).model_dump().values())
    files = key_files(tmp_path, SMALL, KeyOrigin.REHEARSAL)
    for damaged in ([files.proving_key, files.verifying_key], [files.note]):
        for path in damaged:
            path.write_bytes(b"half")
        with pytest.raises(ProvingKeyMissing, match=r"is damaged.*the file that it was imported from"):
            check_keys(tmp_path, SMALL)
        assert import_ceremony_key(tmp_path, SMALL, file, digest) == key
    other = tampered_copy(file, tmp_path)
    with pytest.raises(KeyRefused, match="has a key already"):
        import_ceremony_key(tmp_path, SMALL, other, file_digest(other))


def test_a_panic_over_a_witness_of_the_wrong_length_is_an_ordinary_error(keys: Path, tmp_path: Path) -> None:
    witness = tmp_path / "short.wtns"
    field = (32).to_bytes(4, "little") + FIELD_MODULUS.to_bytes(32, "little") + (1).to_bytes(4, "little")
    sections = ((1, field), (2, (1).to_bytes(32, "little")))
    witness.write_bytes(
        b"wtns"
        + (2).to_bytes(4, "little") * 2
        + b"".join(
            kind.to_bytes(4, "little") + len(content).to_bytes(8, "little") + content for kind, content in sections
        )
    )
    with pytest.raises(Panicked, match="index out of bounds"), panics_as_errors():
        groth16py.prove_wtns(load_keys(keys, SMALL)[1], str(witness))
