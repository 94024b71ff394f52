"""The program's custom error codes and what each means, for a person. The codes are those of `program/errors.h`."""

from enum import IntEnum, unique
from typing import Final

from ledger.layout import MAX_PLAYERS_PER_CIRCUIT


@unique
class ProgramError(IntEnum):
    """Codes of `InstructionError::Custom`. From `VAULT_UNCOVERED` on, the vault's position is added: see `decode_error`.

    Codes below 0x20 are the system program's, which pass through when a call to it fails.
    """

    UNKNOWN_INSTRUCTION = 0x20, "the first byte names no instruction"
    DATA_SIZE = 0x21, "the instruction's data is too short or too long"
    ACCOUNT_COUNT = 0x22, "the instruction names too few or too many accounts"
    DUPLICATE_ACCOUNT = 0x23, "an account stands twice where two are needed"

    MISSING_SIGNATURE = 0x28, "an account that must sign has not"
    NOT_WRITABLE = 0x29, "an account that changes is not marked writable"
    WRONG_AUTHORITY = 0x2A, "the signer is not the authority that the config names"
    NOT_UPGRADE_AUTHORITY = 0x2B, "only the program's upgrade authority may initialise it"
    WRONG_VAULT_OWNER = 0x2C, "the vault belongs to another owner"

    FOREIGN_ACCOUNT = 0x30, "an account is not owned by the program that it should be"
    ACCOUNT_KIND = 0x31, "an account is of another kind than its place asks for"
    ACCOUNT_SIZE = 0x32, "an account has another size than its kind"
    ADDRESS = 0x33, "an account does not stand at the address that its seeds give"
    NOT_SYSTEM_PROGRAM = 0x34, "the system program is not where it should be"
    SYSVAR = 0x35, "clock or rent cannot be read, or rent's threshold is unknown"
    NOT_LOOKUP_TABLE = 0x36, "an account is no address lookup table"

    CONFIG_EXISTS = 0x38, "the program is initialised already"
    CIRCUIT_EXISTS = 0x39, "a circuit is registered under this id already"
    HOUSE_EXISTS = 0x3A, "the lane has a house already"
    VAULT_EXISTS = 0x3B, "the owner has a vault on this lane already"
    BATCH_EXISTS = 0x3C, "this very batch has been settled already"
    BATCH_NUMBER_TAKEN = 0x3D, "a batch of this number with another bets root has been settled on this lane"
    TABLE_EXISTS = 0x3E, "a lookup table is registered under this number of the lane already"

    CIRCUIT_SHAPE = 0x40, "a circuit needs at least one bet and 1 to 64 players"
    VERIFYING_KEY = 0x41, "a point of the verifying key is at infinity or not in its group"
    BETS_ROOT_RANGE = 0x42, "the bets root is not a scalar-field element"
    PUBLIC_INPUT = 0x43, "the public input cannot be computed"
    PROOF_ENCODING = 0x44, "a point of the proof is not in its group"
    PROOF_REJECTED = 0x45, "the proof does not hold for this batch"

    BET_COUNT = 0x48, "the number of bets is 0 or more than the circuit's"
    PLAYER_COUNT = 0x49, "there are more vaults than the circuit has players"
    VAULT_LANE = 0x4A, "a vault belongs to another lane than the house"
    VAULT_ORDER = 0x4B, "the vaults' indices do not strictly increase"
    VAULT_INDEX_EXHAUSTED = 0x4C, "the lane has no index left for another vault"

    AMOUNT_OVERFLOW = 0x50, "an amount or a sum leaves 64 bits"
    PAYER_UNCOVERED = 0x51, "the payer cannot cover the rent of the new account"
    HOUSE_UNCOVERED = 0x52, "the house cannot cover its loss and keep its rent minimum"
    WITHDRAWAL_UNCOVERED = 0x53, "the vault or the house cannot cover the withdrawal and keep its rent minimum"

    VAULT_UNCOVERED = 0x100, "a vault cannot cover its loss and keep its rent minimum"

    meaning: str

    def __new__(cls, code: int, meaning: str) -> "ProgramError":
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member


_VAULT_UNCOVERED_CODES: Final = range(
    ProgramError.VAULT_UNCOVERED, ProgramError.VAULT_UNCOVERED + MAX_PLAYERS_PER_CIRCUIT
)


def decode_error(code: int) -> tuple[ProgramError, int | None] | None:
    """What a custom error code says, and for `VAULT_UNCOVERED` the position (0…63) among the instruction's vaults.

    None for a code that is not the program's own.
    """
    if code in _VAULT_UNCOVERED_CODES:
        return ProgramError.VAULT_UNCOVERED, code - ProgramError.VAULT_UNCOVERED
    try:
        return ProgramError(code), None
    except ValueError:
        return None
