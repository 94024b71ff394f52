"""From wire bytes to a sanitized transaction: sizes, signatures, address lookup tables, account locks.

Nothing here changes state, and nothing here may be laxer than a cluster: a transaction that a validator refuses must
be refused here for the same reason, or the bug shows only on mainnet.

Sources: agave `rpc/src/rpc.rs` (`decode_and_deserialize`, `sanitize_transaction`), solana-sdk `packet`,
`address-lookup-table-interface/src/state.rs`, `compute-budget-interface`.
"""

import base64
import binascii
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import base58
from solders.account import Account
from solders.address_lookup_table_account import AddressLookupTable
from solders.compute_budget import ID as COMPUTE_BUDGET_ID
from solders.hash import Hash
from solders.message import Message, MessageV0, from_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import SanitizeError, VersionedTransaction

from .errors import SIGNATURE_VERIFICATION_FAILURE, RpcError, TransactionRejected, describe, invalid_params

PACKET_BYTES_MAX: Final = 1232
"""IPv6's minimum MTU less headers: what one transaction may occupy on the wire."""
ENCODED_CHARS_MAX: Final = {"base58": 1683, "base64": 1644}
"""The longest encodings of `PACKET_BYTES_MAX` bytes."""
ACCOUNT_LOCKS_MAX: Final = 64
"""Accounts that one transaction may name, those from lookup tables included."""

LOOKUP_TABLE_PROGRAM: Final = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
_NEVER_DEACTIVATED: Final = 2**64 - 1
_SET_COMPUTE_UNIT_PRICE: Final = struct.Struct("<BQ")
_SET_COMPUTE_UNIT_PRICE_TAG: Final = 3

Encoding: TypeAlias = Literal["base58", "base64"]
SupportedMessage: TypeAlias = Message | MessageV0


@dataclass(frozen=True, slots=True)
class Sanitized:
    """A well-formed transaction with its lookup tables resolved; its signatures are not checked by this."""

    transaction: VersionedTransaction
    message: SupportedMessage
    signature: Signature
    message_hash: Hash
    keys: tuple[Pubkey, ...]
    """Every account: the static keys, then the writable loaded ones, then the read-only loaded ones."""
    loaded_writable: tuple[Pubkey, ...]
    loaded_readonly: tuple[Pubkey, ...]

    @property
    def payer(self) -> Pubkey:
        return self.keys[0]

    @property
    def writable_keys(self) -> list[Pubkey]:
        """The accounts that the transaction locks for writing."""
        static = self.message.account_keys
        header = self.message.header
        signers_writable = header.num_required_signatures - header.num_readonly_signed_accounts
        others_writable = len(static) - header.num_readonly_unsigned_accounts
        return [
            *static[:signers_writable],
            *static[header.num_required_signatures : others_writable],
            *self.loaded_writable,
        ]

    @property
    def compute_unit_price(self) -> int:
        """The priority price in micro-lamports per compute unit; 0 when none is set."""
        for instruction in self.message.instructions:
            program = self.keys[instruction.program_id_index]
            data = instruction.data
            if (
                program == COMPUTE_BUDGET_ID
                and len(data) == _SET_COMPUTE_UNIT_PRICE.size
                and data[0] == _SET_COMPUTE_UNIT_PRICE_TAG
            ):
                return _SET_COMPUTE_UNIT_PRICE.unpack(data)[1]
        return 0


def decode(encoded: str, encoding: Encoding, type_name: str) -> bytes:
    """Wire bytes from a request's string.

    Raises:
        RpcError: -32602 when the string is not of the encoding or the bytes exceed `PACKET_BYTES_MAX`.
    """
    limit = ENCODED_CHARS_MAX[encoding]
    if len(encoded) > limit:
        raise invalid_params(
            f"{encoding} encoded {type_name} too large: {len(encoded)} bytes"
            f" (max: encoded/raw {limit}/{PACKET_BYTES_MAX})"
        )
    try:
        wire = base58.b58decode(encoded) if encoding == "base58" else base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error) as error:
        raise invalid_params(f"invalid {encoding} encoding: {error}") from error
    if len(wire) > PACKET_BYTES_MAX:
        raise invalid_params(f"decoded {type_name} too large: {len(wire)} bytes (max: {PACKET_BYTES_MAX} bytes)")
    return wire


_TRANSACTION_TYPE: Final = "solana_transaction::versioned::VersionedTransaction"
_MESSAGE_TYPE: Final = "solana_message::versions::VersionedMessage"


