"""SQLite: what survives `kill -9`. One transaction per slot holds the block, its accounts and its history.

WAL with `synchronous=FULL`: a commit is one append and one fsync, and after it returns the slot outlives a power cut;
anything weaker would let a confirmed payment vanish. The writer and the reader have a connection and a thread each, so
neither blocks the event loop nor the other. This module must never decide what is visible: the chain does.
"""

import asyncio
import fcntl
import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson
from solders.account import Account
from solders.hash import Hash
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from .accounts import Version
from .chain import SLOT_HASHES_MAX, Block
from .errors import LedgerUnusable, TransactionError

_APPLICATION_ID: Final = 0x43524C4E
_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE genesis (
    genesis_hash BLOB NOT NULL, faucet BLOB NOT NULL, leader BLOB NOT NULL
) STRICT;
CREATE TABLE blocks (
    height INTEGER PRIMARY KEY, slot INTEGER NOT NULL, blockhash BLOB NOT NULL, unix_time INTEGER NOT NULL,
    epoch_start_time INTEGER NOT NULL, transaction_count INTEGER NOT NULL
) STRICT;
CREATE TABLE account_versions (
    pubkey BLOB NOT NULL, slot INTEGER NOT NULL, account BLOB, PRIMARY KEY (pubkey, slot)
) STRICT;
CREATE TABLE transactions (
    signature BLOB PRIMARY KEY, slot INTEGER NOT NULL, position INTEGER NOT NULL, unix_time INTEGER NOT NULL,
    wire BLOB NOT NULL, error BLOB, meta BLOB NOT NULL
) STRICT;
CREATE INDEX transactions_by_slot ON transactions (slot, position);
CREATE TABLE address_transactions (
    address BLOB NOT NULL, slot INTEGER NOT NULL, position INTEGER NOT NULL, signature BLOB NOT NULL,
    PRIMARY KEY (address, slot, position)
) STRICT, WITHOUT ROWID;
"""

# Not in the schema, so that a ledger that has never left its course can be read by every version of this program.
_DETOUR_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS detour (slot INTEGER NOT NULL, final_height INTEGER NOT NULL) STRICT
"""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Genesis:
    """What is drawn at random once and kept for the life of the ledger."""

    genesis_hash: Hash
    faucet: Keypair
    leader: Pubkey


@dataclass(frozen=True, slots=True)
class StoredTransaction:
    """A landed transaction: `meta` is the RPC's status meta."""

    signature: bytes
    slot: int
    position: int
    unix_time: int
    wire: bytes
    error: TransactionError | None
    meta: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Landed:
    """What the refusal of duplicates needs to know of a stored transaction."""

    slot: int
    signature: bytes
    wire: bytes
    error: TransactionError | None


@dataclass(frozen=True, slots=True)
class SlotWrites:
    """Everything one slot leaves behind."""

    block: Block
    accounts: dict[Pubkey, Account | None]
    transactions: Sequence[StoredTransaction]
    addresses: Sequence[tuple[Pubkey, ...]]
    """The accounts of each transaction, in the order of `transactions`."""
    rooted: Sequence[tuple[int, Sequence[Pubkey]]]
    """Slots that become final with this block, and the accounts they changed: their older versions go."""


@dataclass(frozen=True, slots=True)
class Detour:
    """Where the chain has left its course last, by a fork or by slots that were skipped."""

    slot: int
    """It went on here: no slot below is ever shown again."""
    final_height: int
    """It was final up to here, however low its blocks are now."""


