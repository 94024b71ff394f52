"""Builds and signs the one transaction that settles a batch, and reads such a transaction back.

It must never send anything. A settlement is always [compute-unit limit, compute-unit price, settle] in a v0 message, which
names accounts through address lookup tables where it would not fit into one packet otherwise.
"""

import base64
import itertools
import secrets
import struct
from collections.abc import Sequence
from typing import Final

from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import Transaction, VersionedTransaction

from ledger import instructions
from ledger.layout import BETS_ROOT_BYTES, vault_address
from ledger.proof_encoding import compress_proof
from settlement.batches import Proof, SignedAttempt, Statement

MAX_TRANSACTION_BYTES: Final = 1_232
"""Of a serialised transaction: the IPv6 minimum MTU less headers (solana-sdk `PACKET_DATA_SIZE`)."""

MAX_COMPUTE_UNITS: Final = 400_000
"""The limit that a settlement is simulated with, and never signed above."""
MIN_COMPUTE_UNITS: Final = 150_000
"""The limit is never signed below: no settlement that was measured takes more than 131,045, whatever a simulation says."""
_HEADROOM_PERCENT: Final = 120
"""Of the simulated units: a record whose address holds lamports by the time it lands costs a little more to create."""

BUDGET_INSTRUCTIONS: Final = 2
"""Those of the compute budget, with which every transaction begins: see `budgeted`."""
SETTLE_POSITION: Final = BUDGET_INSTRUCTIONS
"""Of the settle instruction in the message."""

DISTINGUISHING_UNITS: Final = 1_000
"""Up to so many compute units more make two equal transactions over one blockhash two."""
_distinct = itertools.count(secrets.randbelow(DISTINGUISHING_UNITS))

_SETTLE_HEADER: Final = struct.Struct(f"<BQH{BETS_ROOT_BYTES}s")
"""Opcode, batch number, number of bets, bets root: how `instructions.settle` begins its data."""


def settle_instruction(statement: Statement, proof: Proof, program: Pubkey, authority: Pubkey) -> Instruction:
    """The instruction that settles `statement`."""
    assert proof.circuit_id == statement.shape.circuit_id
    assert proof.public_input == statement.public_input
    return instructions.settle(
        program,
        authority,
        statement.shape.circuit_id,
        statement.lane,
        statement.number,
        bet_count=len(statement.entries),
        bets_root=statement.bets_root,
        proof=compress_proof(bytes.fromhex(proof.proof)),
        deltas=[
            instructions.VaultDelta(
                vault_address(program, statement.lane, Pubkey.from_string(slot.player)), lamports=slot.net
            )
            for slot in statement.slots
        ],
    )


def compute_unit_limit(simulated_units: int) -> int:
    """The limit to sign, given what a simulation used."""
    return min(max(simulated_units * _HEADROOM_PERCENT // 100, MIN_COMPUTE_UNITS), MAX_COMPUTE_UNITS)


def settlement_message(
    settle: Instruction,
    authority: Pubkey,
    blockhash: str,
    tables: Sequence[AddressLookupTableAccount],
    *,
    unit_limit: int,
    micro_lamports_per_unit: int,
) -> MessageV0:
    """The message to simulate or to sign, which `settlement_bytes` must have found to fit with these tables."""
    message = _compiled(settle, authority, tables, Hash.from_string(blockhash), unit_limit, micro_lamports_per_unit)
    assert message.instructions[SETTLE_POSITION].data == settle.data
    assert len(bytes(unsigned(message))) <= MAX_TRANSACTION_BYTES
    return message


def settlement_bytes(settle: Instruction, authority: Pubkey, tables: Sequence[AddressLookupTableAccount]) -> int:
    """How large the signed transaction is if it names accounts through `tables`: at most `MAX_TRANSACTION_BYTES` can be sent."""
    return len(bytes(unsigned(_compiled(settle, authority, tables, Hash.default(), MAX_COMPUTE_UNITS, 0))))


def _compiled(
    settle: Instruction,
    authority: Pubkey,
    tables: Sequence[AddressLookupTableAccount],
    blockhash: Hash,
    unit_limit: int,
    micro_lamports_per_unit: int,
) -> MessageV0:
    body = budgeted([settle], units=unit_limit, micro_lamports_per_unit=micro_lamports_per_unit)
    return MessageV0.try_compile(authority, body, tables, blockhash)


def budgeted(body: Sequence[Instruction], *, units: int, micro_lamports_per_unit: int) -> list[Instruction]:
    """`body` with the compute-unit limit and the price before it."""
    return [set_compute_unit_limit(units), set_compute_unit_price(micro_lamports_per_unit), *body]


def distinguishing_units() -> int:
    """To be added to a limit: never the same as that of the last transactions of this process, rarely that of another's."""
    return next(_distinct) % DISTINGUISHING_UNITS


def unsigned(message: MessageV0) -> VersionedTransaction:
    """The transaction with its one signature, the authority's, left blank."""
    return VersionedTransaction.populate(message, [Signature.default()])


def encode(transaction: Transaction | VersionedTransaction) -> str:
    """Base64 of the wire format."""
    return base64.b64encode(bytes(transaction)).decode()


def sign_message(message: Message | MessageV0, signers: Sequence[Keypair]) -> tuple[str, str]:
    """Signature (base58) and wire bytes (base64) of the signed transaction."""
    transaction = VersionedTransaction(message, signers)
    return str(transaction.signatures[0]), encode(transaction)


def settled_by(attempt: SignedAttempt) -> tuple[int, int]:
    """The batch number and the bets root that an attempt's bytes are for.

    A batch's earlier attempts may have been for a statement with other bets or another number: what became of those says
    nothing of this one. Those signed by releases before lookup tables were legacy messages.
    """
    message = VersionedTransaction.from_bytes(base64.b64decode(attempt.raw)).message
    opcode, number, _, bets_root = _SETTLE_HEADER.unpack_from(message.instructions[SETTLE_POSITION].data)
    assert opcode == instructions.Opcode.SETTLE
    return number, int.from_bytes(bets_root, "big")
