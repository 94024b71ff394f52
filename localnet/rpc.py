"""The JSON-RPC methods, with Solana's shapes, defaults, bounds and error codes.

Each method reads what its node shows at the commitment that it was asked for; none of them changes state except through
`Node.forward` and `Node.airdrop`. Source: solana-docs "RPC HTTP methods", agave `rpc/src/rpc.rs`.
"""

import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import base58
import structlog
from solders.account import Account
from solders.message import Message, MessageV0
from solders.transaction import VersionedTransaction

from . import params as parse
from .chain import SLOTS_PER_EPOCH, Commitment, View, epoch_of, last_valid_block_height
from .encoding import (
    AccountEncoding,
    DataSlice,
    JsonObject,
    TransactionEncoding,
    account_json,
    inner_instructions_json,
    simulation_json,
    status_json,
    transaction_json,
)
from .errors import (
    MIN_CONTEXT_SLOT_NOT_REACHED,
    PREFLIGHT_FAILURE,
    RpcError,
    TransactionError,
    TransactionRejected,
    describe,
    invalid_params,
)
from .node import Node
from .params import Config, Params
from .transactions import Encoding, check_signatures, parse_message, parse_transaction

SOLANA_CORE_VERSION: Final = "3.0.0"
"""The release whose shapes and messages these methods follow."""
SIGNATURE_STATUSES_MAX: Final = 256
MULTIPLE_ACCOUNTS_MAX: Final = 100
PRIORITIZATION_ACCOUNTS_MAX: Final = 128
SIGNATURES_FOR_ADDRESS_MAX: Final = 1_000
PROGRAM_ACCOUNT_FILTERS_MAX: Final = 4
MEMCMP_BYTES_MAX: Final = 128
ACCOUNT_DATA_BYTES_MAX: Final = 10 * 1024 * 1024

_COMMITMENTS: Final[tuple[Commitment, ...]] = ("processed", "confirmed", "finalized")
_WIRE_ENCODINGS: Final[tuple[Encoding, ...]] = ("base58", "base64")
_TRANSACTION_ENCODINGS: Final[tuple[TransactionEncoding, ...]] = ("json", "base58", "base64")
_ACCOUNT_ENCODINGS: Final[tuple[AccountEncoding, ...]] = ("binary", "base58", "base64", "jsonParsed")

AccountFilter: TypeAlias = Callable[[bytes], bool]

_log = structlog.get_logger("localnet.rpc")


