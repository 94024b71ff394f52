"""Moves lamports by one signed transaction: builds it, tries it out unsigned, sends its bytes and finds out what became of them.

It must never sign anew and never send what its caller has not made durable: so it has no key, and is given signed bytes.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol

from solders.hash import Hash
from solders.instruction import Instruction
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction

from ledger.failures import Failure, Fault
from ledger.fates import dated_blockhash, find
from ledger.landing import RESEND_SECONDS, Polling
from ledger.nodes import Nodes
from ledger.rpc import READ_COMMITMENT, ConfirmedAt, RequestRefused, RpcClient, TransactionError
from ledger.statuses import has_failed, has_landed
from ledger.transactions import BUDGET_INSTRUCTIONS, budgeted, distinguishing_units, encode
from settlement.errors import CroupierError, LedgerUnavailable

COMPUTE_UNITS: Final = 20_000
"""Enough for a withdrawal, and for as many plain transfers as a transaction has room for."""

_MOVING: Final = range(BUDGET_INSTRUCTIONS, 2**8)
"""Positions of the instructions that move lamports."""

BLOCKS_UNTIL_FINAL: Final = 32
"""A moving chain is no news any more so many blocks after a transaction's last."""


class TransferRefused(CroupierError):
    """The chain refuses a transfer, or it has landed and failed. No lamport moved but a fee."""


class PayerUncovered(TransferRefused):
    """Whoever pays has too few lamports."""


class HistoryForgotten(CroupierError):
    """The nodes cannot say any more whether an old transaction has landed."""


@dataclass(frozen=True)
class Draft:
    """What is to be signed. `signed_after_slot`: a finalized slot that is older than any in which it can land."""

    message: Message
    last_valid_block_height: int
    signed_after_slot: int


@dataclass(frozen=True)
class Flight:
    """A signed transaction. `raw`: its bytes in base64 to send again and again; None where another sends them."""

    signature: str
    raw: str | None
    last_valid_block_height: int
    signed_after_slot: int


class Fate(Enum):
    """What has become of a transaction, for good."""

    LANDED = auto()
    FAILED = auto()
    """It has landed and moved nothing but its fee."""
    EXPIRED = auto()


@dataclass(frozen=True)
class Outcome:
    """A fate that the chain was asked about. `slot` where it landed, `text` why it failed."""

    fate: Fate
    slot: int | None = None
    text: str = ""


class Listener(Protocol):
    """Hears of what goes on while a command waits."""

    def say(self, line: str) -> None:
        """Something that has happened."""

    def show(self, line: str) -> None:
        """How things stand at the moment."""


def message_of(
    transfers: Sequence[Instruction], payer: Pubkey, blockhash: Hash, *, units: int, micro_lamports_per_unit: int
) -> Message:
    """The only form that transfers have: [compute-unit limit, compute-unit price, *transfers], in a legacy message."""
    body = budgeted(transfers, units=units, micro_lamports_per_unit=micro_lamports_per_unit)
    return Message.new_with_blockhash(body, payer, blockhash)


async def draft(
    rpc: RpcClient, transfers: Sequence[Instruction], payer: Pubkey, *, micro_lamports_per_unit: int
) -> Draft:
    """What `payer` and others are to sign, tried out on the node. Raises `TransferRefused`, `LedgerUnavailable`."""
    dated = await dated_blockhash(Nodes.of(rpc), READ_COMMITMENT)
    message = message_of(
        transfers,
        payer,
        Hash.from_string(dated.blockhash),
        units=COMPUTE_UNITS + distinguishing_units(),
        micro_lamports_per_unit=micro_lamports_per_unit,
    )
    failure = await trial(rpc, message)
    if failure is not None:
        if failure.fault is Fault.PAYER:
            raise PayerUncovered(
                f"{payer} cannot cover the transfer, its fee and its rent minimum on {rpc.name}: send it SOL"
            )
        if failure.fault in (Fault.BLOCKHASH, Fault.PROCESSED):
            raise LedgerUnavailable(f"{rpc.name} does not accept the blockhash that it has given: {failure.text}")
        raise TransferRefused(f"{rpc.name} refuses the transfer: {failure.text}; nothing was sent")
    return Draft(message, dated.last_valid_block_height, dated.signed_after_slot)


async def trial(rpc: RpcClient, message: Message) -> Failure | None:
    """Why a transfer would fail now."""
    try:
        simulation = await rpc.simulate(encode(Transaction.new_unsigned(message)), READ_COMMITMENT)
    except RequestRefused as refusal:
        raise TransferRefused(f"{refusal}; nothing was sent") from None
    return None if simulation.value.err is None else _failure(simulation.value.err)


async def outcome(rpc: RpcClient, flight: Flight, commitment: ConfirmedAt, listener: Listener) -> Outcome:
    """Sends a transaction until it has landed, as seen at `commitment`, or provably never can.

    Raises `LedgerUnavailable` when that does not become known; then it is still under way.
    """
    nodes = Nodes.of(rpc)
    polling = Polling(rpc.name, f"transaction {flight.signature}")
    sent_at: float | None = None
    seen_height = 0
    seen_level: str | None = None
    while True:
        try:
            final_height, [finding] = await find(nodes, [flight])
            found = finding.status
            if found is not None and has_landed(found, commitment):
                return Outcome(Fate.LANDED, found.slot)
            if finding.is_dead:
                if found is not None and found.err is not None and has_failed(found):
                    return Outcome(Fate.FAILED, found.slot, _failure(found.err).text)
                return Outcome(Fate.EXPIRED)
            if finding.is_forgotten:
                raise HistoryForgotten(
                    f"{finding.doubt}: set CROUPIER_RPC_URL to a node that keeps them, and CROUPIER_FURTHER_RPC_URLS to such"
                    " alone, or look it up in an explorer"
                )
            level = found.confirmation_status if found is not None else None
            if level != seen_level:
                seen_level = level
                polling.restart()
                if found is not None and level == "confirmed":
                    ends = "confirmed" if found.err is None else "failed"
                    listener.say(f"{ends}, not yet finalized")
            if seen_height < final_height <= flight.last_valid_block_height + BLOCKS_UNTIL_FINAL:
                seen_height = final_height
                polling.restart()
            if finding.doubt is not None:
                polling.trouble = LedgerUnavailable(finding.doubt)
            listener.show(
                f"{level or 'sent'}; final block {final_height:,}, cannot land after {flight.last_valid_block_height:,}"
            )
            is_due = sent_at is None or time.monotonic() - sent_at >= RESEND_SECONDS
            if found is None and flight.raw is not None and is_due:
                sent_at = time.monotonic()
                await rpc.send(flight.raw)
        except LedgerUnavailable as error:
            polling.trouble = error
        except RequestRefused as refusal:
            # One node's word does not cancel what may have reached others: the statuses will tell.
            polling.trouble = LedgerUnavailable(str(refusal))
        await polling.wait()


def _failure(error: TransactionError) -> Failure:
    return Failure.of(error, _MOVING)
