"""The bank: executes transactions on arrival, closes a slot on every tick and saves it. The only writer.

Everything that changes state runs on the event loop without an await between check and effect, so no lock is needed
and no transaction can slip in twice. It must never let a level above `processed` show what is not on disk: the chain's
levels advance only when the store has committed.

Divergences from a cluster, all deliberate: no rival forks, but `fork` takes blocks back; the leader keeps all fees
(nothing is burned, so the sum of all lamports never changes); a transaction whose programs cannot be loaded is dropped
rather than charged; durable nonces are not accepted.
"""

import asyncio
import contextlib
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from solders.account import Account
from solders.clock import Clock
from solders.compute_budget import set_compute_unit_limit
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from .accounts import VersionedAccounts
from .chain import (
    FINALIZED_DEPTH_BLOCKS,
    GENESIS_BLOCKS,
    Block,
    Chain,
    Commitment,
    Sight,
    View,
    epoch_of,
    next_blockhash,
)
from .encoding import meta_json
from .engine import UPGRADEABLE_LOADER, Engine, Outcome, PostAccounts
from .errors import (
    INTERNAL_ERROR,
    LedgerUnusable,
    RpcError,
    TransactionError,
    TransactionRejected,
    invalid_params,
)
from .store import Detour, Genesis, SlotWrites, Store, StoredTransaction
from .transactions import Sanitized, SupportedMessage, check_locks, sanitize, signatures_are_valid

FAUCET_LAMPORTS: Final = 500_000_000 * 10**9
LEADER_LAMPORTS: Final = 10**9
STATUS_BLOCKS_MAX: Final = 300
"""Blocks whose statuses stay in memory (agave `status_cache` MAX_CACHE_ENTRIES): more than a blockhash lives."""
PRIORITIZATION_BLOCKS_MAX: Final = 150
SLOT_TRANSACTIONS_MAX: Final = 4096
"""A sender to a full slot waits for the next."""
UNSTORED_BLOCKS_MAX: Final = 8
"""Blocks that may wait for the disk before the open slot is held open."""
_AIRDROP_UNITS_MIN: Final = 1_000
_AIRDROP_UNITS_SPAN: Final = 1_000_000
_AIRDROP_ATTEMPTS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Status:
    """Where a transaction landed, and with what error."""

    slot: int
    height: int
    error: TransactionError | None


@dataclass(frozen=True, slots=True)
class Simulation:
    """`outcome` is None when the transaction was refused before it ran."""

    error: TransactionError | None
    outcome: Outcome | None
    post_accounts: PostAccounts


@dataclass(frozen=True, slots=True)
class BlockPrices:
    """The lowest priority prices that landed in a block, in micro-lamports per compute unit."""

    slot: int
    block_min: int
    account_min: dict[Pubkey, int]


class OpenSlot:
    """What has happened in the slot that is still open."""

    def __init__(self) -> None:
        self.accounts: dict[Pubkey, Account | None] = {}
        self.transactions: list[StoredTransaction] = []
        self.addresses: list[tuple[Pubkey, ...]] = []
        self.message_hashes: list[Hash] = []
        self.fees = 0
        self.block_price: int | None = None
        self.account_prices: dict[Pubkey, int] = {}
        self.closed = asyncio.Event()