class Rpc:
    """One request's methods, answered by one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    # The node and its chain.

    async def get_health(self, _: Params) -> str:
        return "ok"

    async def get_version(self, _: Params) -> JsonObject:
        # Clients pass over the last member; Croupier allows here what is unsafe where anything is worth something.
        return {"solana-core": SOLANA_CORE_VERSION, "feature-set": None, "croupier-localnet": True}

    async def get_first_available_block(self, _: Params) -> int:
        return self._node.first_available_slot

    async def get_genesis_hash(self, _: Params) -> str:
        return str(self._node.genesis_hash)

    async def get_slot(self, params: Params) -> int:
        return self._view(params.config(0)).slot

    async def get_block_height(self, params: Params) -> int:
        return self._view(params.config(0)).height

    async def get_transaction_count(self, params: Params) -> int:
        return self._view(params.config(0)).transaction_count

    async def get_epoch_info(self, params: Params) -> JsonObject:
        view = self._view(params.config(0))
        return {
            "absoluteSlot": view.slot,
            "blockHeight": view.height,
            "epoch": epoch_of(view.slot),
            "slotIndex": view.slot % SLOTS_PER_EPOCH,
            "slotsInEpoch": SLOTS_PER_EPOCH,
            "transactionCount": view.transaction_count,
        }

    async def get_latest_blockhash(self, params: Params) -> JsonObject:
        view = self._view(params.config(0))
        return _in_context(view, _blockhash_json(view))

    async def is_blockhash_valid(self, params: Params) -> JsonObject:
        blockhash = parse.blockhash(params.text(0))
        view = self._view(params.config(1))
        return _in_context(view, self._node.blockhash_is_valid(blockhash, view))

    async def get_minimum_balance_for_rent_exemption(self, params: Params) -> int:
        data_bytes = params.integer(0)
        if data_bytes > ACCOUNT_DATA_BYTES_MAX:
            raise invalid_params(f"Invalid params: an account holds at most {ACCOUNT_DATA_BYTES_MAX} bytes")
        return self._node.rent_exempt_minimum(data_bytes)

    async def get_fee_for_message(self, params: Params) -> JsonObject:
        message = parse_message(params.text(0))
        view = self._view(params.config(1))
        return _in_context(view, self._node.fee_for_message(message, view))

    async def get_recent_prioritization_fees(self, params: Params) -> list[JsonObject]:
        keys = params.items_or_none(0)
        if len(keys) > PRIORITIZATION_ACCOUNTS_MAX:
            raise invalid_params(f"Too many inputs provided; max {PRIORITIZATION_ACCOUNTS_MAX}")
        accounts = [parse.pubkey(key) for key in keys]
        return [
            {
                "slot": prices.slot,
                "prioritizationFee": max(
                    (prices.account_min.get(account, 0) for account in accounts), default=prices.block_min
                ),
            }
            for prices in self._node.recent_prices()
        ]

    # Accounts.

    async def get_balance(self, params: Params) -> JsonObject:
        key = parse.pubkey(params.text(0))
        view = self._view(params.config(1))
        account = self._node.account(key, view)
        return _in_context(view, 0 if account is None else account.lamports)

    async def get_account_info(self, params: Params) -> JsonObject:
        key = parse.pubkey(params.text(0))
        config = params.config(1)
        view = self._view(config)
        render = _account_renderer(config, "binary")
        return _in_context(view, render(self._node.account(key, view)))

    async def get_multiple_accounts(self, params: Params) -> JsonObject:
        keys = params.items(0)
        if len(keys) > MULTIPLE_ACCOUNTS_MAX:
            raise invalid_params(f"Too many inputs provided; max {MULTIPLE_ACCOUNTS_MAX}")
        accounts = [parse.pubkey(key) for key in keys]
        config = params.config(1)
        view = self._view(config)
        render = _account_renderer(config, "base64")
        return _in_context(view, [render(self._node.account(key, view)) for key in accounts])

    async def get_program_accounts(self, params: Params) -> Any:
        program = parse.pubkey(params.text(0))
        config = params.config(1)
        filters = [_account_filter(Config(entry)) for entry in _filter_entries(config)]
        view = self._view(config)
        render = _account_renderer(config, "binary")
        accounts: list[JsonObject] = []
        for key, account in self._node.program_accounts(program, view):
            data = account.data if filters else b""
            if all(accepts(data) for accepts in filters):
                accounts.append({"pubkey": str(key), "account": render(account)})
        return _in_context(view, accounts) if config.flag("withContext") else accounts

    # Transactions.

    async def get_signature_statuses(self, params: Params) -> JsonObject:
        entries = params.items(0)
        if len(entries) > SIGNATURE_STATUSES_MAX:
            raise invalid_params(f"Too many inputs provided; max {SIGNATURE_STATUSES_MAX}")
        signatures = [parse.signature(entry) for entry in entries]
        search = params.config(1).flag("searchTransactionHistory")
        if search:
            self._node.check_history()
        # One moment for all: what lands while the history is searched must not appear under this context's slot.
        view = self._node.view("processed")
        confirmed, finalized = self._node.view("confirmed"), self._node.view("finalized")
        found = [self._node.status(signature, view) for signature in signatures]
        statuses: list[JsonObject | None] = []
        for signature, status in zip(signatures, found, strict=True):
            if status is not None:
                level = _level(status.slot, confirmed, finalized)
                confirmations = None if level == "finalized" else view.height - status.height
                statuses.append(_status_json(status.slot, confirmations, status.error, level))
            elif search:
                stored = await self._node.transaction(signature, finalized)
                statuses.append(None if stored is None else _status_json(stored.slot, None, stored.error, "finalized"))
            else:
                statuses.append(None)
        return _in_context(view, statuses)

    async def get_transaction(self, params: Params) -> JsonObject | None:
        signature = parse.signature(params.text(0))
        config = params.config_or_encoding(1)
        encoding: TransactionEncoding = config.choice("encoding", _TRANSACTION_ENCODINGS, "json")
        version_max = config.integer("maxSupportedTransactionVersion")
        view = self._confirmed_view(config)
        self._node.check_history()
        stored = await self._node.transaction(signature, view)
        if stored is None:
            return None
        return {
            "slot": stored.slot,
            "blockTime": stored.unix_time,
            "meta": stored.meta,
            **transaction_json(stored.wire, encoding, version_max),
        }

    async def get_signatures_for_address(self, params: Params) -> list[JsonObject]:
        address = parse.pubkey(params.text(0))
        config = params.config(1)
        before, until = config.text("before"), config.text("until")
        limit = config.integer("limit")
        if limit is None:
            limit = SIGNATURES_FOR_ADDRESS_MAX
        if not 1 <= limit <= SIGNATURES_FOR_ADDRESS_MAX:
            raise invalid_params(f"Invalid limit; max {SIGNATURES_FOR_ADDRESS_MAX}")
        view = self._confirmed_view(config)
        self._node.check_history()
        finalized = self._node.view("finalized")
        history = await self._node.address_history(
            address,
            view,
            None if before is None else bytes(parse.signature(before)),
            None if until is None else bytes(parse.signature(until)),
            limit,
        )
        return [
            {
                "signature": base58.b58encode(stored.signature).decode(),
                "slot": stored.slot,
                "err": stored.error,
                "memo": None,
                "blockTime": stored.unix_time,
                "confirmationStatus": "finalized" if stored.slot <= finalized.slot else "confirmed",
            }
            for stored in history
        ]

    async def request_airdrop(self, params: Params) -> str:
        recipient = parse.pubkey(params.text(0))
        lamports = params.integer(1)
        config = params.config(2)
        given = config.text("recentBlockhash")
        blockhash = self._view(config).blockhash if given is None else parse.blockhash(given)
        try:
            return str(await self._node.airdrop(recipient, lamports, blockhash))
        except TransactionRejected as rejected:
            raise _preflight_failure(rejected.error, simulation_json(rejected.error, None, None, None)) from rejected

    async def send_transaction(self, params: Params) -> str:
        encoded = params.text(0)
        config = params.config(1)
        skip_preflight = config.flag("skipPreflight")
        transaction = parse_transaction(encoded, config.choice("encoding", _WIRE_ENCODINGS, "base58"))
        view = self._view(config, "processed" if skip_preflight else _commitment(config, "preflightCommitment"))
        sanitized = self._node.sanitize(transaction, view)
        if not skip_preflight:
            check_signatures(transaction)
            simulation = self._node.simulate(sanitized, view)
            if simulation.error is not None:
                data = simulation_json(simulation.error, simulation.outcome, None, None)
                raise _preflight_failure(simulation.error, data)
        try:
            await self._node.forward(sanitized)
        except TransactionRejected as rejected:
            # A cluster forwards what passed its checks and drops it without a word when it cannot land.
            _log.info("dropped", signature=str(sanitized.signature), reason=str(rejected))
        return str(sanitized.signature)

    async def simulate_transaction(self, params: Params) -> JsonObject:
        encoded = params.text(0)
        config = params.config(1)
        transaction = parse_transaction(encoded, config.choice("encoding", _WIRE_ENCODINGS, "base58"))
        view = self._view(config)
        verify, replace = config.flag("sigVerify"), config.flag("replaceRecentBlockhash")
        if verify and replace:
            raise invalid_params("sigVerify may not be used with replaceRecentBlockhash")
        replacement: JsonObject | None = None
        if replace:
            replacement = _blockhash_json(view)
            transaction = _with_blockhash(transaction, view)
        sanitized = self._node.sanitize(transaction, view)
        if verify:
            check_signatures(transaction)
        wanted = config.nested("accounts")
        addresses = [parse.pubkey(entry) for entry in wanted.items("addresses")] if wanted is not None else []
        if len(addresses) > len(sanitized.keys):
            raise invalid_params(f"Too many accounts provided; max {len(sanitized.keys)}")
        render = _account_renderer(wanted or Config({}), "base64")
        simulation = self._node.simulate(sanitized, view)
        accounts: list[JsonObject | None] | None = None
        if wanted is not None:
            accounts = [
                None
                if simulation.error is not None
                else render(simulation.post_accounts.get(key) or self._node.account(key, view))
                for key in addresses
            ]
        value = simulation_json(simulation.error, simulation.outcome, accounts, replacement)
        if config.flag("innerInstructions") and simulation.outcome is not None:
            value["innerInstructions"] = inner_instructions_json(simulation.outcome)
        return _in_context(view, value)

    # Contexts.

    def _view(self, config: Config, commitment: Commitment | None = None) -> View:
        """The ledger at the asked commitment.

        Raises:
            RpcError: -32016 when it has not reached `minContextSlot`.
        """
        view = self._node.view(commitment or _commitment(config, "commitment"))
        slot_min = config.integer("minContextSlot")
        if slot_min is not None and view.slot < slot_min:
            raise RpcError(
                MIN_CONTEXT_SLOT_NOT_REACHED,
                "Minimum context slot has not been reached",
                {"contextSlot": view.slot},
            )
        return view

    def _confirmed_view(self, config: Config) -> View:
        if _commitment(config, "commitment") == "processed":
            raise invalid_params("Method does not support commitment below `confirmed`")
        return self._view(config)


METHODS: Final[Mapping[str, Callable[[Rpc, Params], Awaitable[Any]]]] = {
    "getAccountInfo": Rpc.get_account_info,
    "getBalance": Rpc.get_balance,
    "getBlockHeight": Rpc.get_block_height,
    "getEpochInfo": Rpc.get_epoch_info,
    "getFeeForMessage": Rpc.get_fee_for_message,
    "getFirstAvailableBlock": Rpc.get_first_available_block,
    "getGenesisHash": Rpc.get_genesis_hash,
    "getHealth": Rpc.get_health,
    "getLatestBlockhash": Rpc.get_latest_blockhash,
    "getMinimumBalanceForRentExemption": Rpc.get_minimum_balance_for_rent_exemption,
    "getMultipleAccounts": Rpc.get_multiple_accounts,
    "getProgramAccounts": Rpc.get_program_accounts,
    "getRecentPrioritizationFees": Rpc.get_recent_prioritization_fees,
    "getSignatureStatuses": Rpc.get_signature_statuses,
    "getSignaturesForAddress": Rpc.get_signatures_for_address,
    "getSlot": Rpc.get_slot,
    "getTransaction": Rpc.get_transaction,
    "getTransactionCount": Rpc.get_transaction_count,
    "getVersion": Rpc.get_version,
    "isBlockhashValid": Rpc.is_blockhash_valid,
    "requestAirdrop": Rpc.request_airdrop,
    "sendTransaction": Rpc.send_transaction,
    "simulateTransaction": Rpc.simulate_transaction,
}


def _commitment(config: Config, name: str) -> Commitment:
    return config.choice(name, _COMMITMENTS, "finalized")


def _in_context(view: View, value: Any) -> JsonObject:
    return {"context": {"slot": view.slot, "apiVersion": SOLANA_CORE_VERSION}, "value": value}


def _blockhash_json(view: View) -> JsonObject:
    return {
        "blockhash": str(view.blockhash),
        "lastValidBlockHeight": last_valid_block_height(view.blockhash_height),
    }


def _preflight_failure(error: TransactionError, data: JsonObject) -> RpcError:
    return RpcError(PREFLIGHT_FAILURE, f"Transaction simulation failed: {describe(error)}", data)


def _level(slot: int, confirmed: View, finalized: View) -> Commitment:
    if slot <= finalized.slot:
        return "finalized"
    return "confirmed" if slot <= confirmed.slot else "processed"


def _status_json(slot: int, confirmations: int | None, error: Any, level: Commitment) -> JsonObject:
    return {
        "slot": slot,
        "confirmations": confirmations,
        "err": error,
        "status": status_json(error),
        "confirmationStatus": level,
    }


def _with_blockhash(transaction: VersionedTransaction, view: View) -> VersionedTransaction:
    """The same transaction on the view's blockhash, its signatures no longer valid."""
    message = transaction.message
    if isinstance(message, Message):
        header = message.header
        replaced: Message | MessageV0 = Message.new_with_compiled_instructions(
            header.num_required_signatures,
            header.num_readonly_signed_accounts,
            header.num_readonly_unsigned_accounts,
            message.account_keys,
            view.blockhash,
            message.instructions,
        )
    elif isinstance(message, MessageV0):
        replaced = MessageV0(
            message.header, message.account_keys, view.blockhash, message.instructions, message.address_table_lookups
        )
    else:
        raise TypeError("only legacy and v0 messages pass parse_transaction")
    return VersionedTransaction.populate(replaced, transaction.signatures)


