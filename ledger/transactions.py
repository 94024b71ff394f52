"""Builds and signs the one transaction that settles a batch, and reads such a transaction back.

It must never send anything. A settlement is always [compute-unit limit, compute-unit price, settle] in a legacy message,
which fits into one packet without address lookup tables.
"""

import base64
import struct
from collections.abc import Sequence
from typing import Final

from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction

from ledger import instructions
from ledger.layout import BETS_ROOT_BYTES, vault_address
from ledger.proof_encoding import compress_proof
from settlement.batches import Proof, SignedAttempt, Statement
from settlement.errors import SettlementRefused

MAX_TRANSACTION_BYTES: Final = 1_232
"""Of a serialised transaction: the IPv6 minimum MTU less headers (solana-sdk `PACKET_DATA_SIZE`)."""

MAX_COMPUTE_UNITS: Final = 400_000
"""The limit that a settlement is simulated with, and never signed above."""
MIN_COMPUTE_UNITS: Final = 1_000
_HEADROOM_PERCENT: Final = 120
"""Of the simulated units: a record whose address holds lamports by the time it lands costs a little more to create."""

SETTLE_POSITION: Final = 2
"""Of the settle instruction in the message."""

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
    settle: Instruction, authority: Pubkey, blockhash: str, *, unit_limit: int, micro_lamports_per_unit: int
) -> Message:
    """The message to simulate or to sign. Raises `SettlementRefused` if it does not fit into a packet."""
    message = Message.new_with_blockhash(
        [set_compute_unit_limit(unit_limit), set_compute_unit_price(micro_lamports_per_unit), settle],
        authority,
        Hash.from_string(blockhash),
    )
    assert message.instructions[SETTLE_POSITION].data == settle.data
    size = len(bytes(Transaction.new_unsigned(message)))
    if size > MAX_TRANSACTION_BYTES:
        raise SettlementRefused(f"the settlement is {size} bytes, a transaction has at most {MAX_TRANSACTION_BYTES}")
    return message


def encode(transaction: Transaction) -> str:
    """Base64 of the wire format."""
    return base64.b64encode(bytes(transaction)).decode()


def sign_message(message: Message, signers: Sequence[Keypair]) -> tuple[str, str]:
    """Signature (base58) and wire bytes (base64) of the signed transaction."""
    transaction = Transaction(signers, message, message.recent_blockhash)
    return str(transaction.signatures[0]), encode(transaction)


def settled_by(attempt: SignedAttempt) -> tuple[int, int]:
    """The batch number and the bets root that an attempt's bytes are for.

    A batch's earlier attempts may have been for a statement with other bets or another number: what became of those says
    nothing of this one.
    """
    message = Transaction.from_bytes(base64.b64decode(attempt.raw)).message
    opcode, number, _, bets_root = _SETTLE_HEADER.unpack_from(message.instructions[SETTLE_POSITION].data)
    assert opcode == instructions.Opcode.SETTLE
    return number, int.from_bytes(bets_root, "big")