class Ledger:
    """A durable Solana bank. Use `open`, run `run()` as a task, then `stop()` it and `close()`."""

    def __init__(self, store: Store, genesis: Genesis, slot_seconds: float, hindsight_blocks: int) -> None:
        self.genesis_hash = genesis.genesis_hash
        self.faucet = genesis.faucet
        self.store = store
        self._leader = genesis.leader
        self._slot_seconds = slot_seconds
        self._engine = Engine()
        self._accounts = VersionedAccounts(self._engine)
        self._hindsight_blocks = hindsight_blocks
        detour = store.detour()
        self._chain = Chain(store.blocks(), detour.final_height if detour is not None else 0, hindsight_blocks)
        self._statuses: dict[Signature, Status] = {}
        self._message_hashes: set[Hash] = set()
        self._landed_by_block: deque[tuple[list[Signature], list[Hash]]] = deque()
        self._unrooted: deque[tuple[int, int, list[Pubkey]]] = deque()
        self._rooted: deque[tuple[int, Sequence[Pubkey]]] = deque()
        self._prices: deque[BlockPrices] = deque(maxlen=PRIORITIZATION_BLOCKS_MAX + hindsight_blocks)
        self._pending: list[SlotWrites] = []
        self._disk = asyncio.Lock()
        self._leaving_course = False
        self._held: Callable[[], bool] = lambda: False
        self._stopping = asyncio.Event()
        self._broken: LedgerUnusable | None = None
        self._airdrops = secrets.randbelow(_AIRDROP_UNITS_SPAN)
        self._restore_accounts()
        self._restore_statuses()
        self._slot = OpenSlot()
        self._begin_slot()

    @classmethod
    def open(cls, path: Path, slot_seconds: float, hindsight_blocks: int = 0) -> "Ledger":
        """Open the ledger at `path`, or begin a new one there.

        Args:
            hindsight_blocks: for so many blocks before the root, nodes can be shown the chain as it was.

        Raises:
            LedgerUnusable: see `Store`.
        """
        store = Store(path)
        try:
            genesis = store.genesis()
            if genesis is not None:
                ledger = cls(store, genesis, slot_seconds, hindsight_blocks)
                # Slots that were open or unstored at a crash were seen by clients: never show a lower one again.
                detour = store.detour()
                seen = max(ledger._chain.tip.slot, detour.slot if detour is not None else 0)
                ledger._chain.skip_to(seen + UNSTORED_BLOCKS_MAX + 2)
                ledger._begin_slot()
                return ledger
            return cls(store, _create(store), slot_seconds, hindsight_blocks)
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        self.store.close()

    # Time.

    async def run(self) -> None:
        """Close a slot every tick until `stop()`; returns when everything is stored.

        Raises:
            LedgerUnusable: the disk refuses to take more, or an invariant broke. Nothing unsaved was confirmed.
        """
        loop = asyncio.get_running_loop()
        saving: asyncio.Task[None] | None = None
        tick = loop.time()
        while not self._stopping.is_set():
            tick = max(tick + self._slot_seconds, loop.time())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), tick - loop.time())
            if saving is not None and (saving.done() or self._chain.unstored_blocks >= UNSTORED_BLOCKS_MAX):
                await saving
            if self._leaving_course:
                async with self._disk:
                    pass
            self._raise_if_broken()
            if self._stopping.is_set() or not self._held():
                self._pending.append(self._close_slot())
            if self._pending and (saving is None or saving.done()):
                saving = asyncio.create_task(self._save())
        if saving is not None:
            await saving
        await self._save()

    def stop(self) -> None:
        """Let `run()` close the open slot, store it and return."""
        self._stopping.set()

    def hold_slots_while(self, held: Callable[[], bool]) -> None:
        """Let no slot end while `held()`."""
        self._held = held

    async def skip_slots(self, slots: int) -> int:
        """Close the open slot and leave that many slots after it without a block.

        Returns:
            The slot that is open now.
        """
        async with self._off_course():
            chain = self._chain
            open_slot = chain.open_slot + 1 + slots
            await self.store.leave_course(chain.tip, Detour(open_slot, chain.finalized.height))
            self._pending.append(self._close_slot())
            chain.skip_to(open_slot)
            self._begin_slot()
            return open_slot

    async def fork(self, depth_blocks: int) -> list[Signature]:
        """Undo the open slot and the newest blocks, as if the cluster had taken another fork, and go on from there.

        Slots go upward all the same, so that no hash of an undone block ever comes again.

        Returns:
            The transactions that have not happened any more, in the order in which they had.

        Raises:
            RpcError: -32602 when that many blocks are not there or are final.
        """
        async with self._off_course():
            chain = self._chain
            depth_max = chain.tip.height - chain.finalized.height
            if depth_blocks > depth_max:
                raise invalid_params(f"Invalid params: depth must be at most {depth_max} now: older blocks are final")
            kept = chain.block_at(chain.tip.height - depth_blocks)
            slot = chain.open_slot + 1
            await self.store.leave_course(kept, Detour(slot, chain.finalized.height))
            return self._undo(kept, slot)

    # Reads: a view without a sight is that of a node in good order.

    def view(self, commitment: Commitment, sight: Sight | None = None) -> View:
        return self._chain.view(commitment, len(self._slot.transactions), sight)

    @property
    def sight(self) -> Sight:
        """How far a node in good order sees now."""
        return self._chain.sight

    def slot_at(self, height: int) -> int:
        """The slot of the block at `height`, or of the oldest of the last blocks."""
        return self._chain.slot_at(height)

    def account(self, key: Pubkey, view: View) -> Account | None:
        return self._accounts.at(key, view.slot)

    def program_accounts(self, program: Pubkey, view: View) -> list[tuple[Pubkey, Account]]:
        return self._accounts.owned_by(program, view.slot)

    def status(self, signature: Signature, view: View, blocks: int = STATUS_BLOCKS_MAX) -> Status | None:
        """A transaction of the last `blocks` blocks that `view` knows."""
        status = self._statuses.get(signature)
        if status is None or status.slot > view.slot or status.height < view.height - blocks:
            return None
        return status

    def blockhash_is_valid(self, blockhash: Hash, view: View) -> bool:
        return self._chain.blockhash_is_valid(blockhash, view)

    def rent_exempt_minimum(self, data_bytes: int) -> int:
        return self._engine.rent_exempt_minimum(data_bytes)

    def recent_prices(self, view: View) -> Sequence[BlockPrices]:
        return [prices for prices in self._prices if prices.slot < view.slot][-PRIORITIZATION_BLOCKS_MAX:]

    # Transactions.

    def sanitize(self, transaction: VersionedTransaction, view: View) -> Sanitized:
        """Raises RpcError -32602; see `transactions.sanitize`."""
        return sanitize(
            transaction, lambda key: self._accounts.at(key, view.slot), view.slot, self._chain.recent_slots(view)
        )

    def simulate(self, transaction: Sanitized, view: View) -> Simulation:
        """Run the transaction on the state of `view`, without effect."""
        try:
            self._check(transaction, view)
        except TransactionRejected as rejected:
            return Simulation(rejected.error, None, {})
        overlay: dict[Pubkey, Account | None] = {}
        for key in transaction.keys:
            if self._accounts.changed_since(key, view.slot):
                earlier = self._accounts.at(key, view.slot)
                if earlier is None and _is_program_part(self._accounts.current(key)):
                    return Simulation("ProgramAccountNotFound", None, {})
                if not _is_program_part(earlier) and not _is_program_part(self._accounts.current(key)):
                    overlay[key] = earlier
        outcome, posts = self._engine.simulate(transaction.transaction, overlay)
        return Simulation(self._explain(outcome.error, transaction), outcome, posts)

    def fee_for_message(self, message: SupportedMessage, view: View) -> int | None:
        """Lamports that the message would cost, or None when its blockhash is not valid in `view`.

        Raises:
            RpcError: -32602 for a malformed message.
        """
        signatures = [Signature.default()] * message.header.num_required_signatures
        transaction = self.sanitize(VersionedTransaction.populate(message, signatures), view)
        if not self.blockhash_is_valid(message.recent_blockhash, view):
            return None
        return self._engine.simulate(transaction.transaction, {})[0].fee

    async def submit(self, transaction: VersionedTransaction) -> None:
        """Execute the transaction in the open slot; a failure on chain is recorded and pays its fee.

        Raises:
            TransactionRejected: it cannot land, and left no trace.
            RpcError: -32602, as `sanitize`.
        """
        if not signatures_are_valid(transaction):
            raise TransactionRejected("SignatureFailure")
        while len(self._slot.transactions) >= SLOT_TRANSACTIONS_MAX:
            await self._slot.closed.wait()
        self._execute(self.sanitize(transaction, self.view("processed")))

    async def airdrop(self, recipient: Pubkey, lamports: int, blockhash: Hash) -> Signature:
        """Transfer lamports from the faucet.

        Raises:
            RpcError: -32603 when the faucet does not hold that much.
            TransactionRejected: the blockhash is not valid.
        """
        held = self._engine.balance(self.faucet.pubkey())
        if lamports >= held:
            raise RpcError(INTERNAL_ERROR, f"the faucet holds {held} lamports, less than the {lamports} requested")
        pay = transfer(TransferParams(from_pubkey=self.faucet.pubkey(), to_pubkey=recipient, lamports=lamports))
        for _ in range(_AIRDROP_ATTEMPTS_MAX):
            # Two equal requests would make one and the same transaction; the unit limit tells them apart, at no cost.
            self._airdrops += 1
            units = _AIRDROP_UNITS_MIN + self._airdrops % _AIRDROP_UNITS_SPAN
            message = Message.new_with_blockhash([set_compute_unit_limit(units), pay], self.faucet.pubkey(), blockhash)
            transaction = VersionedTransaction(message, [self.faucet])
            if transaction.signatures[0] not in self._statuses:
                await self.submit(transaction)
                return transaction.signatures[0]
        raise RpcError(INTERNAL_ERROR, "the faucet has served this request too often; take a newer blockhash")

    def _check(self, transaction: Sanitized, view: View) -> None:
        check_locks(transaction)
        if not self._chain.blockhash_is_valid(transaction.message.recent_blockhash, view):
            raise TransactionRejected("BlockhashNotFound")
        status = self._statuses.get(transaction.signature)
        if status is not None:
            if status.slot <= view.slot:
                raise TransactionRejected("AlreadyProcessed")
        elif transaction.message_hash in self._message_hashes:
            # Ed25519 admits several signatures of one message by its signer: the message counts, too.
            raise TransactionRejected("AlreadyProcessed")

    def _execute(self, transaction: Sanitized) -> None:
        self._check(transaction, self.view("processed"))
        slot = self._chain.open_slot
        writable = transaction.writable_keys
        before = {key: self._accounts.current(key) for key in writable}
        pre_balances = [
            _lamports(before[key]) if key in before else self._engine.balance(key) for key in transaction.keys
        ]
        outcome = self._engine.execute(transaction.transaction)
        after = {key: self._engine.account(key) for key in writable}
        payer = transaction.payer
        if outcome.error is not None and _lamports(after[payer]) == _lamports(before[payer]):
            raise TransactionRejected(self._explain(outcome.error, transaction) or outcome.error)
        post_balances = [
            _lamports(after[key]) if key in after else self._engine.balance(key) for key in transaction.keys
        ]
        if sum(pre_balances) - sum(post_balances) != outcome.fee:
            self._broken = LedgerUnusable(
                f"transaction {transaction.signature} did not conserve lamports; report it with the database"
            )
            raise RpcError(INTERNAL_ERROR, str(self._broken))
        for key in writable:
            self._write(key, slot, before[key], after[key])
        self._record(transaction, outcome, pre_balances, post_balances)

    def _write(self, key: Pubkey, slot: int, before: Account | None, after: Account | None) -> None:
        self._accounts.record(key, slot, before, after)
        self._slot.accounts[key] = after

    def _record(
        self, transaction: Sanitized, outcome: Outcome, pre_balances: Sequence[int], post_balances: Sequence[int]
    ) -> None:
        slot = self._slot
        slot.transactions.append(
            StoredTransaction(
                signature=bytes(transaction.signature),
                slot=self._chain.open_slot,
                position=len(slot.transactions),
                unix_time=self._unix_time,
                wire=bytes(transaction.transaction),
                error=outcome.error,
                meta=meta_json(transaction, outcome, pre_balances, post_balances),
            )
        )
        slot.addresses.append(transaction.keys)
        slot.message_hashes.append(transaction.message_hash)
        slot.fees += outcome.fee
        price = transaction.compute_unit_price
        slot.block_price = price if slot.block_price is None else min(price, slot.block_price)
        for key in transaction.writable_keys:
            slot.account_prices[key] = min(price, slot.account_prices.get(key, price))
        self._statuses[transaction.signature] = Status(self._chain.open_slot, self._chain.open_height, outcome.error)
        self._message_hashes.add(transaction.message_hash)

    def _explain(self, error: TransactionError | None, transaction: Sanitized) -> TransactionError | None:
        """LiteSVM reports a program that does not exist as one that may not be executed."""
        if error == "InvalidProgramForExecution":
            programs = {transaction.keys[entry.program_id_index] for entry in transaction.message.instructions}
            if any(self._engine.account(program) is None for program in programs):
                return "ProgramAccountNotFound"
        return error

    # Slots.

    def _begin_slot(self) -> None:
        slot = self._chain.open_slot
        tip = self._chain.tip
        epoch = epoch_of(slot)
        # Clocks of hosts go backwards, a cluster's does not.
        self._unix_time = max(int(time.time()), tip.unix_time)
        self._epoch_start_time = tip.epoch_start_time if epoch == epoch_of(tip.slot) else self._unix_time
        self._engine.begin_slot(
            Clock(slot, self._epoch_start_time, epoch, epoch + 1, self._unix_time), self._chain.slot_hashes()
        )

    def _raise_if_broken(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _close_slot(self) -> SlotWrites:
        chain, slot = self._chain, self._slot
        if slot.fees:
            leader = self._accounts.current(self._leader)
            lamports = _lamports(leader) + slot.fees
            self._engine.set_account(self._leader, Account(lamports, b"", SYSTEM_PROGRAM))
            self._write(self._leader, chain.open_slot, leader, self._engine.account(self._leader))
        block = Block(
            slot=chain.open_slot,
            height=chain.open_height,
            blockhash=next_blockhash(
                chain.tip.blockhash, chain.open_slot, (landed.signature for landed in slot.transactions)
            ),
            unix_time=self._unix_time,
            epoch_start_time=self._epoch_start_time,
            transaction_count=chain.tip.transaction_count + len(slot.transactions),
        )
        chain.complete(block)
        self._unrooted.append((block.height, block.slot, list(slot.accounts)))
        self._remember([Signature(landed.signature) for landed in slot.transactions], slot.message_hashes)
        self._prices.append(BlockPrices(block.slot, slot.block_price or 0, slot.account_prices))
        rooted: list[tuple[int, list[Pubkey]]] = []
        while self._unrooted[0][0] <= block.height - FINALIZED_DEPTH_BLOCKS:
            rooted.append(self._unrooted.popleft()[1:])
        self._slot = OpenSlot()
        self._begin_slot()
        slot.closed.set()
        return SlotWrites(block, slot.accounts, slot.transactions, slot.addresses, rooted)

    async def _save(self) -> None:
        async with self._disk:
            await self._save_pending()

    async def _save_pending(self) -> None:
        while self._pending:
            slots, self._pending = self._pending, []
            await self.store.commit(slots)
            for writes in slots:
                self._chain.stored(writes.block.height)
                self._rooted.extend(writes.rooted)
            while len(self._rooted) > self._hindsight_blocks:
                slot, keys = self._rooted.popleft()
                self._accounts.root(keys, slot)

    @contextlib.asynccontextmanager
    async def _off_course(self) -> AsyncGenerator[None]:
        """No slot ends meanwhile, and every closed one is on disk. One at a time.

        `RpcError` is for what is refused before anything has changed. After any other error memory may be on another course than the
        disk, so that what would be written next would not fit: the ledger does not go on.
        """
        async with self._disk:
            self._leaving_course = True
            try:
                await self._save_pending()
                yield
            except RpcError:
                raise
            except LedgerUnusable as error:
                self._broken = error
                raise
            except BaseException as error:  # a panic of the engine is no `Exception`
                self._broken = LedgerUnusable(f"leaving the course of the chain broke down ({error!r}); start it again")
                raise
            finally:
                self._leaving_course = False

    def _undo(self, kept: Block, slot: int) -> list[Signature]:
        chain, abandoned = self._chain, self._slot
        landed = [self._landed_by_block.pop() for _ in range(chain.tip.height - kept.height)]
        landed.reverse()
        landed.append(([Signature(entry.signature) for entry in abandoned.transactions], abandoned.message_hashes))
        undone: list[Signature] = []
        for signatures, message_hashes in landed:
            undone += signatures
            self._message_hashes.difference_update(message_hashes)
        for signature in undone:
            del self._statuses[signature]
        while self._unrooted and self._unrooted[-1][0] > kept.height:
            self._unrooted.pop()
        while self._prices and self._prices[-1].slot > kept.slot:
            self._prices.pop()
        restored = self._accounts.undo(kept.slot)
        if any(_is_program_part(account) or _is_program_part(self._engine.account(key)) for key, account in restored):
            self._engine.start_over(self._stored_accounts())
        else:
            self._engine.load(restored)
        chain.undo(kept.height, slot)
        self._slot = OpenSlot()
        self._begin_slot()
        abandoned.closed.set()
        return undone

    def _remember(self, signatures: list[Signature], message_hashes: list[Hash]) -> None:
        self._landed_by_block.append((signatures, message_hashes))
        if len(self._landed_by_block) > STATUS_BLOCKS_MAX + self._hindsight_blocks:
            old_signatures, old_hashes = self._landed_by_block.popleft()
            for signature in old_signatures:
                del self._statuses[signature]
            self._message_hashes.difference_update(old_hashes)

    # Restoring.

    def _stored_accounts(self) -> Iterator[tuple[Pubkey, Account]]:
        for key, versions in self.store.accounts():
            account = versions[-1].account
            if account is not None:
                yield key, account

    def _restore_accounts(self) -> None:
        root = self._chain.finalized
        changed: dict[int, list[Pubkey]] = {}
        newest: list[tuple[Pubkey, Account]] = []
        for key, versions in self.store.accounts():
            unrooted = [version.slot for version in versions if version.slot > root.slot]
            if unrooted:
                self._accounts.restore(key, versions)
                for slot in unrooted:
                    changed.setdefault(slot, []).append(key)
            account = versions[-1].account
            if account is not None:
                newest.append((key, account))
        self._engine.load(newest)
        for block in self._chain.blocks:
            if block.height > root.height:
                self._unrooted.append((block.height, block.slot, changed.get(block.slot, [])))

    def _restore_statuses(self) -> None:
        blocks = list(self._chain.blocks)[-STATUS_BLOCKS_MAX - self._hindsight_blocks :]
        landed: dict[int, tuple[list[Signature], list[Hash]]] = {block.slot: ([], []) for block in blocks}
        heights = {block.slot: block.height for block in blocks}
        for stored in self.store.landed_since(blocks[0].slot):
            signature = Signature(stored.signature)
            message_hash = VersionedTransaction.from_bytes(stored.wire).message.hash()
            self._statuses[signature] = Status(stored.slot, heights[stored.slot], stored.error)
            self._message_hashes.add(message_hash)
            landed[stored.slot][0].append(signature)
            landed[stored.slot][1].append(message_hash)
        self._landed_by_block.extend(landed.values())


def _create(store: Store) -> Genesis:
    """A new ledger: random keys and genesis hash, money at the faucet, and the first blocks."""
    faucet, leader = Keypair(), Keypair().pubkey()
    genesis = Genesis(Hash(secrets.token_bytes(Hash.LENGTH)), faucet, leader)
    now = int(time.time())
    blocks = [Block(0, 0, genesis.genesis_hash, now, now, 0)]
    for slot in range(1, GENESIS_BLOCKS + 1):
        blocks.append(Block(slot, slot, next_blockhash(blocks[-1].blockhash, slot, ()), now, now, 0))
    store.create(
        genesis,
        blocks,
        {
            faucet.pubkey(): Account(FAUCET_LAMPORTS, b"", SYSTEM_PROGRAM),
            leader: Account(LEADER_LAMPORTS, b"", SYSTEM_PROGRAM),
        },
    )
    return genesis


def _lamports(account: Account | None) -> int:
    return 0 if account is None else account.lamports


def _is_program_part(account: Account | None) -> bool:
    """Executables and their data: the engine compiles them when set, so they are never swapped for a simulation."""
    return account is not None and (account.executable or account.owner == UPGRADEABLE_LOADER)