def _account_renderer(config: Config, default: AccountEncoding) -> Callable[[Account | None], JsonObject | None]:
    encoding: AccountEncoding = config.choice("encoding", _ACCOUNT_ENCODINGS, default)
    data_slice = _data_slice(config)
    return lambda account: None if account is None else account_json(account, encoding, data_slice)


def _data_slice(config: Config) -> DataSlice | None:
    wanted = config.nested("dataSlice")
    if wanted is None:
        return None
    offset, length = wanted.integer("offset"), wanted.integer("length")
    if offset is None or length is None:
        raise invalid_params("Invalid params: dataSlice needs offset and length")
    return offset, length


def _filter_entries(config: Config) -> list[dict[str, Any]]:
    entries = config.items("filters")
    if len(entries) > PROGRAM_ACCOUNT_FILTERS_MAX:
        raise invalid_params(f"Too many filters provided; max {PROGRAM_ACCOUNT_FILTERS_MAX}")
    if not all(isinstance(entry, dict) for entry in entries):
        raise invalid_params("Invalid params: a filter must be an object")
    return entries


def _account_filter(config: Config) -> AccountFilter:
    size = config.integer("dataSize")
    if size is not None:
        return lambda data: len(data) == size
    memcmp = config.nested("memcmp")
    if memcmp is None:
        raise invalid_params("Invalid params: a filter must be dataSize or memcmp")
    offset, text = memcmp.integer("offset"), memcmp.text("bytes")
    if offset is None or text is None:
        raise invalid_params("Invalid params: memcmp needs offset and bytes")
    encoding = memcmp.choice("encoding", _WIRE_ENCODINGS, "base58")
    if len(text) > 2 * MEMCMP_BYTES_MAX:
        raise invalid_params(f"Invalid param: encoded binary data should be less than {MEMCMP_BYTES_MAX} bytes")
    try:
        wanted = base58.b58decode(text) if encoding == "base58" else base64.b64decode(text, validate=True)
    except ValueError as error:
        raise invalid_params("Invalid param: data decoding error") from error
    if len(wanted) > MEMCMP_BYTES_MAX:
        raise invalid_params(f"Invalid param: encoded binary data should be less than {MEMCMP_BYTES_MAX} bytes")
    return lambda data: data[offset : offset + len(wanted)] == wanted
