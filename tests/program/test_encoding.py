"""Python's view of the program: error codes, addresses, layouts and points agree with the C sources and the curve."""

import json
import re
from pathlib import Path

import groth16py
import pytest
from solders.pubkey import Pubkey

from ledger import layout
from ledger.failures import Failure
from ledger.program_errors import ProgramError, decode_error
from ledger.proof_encoding import compress_proof
from ledger.rpc import TransactionError
from program.build import FOLDER
from settlement.verifying_keys import BASE_FIELD_MODULUS, encode_verifying_key

SYSTEM_ERRORS = range(9)


def test_error_codes_are_those_of_the_program() -> None:
    in_c = {
        name: int(code, 16)
        for name, code in re.findall(r"ERROR_(\w+) = (0x[0-9a-f]+),", (FOLDER / "errors.h").read_text())
    }
    assert in_c == {error.name: int(error) for error in ProgramError}
    assert not set(in_c.values()) & set(SYSTEM_ERRORS)


def test_every_error_has_one_line_of_meaning() -> None:
    assert all(error.meaning and "\n" not in error.meaning for error in ProgramError)


def test_an_uncovered_vault_is_decoded_with_its_position() -> None:
    assert decode_error(0x100) == (ProgramError.VAULT_UNCOVERED, 0)
    assert decode_error(0x13F) == (ProgramError.VAULT_UNCOVERED, 63)
    assert decode_error(0x140) is None
    assert decode_error(0x3C) == (ProgramError.BATCH_EXISTS, None)
    assert decode_error(1) is None


@pytest.mark.parametrize("error", ProgramError, ids=lambda error: error.name)
def test_a_refusal_is_read_by_its_number_and_by_its_instruction(error: ProgramError) -> None:
    for position in (0, 63) if error is ProgramError.VAULT_UNCOVERED else (None,):
        failed: TransactionError = {"InstructionError": [2, {"Custom": error + (position or 0)}]}
        failure = Failure.of(failed, [2])
        assert (failure.program_error, failure.position) == (error, position)
        assert error.meaning in failure.text
        assert Failure.of(failed, [0]).program_error is None


@pytest.mark.parametrize("code", [0, 1, 0x1F, 0x24, 0x37, 0x3F, 0x140, 2**32 - 1])
def test_a_number_that_is_no_code_is_taken_for_none(code: int) -> None:
    assert Failure.of({"InstructionError": [2, {"Custom": code}]}, [2]).program_error is None


@pytest.mark.parametrize(
    "kind", [layout.Config, layout.Circuit, layout.House, layout.Vault, layout.BatchRecord, layout.Table]
)
@pytest.mark.parametrize("data", [b"", b"\x00" * 34, b"\x04" * 41, b"\x05" * 40, b"\x01" * 33])
def test_foreign_bytes_are_not_decoded(kind: type[layout.Config], data: bytes) -> None:
    with pytest.raises(layout.MalformedAccount):
        kind.decode(data)


def test_addresses_of_lanes_numbers_and_owners_differ() -> None:
    program, owner = Pubkey.new_unique(), Pubkey.new_unique()
    addresses = {
        layout.config_address(program),
        *(layout.house_address(program, lane) for lane in (0, 1, 256)),
        *(layout.circuit_address(program, circuit) for circuit in (0, 1, 256)),
        *(layout.batch_address(program, lane, number) for lane in (0, 1) for number in (0, 1, 2**64 - 1)),
        *(layout.vault_address(program, lane, owner) for lane in (0, 1)),
        *(layout.table_address(program, lane, number) for lane in (0, 1) for number in (0, 1, 256)),
    }
    assert len(addresses) == 1 + 3 + 3 + 6 + 2 + 6


def negated(point: bytes) -> bytes:
    """The point with both (G2) or the only (G1) coordinate of y negated."""
    half = len(point) // 2
    values = [int.from_bytes(point[at : at + 32], "big") for at in range(half, len(point), 32)]
    return point[:half] + b"".join((-value % BASE_FIELD_MODULUS).to_bytes(32, "big") for value in values)


def test_a_point_and_its_opposite_differ_in_the_sign_bit_alone(tmp_path: Path) -> None:
    source = tmp_path / "square.circom"
    source.write_text(
        "template S() { signal input p; signal input w; p === w * w; } component main {public [p]} = S();"
    )
    key, verifying_key = groth16py.setup_circom(str(source), [])
    proof = groth16py.prove(key, {"p": 9, "w": 3})
    opposite = negated(proof[:64]) + negated(proof[64:192]) + negated(proof[192:])
    one, other = compress_proof(proof), compress_proof(opposite)
    sign_bits = bytearray(128)
    sign_bits[0] = sign_bits[32] = sign_bits[96] = 0x80
    assert bytes(a ^ b for a, b in zip(one, other, strict=True)) == bytes(sign_bits)
    with pytest.raises(ValueError, match="256 bytes"):
        compress_proof(proof[:-1])

    fields = json.loads(verifying_key.to_json())
    fields["IC"].append(fields["IC"][0])
    with pytest.raises(ValueError, match="this key is for 2"):
        encode_verifying_key(json.dumps(fields))
    fields["IC"] = [["0", "1", "0"]] * 2
    with pytest.raises(ValueError, match="infinity"):
        encode_verifying_key(json.dumps(fields))
