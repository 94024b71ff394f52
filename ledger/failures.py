"""What a transaction's error means for a settlement: from the chain's words to the domain's errors, by code, never by text.

Sources: solana-sdk `transaction-error` and `instruction-error` (names as in serde JSON), `system-interface` (codes of the
system program); `ledger/program_errors.py` for the program's own.
"""

from collections.abc import Container
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Self

from ledger.program_errors import ProgramError, decode_error
from ledger.rpc import TransactionError


class Fault(Enum):
    """Who can mend a failure."""

    PAYER = auto()
    """The payer has too few lamports."""
    PROVISIONING = auto()
    """Something on chain may be missing or not as it should be: program, config, circuit, house, authority."""
    BLOCKHASH = auto()
    """The node does not know the blockhash (any more, or yet)."""
    PROCESSED = auto()
    """The transaction has been processed before."""
    UNITS = auto()
    """The limit of compute units that was signed did not do. The next simulation tells a better one."""
    SETTLEMENT = auto()
    """The settlement itself."""


_SYSTEM_RESULT_WITH_NEGATIVE_LAMPORTS: Final = 1
_PAYER_INDEX: Final = 0

_FAULT_BY_NAME: Final = {
    "AccountNotFound": Fault.PAYER,
    "InsufficientFundsForFee": Fault.PAYER,
    "InvalidAccountForFee": Fault.PAYER,
    "ProgramAccountNotFound": Fault.PROVISIONING,
    "InvalidProgramForExecution": Fault.PROVISIONING,
    "BlockhashNotFound": Fault.BLOCKHASH,
    "AlreadyProcessed": Fault.PROCESSED,
}

_FAULT_BY_INSTRUCTION_NAME: Final = {
    # What the runtime and the loaders say of a program that is missing, closed or not yet visible.
    "UnsupportedProgramId": Fault.PROVISIONING,
    "AccountNotExecutable": Fault.PROVISIONING,
    "IncorrectProgramId": Fault.PROVISIONING,
    "InvalidAccountData": Fault.PROVISIONING,
    "ComputationalBudgetExceeded": Fault.UNITS,
    "ProgramFailedToComplete": Fault.UNITS,
}

_FAULT_BY_PROGRAM_ERROR: Final = {
    ProgramError.PAYER_UNCOVERED: Fault.PAYER,
    ProgramError.WRONG_AUTHORITY: Fault.PROVISIONING,
    ProgramError.FOREIGN_ACCOUNT: Fault.PROVISIONING,
    ProgramError.ACCOUNT_KIND: Fault.PROVISIONING,
    ProgramError.ACCOUNT_SIZE: Fault.PROVISIONING,
    ProgramError.BET_COUNT: Fault.PROVISIONING,
    ProgramError.PLAYER_COUNT: Fault.PROVISIONING,
}
"""Counts are checked here before they are sent, so the program refuses them only if a circuit's registered shape differs."""


@dataclass(frozen=True)
class Failure:
    """Why a transaction fails. `program_error` and `position` (of a vault) where the program itself has refused."""

    fault: Fault
    text: str
    program_error: ProgramError | None = None
    position: int | None = None

    @classmethod
    def of(cls, error: TransactionError, program_positions: Container[int]) -> Self:
        """Reads an error as the RPC gives it; the instructions at `program_positions` are those of Croupier's program."""
        match error:
            case str(name):
                return cls(_FAULT_BY_NAME.get(name, Fault.SETTLEMENT), name)
            case {"InsufficientFundsForRent": {"account_index": index}}:
                fault = Fault.PAYER if index == _PAYER_INDEX else Fault.SETTLEMENT
                return cls(fault, f"account {index} would hold less than its rent minimum")
            case {"InstructionError": [int(index), {"Custom": int(code)}]} if index in program_positions:
                return cls._of_program(code)
            case {"InstructionError": [int(index), str(name)]} if index in program_positions:
                return cls(_FAULT_BY_INSTRUCTION_NAME.get(name, Fault.SETTLEMENT), name)
            case _:
                return cls(Fault.SETTLEMENT, str(error))

    @classmethod
    def _of_program(cls, code: int) -> Self:
        if code == _SYSTEM_RESULT_WITH_NEGATIVE_LAMPORTS:
            return cls(Fault.PAYER, "the payer has too few lamports for a transfer or for the rent of a new account")
        decoded = decode_error(code)
        if decoded is None:
            return cls(Fault.SETTLEMENT, f"custom error {code:#x}")
        error, position = decoded
        return cls(
            _FAULT_BY_PROGRAM_ERROR.get(error, Fault.SETTLEMENT),
            f"{error.name} ({code:#x}): {error.meaning}",
            error,
            position,
        )
