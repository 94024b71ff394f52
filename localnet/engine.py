"""LiteSVM as an execution engine: it runs a transaction against accounts, and that is all.

Everything a cluster adds (blockhash expiry, refusal of duplicates, signatures, sizes, slots, durability) is the
ledger's; LiteSVM's own versions of it are switched off because they are not a cluster's. This module must never decide
whether a transaction may run.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson
from solders.account import Account
from solders.clock import Clock
from solders.hash import Hash
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import (
    FailedTransactionMetadata,
    InnerInstruction,
    SimulateResult,
    TransactionMetadata,
    TransactionResult,
)

from .errors import TransactionError

UPGRADEABLE_LOADER: Final = Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111")
_EMPTY: Final = Account(0, b"", SYSTEM_PROGRAM)

PostAccounts: TypeAlias = dict[Pubkey, Account]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an execution did: amounts in lamports, `units_consumed` in compute units."""

    error: TransactionError | None
    fee: int
    units_consumed: int
    logs: list[str]
    return_data: tuple[Pubkey, bytes] | None
    inner_instructions: list[list[InnerInstruction]]


class Engine:
    """One SVM with the mainnet feature set and the standard programs."""

    def __init__(self) -> None:
        self._svm = _blank()

    def load(self, accounts: Iterable[tuple[Pubkey, Account | None]]) -> None:
        """Restore accounts; None for one that did not exist.

        Executables go last: the SVM compiles a program when its account is set, from its data.
        """
        filled = ((key, account or _EMPTY) for key, account in accounts)
        for _, key, account in sorted(
            ((account.executable, bytes(key), account) for key, account in filled), key=lambda entry: entry[:2]
        ):
            self._svm.set_account(Pubkey(key), account)

    def start_over(self, accounts: Iterable[tuple[Pubkey, Account]]) -> None:
        """As `load`, into a blank SVM: one that has compiled a program panics when its account is taken away."""
        self._svm = _blank()
        self.load(accounts)

    def begin_slot(self, clock: Clock, slot_hashes: Sequence[tuple[int, Hash]]) -> None:
        """Set the clock and slot-hashes sysvars; hashes newest first."""
        self._svm.set_clock(clock)
        self._svm.set_slot_hashes(slot_hashes)

    def account(self, key: Pubkey) -> Account | None:
        """The account as of the last execution; None when it has no lamports."""
        account = self._svm.get_account(key)
        return account if account is not None and account.lamports else None

    def set_account(self, key: Pubkey, account: Account) -> None:
        self._svm.set_account(key, account)

    def balance(self, key: Pubkey) -> int:
        """Lamports; 0 for an account that does not exist."""
        return self._svm.get_balance(key) or 0

    def program_accounts(self, program: Pubkey) -> list[tuple[Pubkey, Account]]:
        return self._svm.get_program_accounts(program)

    def rent_exempt_minimum(self, data_bytes: int) -> int:
        return self._svm.minimum_balance_for_rent_exemption(data_bytes)

    def execute(self, transaction: VersionedTransaction) -> Outcome:
        return _outcome(self._svm.send_transaction(transaction))

    def simulate(
        self, transaction: VersionedTransaction, overlay: Mapping[Pubkey, Account | None]
    ) -> tuple[Outcome, PostAccounts]:
        """Run without effect, with the accounts in `overlay` as they were at an earlier slot.

        Returns:
            The outcome, and the written accounts when it succeeded.
        """
        current = {key: self._svm.get_account(key) for key in overlay}
        try:
            for key, account in overlay.items():
                self._svm.set_account(key, account or _EMPTY)
            result = self._svm.simulate_transaction(transaction)
        finally:
            for key, account in current.items():
                self._svm.set_account(key, account or _EMPTY)
        posts = {} if isinstance(result, FailedTransactionMetadata) else dict(result.post_accounts())
        return _outcome(result), posts


def _blank() -> LiteSVM:
    svm = LiteSVM().with_sigverify(False).with_blockhash_check(False).with_transaction_history(0)
    # LiteSVM's own airdrop purse would be money from nowhere.
    svm.set_account(svm.airdrop_pubkey(), _EMPTY)
    return svm


def _outcome(result: TransactionResult | SimulateResult) -> Outcome:
    error: TransactionError | None = None
    if isinstance(result, FailedTransactionMetadata):
        failure: dict[str, Any] = orjson.loads(result.to_json())
        error = failure["err"]
        meta = result.meta()
    else:
        meta = result if isinstance(result, TransactionMetadata) else result.meta()
    returned = meta.return_data()
    return Outcome(
        error=error,
        fee=meta.fee(),
        units_consumed=meta.compute_units_consumed(),
        logs=meta.logs(),
        return_data=(returned.program_id, returned.data) if returned.data else None,
        inner_instructions=meta.inner_instructions(),
    )