class Store:
    """The ledger's database, owned by one process at a time."""

    def __init__(self, path: Path) -> None:
        """Open or create the file; a new one holds no genesis yet.

        Raises:
            LedgerUnusable: it cannot be written, is in use, is corrupt or belongs to another program.
        """
        self._path = path
        if not path.parent.is_dir():
            raise LedgerUnusable(f"cannot create {path}: there is no directory {path.parent}; create it first")
        lock_path = path.with_name(path.name + ".lock")
        try:
            self._lock = lock_path.open("ab")
        except OSError as error:
            raise LedgerUnusable(
                f"cannot write {lock_path}: {error.strerror}; give write access or choose another --db"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise LedgerUnusable(f"{path} is in use by another localnet; stop it or choose another --db") from error
        try:
            with self._readable():
                self._writer = self._connect()
                self._check_format()
                self._reader = self._connect()
                self._reader.execute("PRAGMA query_only=ON")
        except LedgerUnusable:
            self._lock.close()
            raise
        self._writer_thread = ThreadPoolExecutor(1, thread_name_prefix="localnet-writer")
        self._reader_thread = ThreadPoolExecutor(1, thread_name_prefix="localnet-reader")

    def close(self) -> None:
        self._writer_thread.shutdown()
        self._reader_thread.shutdown()
        self._reader.close()
        self._writer.close()
        self._lock.close()

    # Loading, before the event loop serves anybody.

    def genesis(self) -> Genesis | None:
        """None for a new database."""
        with self._readable():
            if not self._writer.execute("SELECT 1 FROM sqlite_master").fetchone():
                return None
            row = self._writer.execute("SELECT genesis_hash, faucet, leader FROM genesis").fetchone()
            return Genesis(Hash(row[0]), Keypair.from_bytes(row[1]), Pubkey(row[2]))

    def create(self, genesis: Genesis, blocks: Sequence[Block], accounts: dict[Pubkey, Account]) -> None:
        """Write the genesis of a new ledger, all or nothing."""
        with self._readable():
            self._writer.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA application_id={_APPLICATION_ID};PRAGMA user_version={_SCHEMA_VERSION};"
            )
            self._writer.execute(
                "INSERT INTO genesis VALUES (?, ?, ?)",
                (bytes(genesis.genesis_hash), bytes(genesis.faucet), bytes(genesis.leader)),
            )
            for block in blocks:
                self._insert_block(block)
            self._insert_accounts(blocks[0].slot, dict(accounts))
            self._writer.execute("COMMIT")

    def blocks(self) -> list[Block]:
        """The last `SLOT_HASHES_MAX` blocks, oldest first."""
        with self._readable():
            rows = self._writer.execute(
                "SELECT slot, height, blockhash, unix_time, epoch_start_time, transaction_count"
                " FROM blocks ORDER BY height"
            ).fetchall()
            return [Block(row[0], row[1], Hash(row[2]), row[3], row[4], row[5]) for row in rows]

    def detour(self) -> Detour | None:
        """The last one, if there ever was one."""
        with self._readable():
            if not self._writer.execute("SELECT 1 FROM sqlite_master WHERE name = 'detour'").fetchone():
                return None
            row = self._writer.execute("SELECT slot, final_height FROM detour").fetchone()
            return Detour(row[0], row[1])

    def accounts(self) -> Iterator[tuple[Pubkey, list[Version]]]:
        """Every account with its stored versions, oldest first."""
        with self._readable():
            key: bytes | None = None
            versions: list[Version] = []
            for pubkey, slot, account in self._writer.execute(
                "SELECT pubkey, slot, account FROM account_versions ORDER BY pubkey, slot"
            ):
                if pubkey != key:
                    if key is not None:
                        yield Pubkey(key), versions
                    key, versions = pubkey, []
                versions.append(Version(slot, Account.from_bytes(account) if account is not None else None))
            if key is not None:
                yield Pubkey(key), versions

    def landed_since(self, slot: int) -> Iterator[Landed]:
        """Transactions of `slot` and later, in order of execution."""
        with self._readable():
            for row in self._writer.execute(
                "SELECT slot, signature, wire, error FROM transactions WHERE slot >= ? ORDER BY slot, position", (slot,)
            ):
                yield Landed(row[0], row[1], row[2], None if row[3] is None else orjson.loads(row[3]))

    # While serving.

    async def commit(self, slots: Sequence[SlotWrites]) -> None:
        """Make the slots durable, together.

        Raises:
            LedgerUnusable: the disk refused; nothing of these slots is stored.
        """
        await asyncio.get_running_loop().run_in_executor(self._writer_thread, self._commit, slots)

    async def leave_course(self, kept: Block, detour: Detour) -> None:
        """Undo every block after `kept` and remember where the chain goes on, durably and together.

        Raises:
            LedgerUnusable: the disk refused; nothing is undone.
        """
        await asyncio.get_running_loop().run_in_executor(self._writer_thread, self._leave_course, kept, detour)

    async def transaction(self, signature: bytes, slot_max: int) -> StoredTransaction | None:
        """The transaction, if it landed in `slot_max` or earlier."""
        return await self._read(lambda: self._transaction(signature, slot_max))

    async def address_history(
        self, address: Pubkey, slot_max: int, before: bytes | None, until: bytes | None, limit: int
    ) -> list[StoredTransaction]:
        """Transactions that name `address`, newest first, strictly between `until` and `before`."""
        return await self._read(lambda: self._address_history(address, slot_max, before, until, limit))

    async def _read(self, query: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._reader_thread, query)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path.absolute(), isolation_level=None, check_same_thread=False)

    def _check_format(self) -> None:
        writer = self._writer
        empty = not writer.execute("SELECT 1 FROM sqlite_master").fetchone()
        application_id, version = (
            writer.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if not empty and application_id != _APPLICATION_ID:
            raise LedgerUnusable(f"{self._path} is no localnet ledger; choose another --db")
        if not empty and version != _SCHEMA_VERSION:
            raise LedgerUnusable(
                f"{self._path} has ledger format {version}, this program reads {_SCHEMA_VERSION}; choose another --db"
            )
        if writer.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("database disk image is malformed")
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("PRAGMA synchronous=FULL")

    @contextmanager
    def _readable(self) -> Generator[None]:
        """Turn the driver's errors into one line with the remedy."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise LedgerUnusable(
                f"cannot write {self._path}: {error}; free space, give write access or choose another --db"
            ) from error
        except (sqlite3.DatabaseError, TypeError, ValueError) as error:
            raise LedgerUnusable(
                f"{self._path} is corrupt ({error}); restore it from a copy, or remove it to begin a new ledger"
            ) from error

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection]:
        """One transaction, all or nothing."""
        with self._readable():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def _leave_course(self, kept: Block, detour: Detour) -> None:
        with self._writing() as writer:
            writer.execute("DELETE FROM blocks WHERE height > ?", (kept.height,))
            for table in ("account_versions", "transactions", "address_transactions"):
                writer.execute(f"DELETE FROM {table} WHERE slot > ?", (kept.slot,))
            writer.execute(_DETOUR_SCHEMA)
            writer.execute("DELETE FROM detour")
            writer.execute("INSERT INTO detour VALUES (?, ?)", (detour.slot, detour.final_height))

    def _commit(self, slots: Sequence[SlotWrites]) -> None:
        with self._writing() as writer:
            for writes in slots:
                self._insert_block(writes.block)
                self._insert_accounts(writes.block.slot, writes.accounts)
                for slot, keys in writes.rooted:
                    pairs = [(bytes(key), slot) for key in keys]
                    writer.executemany("DELETE FROM account_versions WHERE pubkey = ? AND slot < ?", pairs)
                    writer.executemany(
                        "DELETE FROM account_versions WHERE pubkey = ? AND slot = ? AND account IS NULL", pairs
                    )
                writer.executemany(
                    "INSERT INTO transactions VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [
                        (
                            landed.signature,
                            landed.slot,
                            landed.position,
                            landed.unix_time,
                            landed.wire,
                            None if landed.error is None else orjson.dumps(landed.error),
                            orjson.dumps(landed.meta),
                        )
                        for landed in writes.transactions
                    ],
                )
                writer.executemany(
                    "INSERT INTO address_transactions VALUES (?, ?, ?, ?)",
                    [
                        (bytes(address), landed.slot, landed.position, landed.signature)
                        for landed, addresses in zip(writes.transactions, writes.addresses, strict=True)
                        for address in addresses
                    ],
                )
            writer.execute("DELETE FROM blocks WHERE height <= ?", (slots[-1].block.height - SLOT_HASHES_MAX,))

    def _insert_block(self, block: Block) -> None:
        self._writer.execute(
            "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?)",
            (
                block.height,
                block.slot,
                bytes(block.blockhash),
                block.unix_time,
                block.epoch_start_time,
                block.transaction_count,
            ),
        )

    def _insert_accounts(self, slot: int, accounts: dict[Pubkey, Account | None]) -> None:
        self._writer.executemany(
            "INSERT INTO account_versions VALUES (?, ?, ?)",
            [(bytes(key), slot, None if account is None else bytes(account)) for key, account in accounts.items()],
        )

    def _transaction(self, signature: bytes, slot_max: int) -> StoredTransaction | None:
        row = self._reader.execute(
            f"SELECT {_TRANSACTION_COLUMNS} FROM transactions WHERE signature = ? AND slot <= ?", (signature, slot_max)
        ).fetchone()
        return None if row is None else _transaction(row)

    def _address_history(
        self, address: Pubkey, slot_max: int, before: bytes | None, until: bytes | None, limit: int
    ) -> list[StoredTransaction]:
        newest = self._place(before) if before is not None else (slot_max + 1, 0)
        oldest = self._place(until) if until is not None else (-1, 0)
        if newest is None or oldest is None:
            return []
        rows = self._reader.execute(
            f"SELECT {_TRANSACTION_COLUMNS} FROM transactions WHERE signature IN ("
            " SELECT signature FROM address_transactions WHERE address = ? AND slot <= ?"
            " AND (slot, position) < (?, ?) AND (slot, position) > (?, ?)"
            " ORDER BY slot DESC, position DESC LIMIT ?) ORDER BY slot DESC, position DESC",
            (bytes(address), slot_max, *newest, *oldest, limit),
        ).fetchall()
        return [_transaction(row) for row in rows]

    def _place(self, signature: bytes) -> tuple[int, int] | None:
        return self._reader.execute(
            "SELECT slot, position FROM transactions WHERE signature = ?", (signature,)
        ).fetchone()


_TRANSACTION_COLUMNS: Final = "signature, slot, position, unix_time, wire, error, meta"


def _transaction(row: tuple[bytes, int, int, int, bytes, bytes | None, bytes]) -> StoredTransaction:
    signature, slot, position, unix_time, wire, error, meta = row
    return StoredTransaction(
        signature, slot, position, unix_time, wire, None if error is None else orjson.loads(error), orjson.loads(meta)
    )
