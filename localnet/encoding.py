"""Accounts, transactions and simulations as the RPC's JSON.

Source: agave `account-decoder`, `transaction-status-client-types`, `rpc-client-api/src/response.rs`. Field names and
nulls are the contract with every client: nothing here may be renamed for taste.
"""

import base64
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import base58
from solders.account import Account
from solders.instruction import CompiledInstruction
from solders.message import Message, MessageV0
from solders.transaction import VersionedTransaction

from .engine import Outcome
from .errors import INVALID_REQUEST, UNSUPPORTED_TRANSACTION_VERSION, RpcError
from .transactions import Sanitized, SupportedMessage

JsonObject: TypeAlias = dict[str, Any]
AccountEncoding: TypeAlias = Literal["binary", "base58", "base64", "jsonParsed"]
TransactionEncoding: TypeAlias = Literal["json", "base58", "base64"]
DataSlice: TypeAlias = tuple[int, int]
"""Offset and length in bytes."""

BASE58_ACCOUNT_BYTES_MAX: Final = 128
"""Longer account data must be asked for as base64."""
_RENT_EXEMPT_EPOCH: Final = 2**64 - 1
"""What a cluster reports as the rent epoch of every rent-exempt account."""
_TOP_LEVEL_STACK_HEIGHT: Final = 1


def account_json(account: Account, encoding: AccountEncoding, data_slice: DataSlice | None) -> JsonObject:
    """Raises RpcError -32600 for base58 of more than `BASE58_ACCOUNT_BYTES_MAX` bytes."""
    data = account.data
    space = len(data)
    if data_slice is not None:
        offset, length = data_slice
        data = data[offset : offset + length]
    encoded: str | list[str]
    if encoding in ("binary", "base58"):
        if len(data) > BASE58_ACCOUNT_BYTES_MAX:
            raise RpcError(
                INVALID_REQUEST,
                f"Encoded binary (base 58) data should be less than {BASE58_ACCOUNT_BYTES_MAX} bytes,"
                " please use Base64 encoding.",
            )
        text = base58.b58encode(data).decode()
        encoded = text if encoding == "binary" else [text, "base58"]
    else:
        # `jsonParsed` falls back to base64 where no parser knows the account's program.
        encoded = [base64.b64encode(data).decode(), "base64"]
    return {
        "data": encoded,
        "executable": account.executable,
        "lamports": account.lamports,
        "owner": str(account.owner),
        "rentEpoch": _RENT_EXEMPT_EPOCH,
        "space": space,
    }


def return_data_json(outcome: Outcome) -> JsonObject | None:
    if outcome.return_data is None:
        return None
    program, data = outcome.return_data
    return {"programId": str(program), "data": [base64.b64encode(data).decode(), "base64"]}


def inner_instructions_json(outcome: Outcome) -> list[JsonObject]:
    """One entry for each instruction that invoked another program."""
    return [
        {
            "index": index,
            "instructions": [_instruction_json(inner.instruction(), inner.stack_height()) for inner in inners],
        }
        for index, inners in enumerate(outcome.inner_instructions)
        if inners
    ]


def status_json(error: Any) -> JsonObject:
    return {"Ok": None} if error is None else {"Err": error}


def meta_json(
    transaction: Sanitized, outcome: Outcome, pre_balances: Sequence[int], post_balances: Sequence[int]
) -> JsonObject:
    """The status meta of a landed transaction; balances in lamports, in the order of its accounts."""
    meta: JsonObject = {
        "err": outcome.error,
        "status": status_json(outcome.error),
        "fee": outcome.fee,
        "preBalances": list(pre_balances),
        "postBalances": list(post_balances),
        "innerInstructions": inner_instructions_json(outcome),
        "logMessages": outcome.logs,
        "preTokenBalances": [],
        "postTokenBalances": [],
        "rewards": [],
        "loadedAddresses": {
            "writable": [str(key) for key in transaction.loaded_writable],
            "readonly": [str(key) for key in transaction.loaded_readonly],
        },
        "computeUnitsConsumed": outcome.units_consumed,
    }
    returned = return_data_json(outcome)
    if returned is not None:
        meta["returnData"] = returned
    return meta


def transaction_json(wire: bytes, encoding: TransactionEncoding, version_max: int | None) -> JsonObject:
    """The `transaction` and `version` members of `getTransaction`.

    Raises:
        RpcError: -32015 when the transaction's version is above `version_max`.
    """
    transaction = VersionedTransaction.from_bytes(wire)
    message = transaction.message
    if not isinstance(message, Message | MessageV0):
        raise TypeError("only legacy and v0 transactions are ever stored")
    members: JsonObject = {}
    if version_max is not None:
        members["version"] = 0 if isinstance(message, MessageV0) else "legacy"
    elif isinstance(message, MessageV0):
        raise RpcError(
            UNSUPPORTED_TRANSACTION_VERSION,
            "Transaction version (0) is not supported by the requesting client. Please try the request again with"
            ' the following configuration parameter: "maxSupportedTransactionVersion": 0',
        )
    if encoding == "json":
        members["transaction"] = {
            "signatures": [str(signature) for signature in transaction.signatures],
            "message": _message_json(message),
        }
    elif encoding == "base64":
        members["transaction"] = [base64.b64encode(wire).decode(), "base64"]
    else:
        members["transaction"] = [base58.b58encode(wire).decode(), "base58"]
    return members


def _message_json(message: SupportedMessage) -> JsonObject:
    header = message.header
    members: JsonObject = {
        "header": {
            "numRequiredSignatures": header.num_required_signatures,
            "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
        },
        "accountKeys": [str(key) for key in message.account_keys],
        "recentBlockhash": str(message.recent_blockhash),
        "instructions": [
            _instruction_json(instruction, _TOP_LEVEL_STACK_HEIGHT) for instruction in message.instructions
        ],
    }
    if isinstance(message, MessageV0):
        members["addressTableLookups"] = [
            {
                "accountKey": str(lookup.account_key),
                "writableIndexes": list(lookup.writable_indexes),
                "readonlyIndexes": list(lookup.readonly_indexes),
            }
            for lookup in message.address_table_lookups
        ]
    return members


def _instruction_json(instruction: CompiledInstruction, stack_height: int | None) -> JsonObject:
    return {
        "programIdIndex": instruction.program_id_index,
        "accounts": list(instruction.accounts),
        "data": base58.b58encode(instruction.data).decode(),
        "stackHeight": stack_height,
    }


def simulation_json(
    error: Any, outcome: Outcome | None, accounts: list[JsonObject | None] | None, replacement: JsonObject | None
) -> JsonObject:
    """The value of `simulateTransaction`, and the data of a preflight failure.

    Args:
        outcome: None when the transaction was refused before it ran.
    """
    return {
        "err": error,
        "logs": [] if outcome is None else outcome.logs,
        "accounts": accounts,
        "unitsConsumed": 0 if outcome is None else outcome.units_consumed,
        "loadedAccountsDataSize": None,
        "returnData": None if outcome is None else return_data_json(outcome),
        "innerInstructions": None,
        "replacementBlockhash": replacement,
    }
