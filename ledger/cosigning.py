"""A withdrawal that the operator has signed, for the vault's owner to sign as well: read, checked to the byte, and signed.

It must never sign anything but the one transaction that moves lamports from the owner's own vault to the owner.
"""

import base64
import binascii
import struct
from dataclasses import dataclass
from typing import Final

from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction

from ledger import instructions
from ledger.transactions import encode
from ledger.transfers import message_of
from settlement.errors import CroupierError

_UNIT_LIMIT: Final = struct.Struct("<BI")
_UNIT_PRICE: Final = struct.Struct("<BQ")
_WITHDRAWAL: Final = struct.Struct("<BQ")


class NotAWithdrawal(CroupierError):
    """What is to be co-signed is not what an operator hands out for this vault."""


@dataclass(frozen=True)
class HalfSigned:
    """A withdrawal with the authority's signature. `signature` names the transaction, also once both have signed."""

    transaction: Transaction
    lamports: int

    @property
    def signature(self) -> str:
        return str(self.transaction.signatures[0])

    @property
    def message(self) -> Message:
        return self.transaction.message

    def co_signed(self, owner: Keypair) -> str:
        """Base64 of the bytes with both signatures."""
        transaction = Transaction.from_bytes(bytes(self.transaction))
        transaction.partial_sign([owner], transaction.message.recent_blockhash)
        transaction.verify()
        return encode(transaction)


def half_sign(message: Message, authority: Keypair) -> tuple[str, str]:
    """Signature and bytes (base64) with the authority's signature alone."""
    transaction = Transaction.new_unsigned(message)
    transaction.partial_sign([authority], message.recent_blockhash)
    return str(transaction.signatures[0]), encode(transaction)


def read_withdrawal(raw: str, *, program: Pubkey, authority: Pubkey, lane: int, owner: Pubkey) -> HalfSigned:
    """The withdrawal that `raw` (base64) is. Raises `NotAWithdrawal` unless it is that and nothing else, byte by byte."""
    try:
        content = base64.b64decode(raw, validate=True)
        transaction = Transaction.from_bytes(content)
        message = transaction.message
        limit, price, withdrawal = message.instructions
        _, units = _UNIT_LIMIT.unpack(limit.data)
        _, micro_lamports = _UNIT_PRICE.unpack(price.data)
        _, lamports = _WITHDRAWAL.unpack(withdrawal.data)
    except (binascii.Error, ValueError, struct.error):
        raise NotAWithdrawal("it holds no withdrawal: do not sign it; ask the operator for another") from None
    # Rebuilt and compared whole, so nothing has to be thought of that could be wrong with it.
    expected = message_of(
        [instructions.withdraw(program, authority, lane, owner, lamports)],
        authority,
        message.recent_blockhash,
        units=units,
        micro_lamports_per_unit=micro_lamports,
    )
    if bytes(message) != bytes(expected) or content != bytes(transaction):
        raise NotAWithdrawal(
            f"it is not a withdrawal from the vault of {owner} on lane {lane} to {owner} that program {program} and"
            f" authority {authority} know: do not sign it; look at CROUPIER_PROGRAM_ID, or ask the operator"
        )
    # Solana's own types do not look at it, and end the process where they miss one.
    if len(transaction.signatures) != message.header.num_required_signatures:
        raise NotAWithdrawal("it has more or fewer signatures than it has signers: ask the operator for another")
    if not transaction.verify_with_results()[0]:
        raise NotAWithdrawal(f"authority {authority} has not signed it: ask the operator for another")
    return HalfSigned(transaction, lamports)