def parse_transaction(encoded: str, encoding: Encoding) -> VersionedTransaction:
    """Raises RpcError -32602 for anything that is not a legacy or v0 transaction of at most 1232 bytes."""
    wire = decode(encoded, encoding, _TRANSACTION_TYPE)
    try:
        transaction = VersionedTransaction.from_bytes(wire)
    except ValueError as error:
        raise invalid_params(f"failed to deserialize {_TRANSACTION_TYPE}: {error}") from error
    if not isinstance(transaction.message, Message | MessageV0):
        raise invalid_params(f"failed to deserialize {_TRANSACTION_TYPE}: unsupported message version")
    return transaction


def parse_message(encoded: str) -> SupportedMessage:
    """Raises RpcError -32602 for anything that is not a base64 legacy or v0 message."""
    wire = decode(encoded, "base64", _MESSAGE_TYPE)
    try:
        message = from_bytes_versioned(wire)
    except ValueError as error:
        raise invalid_params(f"failed to deserialize {_MESSAGE_TYPE}: {error}") from error
    if not isinstance(message, Message | MessageV0):
        raise invalid_params(f"failed to deserialize {_MESSAGE_TYPE}: unsupported message version")
    return message


def sanitize(
    transaction: VersionedTransaction,
    read_account: Callable[[Pubkey], Account | None],
    current_slot: int,
    recent_slots: Sequence[int],
) -> Sanitized:
    """Check the transaction's form and resolve its lookup tables as they stand at `current_slot`.

    Args:
        read_account: accounts as of the bank that the request addresses.
        recent_slots: the slots in the slot-hashes sysvar; a table being deactivated stays usable while its slot is here.

    Raises:
        RpcError: -32602, as Agave's `sanitize_transaction`.
    """
    message = transaction.message
    if not isinstance(message, Message | MessageV0):
        raise invalid_params(f"invalid transaction: {describe('UnsupportedVersion')}")
    try:
        transaction.sanitize()
    except SanitizeError as error:
        raise invalid_params(f"invalid transaction: {describe('SanitizeFailure')}") from error
    writable: list[Pubkey] = []
    readonly: list[Pubkey] = []
    if isinstance(message, MessageV0):
        for lookup in message.address_table_lookups:
            try:
                addresses = _active_addresses(read_account(lookup.account_key), current_slot, recent_slots)
                writable += _pick(addresses, lookup.writable_indexes)
                readonly += _pick(addresses, lookup.readonly_indexes)
            except TransactionRejected as error:
                raise invalid_params(f"invalid transaction: {error}") from error
    return Sanitized(
        transaction=transaction,
        message=message,
        signature=transaction.signatures[0],
        message_hash=message.hash(),
        keys=(*message.account_keys, *writable, *readonly),
        loaded_writable=tuple(writable),
        loaded_readonly=tuple(readonly),
    )


def signatures_are_valid(transaction: VersionedTransaction) -> bool:
    """True when every required signer signed this message."""
    return all(transaction.verify_with_results())


def check_signatures(transaction: VersionedTransaction) -> None:
    """Raises RpcError -32003 when a signature is wrong or missing."""
    if not signatures_are_valid(transaction):
        raise RpcError(SIGNATURE_VERIFICATION_FAILURE, "Transaction signature verification failure")


def check_locks(transaction: Sanitized) -> None:
    """Raises TransactionRejected for more than `ACCOUNT_LOCKS_MAX` accounts, or one named twice."""
    if len(transaction.keys) > ACCOUNT_LOCKS_MAX:
        raise TransactionRejected("TooManyAccountLocks")
    if len(set(transaction.keys)) != len(transaction.keys):
        raise TransactionRejected("AccountLoadedTwice")


def _active_addresses(table: Account | None, current_slot: int, recent_slots: Sequence[int]) -> list[Pubkey]:
    if table is None:
        raise TransactionRejected("AddressLookupTableNotFound")
    if table.owner != LOOKUP_TABLE_PROGRAM:
        raise TransactionRejected("InvalidAddressLookupTableOwner")
    try:
        state = AddressLookupTable.deserialize(table.data)
    except ValueError as error:
        raise TransactionRejected("InvalidAddressLookupTableData") from error
    meta = state.meta
    active = meta.deactivation_slot in (_NEVER_DEACTIVATED, current_slot) or meta.deactivation_slot in recent_slots
    if not active:
        raise TransactionRejected("AddressLookupTableNotFound")
    addresses = state.addresses
    if current_slot > meta.last_extended_slot:
        return addresses
    # Entries added in this very slot become usable in the next one.
    return addresses[: meta.last_extended_slot_start_index]


def _pick(addresses: Sequence[Pubkey], indexes: bytes) -> list[Pubkey]:
    if any(index >= len(addresses) for index in indexes):
        raise TransactionRejected("InvalidAddressLookupTableIndex")
    return [addresses[index] for index in indexes]
