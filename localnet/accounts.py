"""Account versions back to the root, so that a read at `finalized` differs from one at `processed`.

Only what changed since the root is kept here; everything else is as the engine has it. Memory is therefore bounded by
the writes of the last few slots. It must never answer a read at a slot with a later slot's state.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from solders.account import Account
from solders.pubkey import Pubkey

from .engine import Engine

_BEFORE_ALL_SLOTS: Final = -1


@dataclass(frozen=True, slots=True)
class Version:
    """An account as of the end of `slot`; None when it did not exist."""

    slot: int
    account: Account | None


class VersionedAccounts:
    """`versions[pubkey] = [(slot, account), …]`, oldest first, over the engine's current state."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._versions: dict[Pubkey, list[Version]] = {}

    def restore(self, key: Pubkey, versions: list[Version]) -> None:
        """Take the stored versions of an account changed since the root, before the engine gets the newest."""
        if versions[0].slot == _BEFORE_ALL_SLOTS:
            raise ValueError("a stored version has a slot")
        base = Version(_BEFORE_ALL_SLOTS, self._engine.account(key))
        self._versions[key] = [base, *versions]

    def current(self, key: Pubkey) -> Account | None:
        """The account after the last executed transaction."""
        versions = self._versions.get(key)
        return versions[-1].account if versions else self._engine.account(key)

    def at(self, key: Pubkey, slot: int) -> Account | None:
        """The account as of `slot`, which must not lie before the root."""
        versions = self._versions.get(key)
        if versions is None:
            return self._engine.account(key)
        return next((version.account for version in reversed(versions) if version.slot <= slot), None)

    def changed_since(self, key: Pubkey, slot: int) -> bool:
        versions = self._versions.get(key)
        return versions is not None and versions[-1].slot > slot

    def record(self, key: Pubkey, slot: int, before: Account | None, after: Account | None) -> None:
        """Note that a transaction in `slot` took the account from `before` to `after`."""
        versions = self._versions.setdefault(key, [Version(_BEFORE_ALL_SLOTS, before)])
        if versions[-1].slot == slot:
            versions.pop()
        versions.append(Version(slot, after))

    def root(self, keys: Iterable[Pubkey], slot: int) -> None:
        """Forget what `slot`, now rooted, made unreachable for the accounts it changed."""
        for key in keys:
            versions = self._versions[key]
            base = max(index for index, version in enumerate(versions) if version.slot <= slot)
            if base == len(versions) - 1:
                del self._versions[key]
            else:
                del versions[:base]

    def undo(self, slot: int) -> list[tuple[Pubkey, Account | None]]:
        """Forget what happened after `slot`, which must not lie before the root; the accounts as they were then.

        The engine must be given them before the next read.
        """
        undone: list[tuple[Pubkey, Account | None]] = []
        for key, versions in list(self._versions.items()):
            if versions[-1].slot <= slot:
                continue
            while versions[-1].slot > slot:
                versions.pop()
            undone.append((key, versions[-1].account))
            if len(versions) == 1:
                del self._versions[key]
        return undone

    def owned_by(self, program: Pubkey, slot: int) -> list[tuple[Pubkey, Account]]:
        """Every account that `program` owned as of `slot`."""
        found = [(key, account) for key, account in self._engine.program_accounts(program) if key not in self._versions]
        for key in self._versions:
            account = self.at(key, slot)
            if account is not None and account.owner == program:
                found.append((key, account))
        return found
