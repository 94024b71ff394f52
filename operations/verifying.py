"""Holds a receipt against the chain for somebody who has neither journal nor Temporal: a node and the program's address are enough."""

import sys
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

import composition
from ledger.reading import ProgramReader
from settings import Settings
from settlement.batches import OnChainBatch
from settlement.errors import CroupierError
from settlement.receipts import Receipt, contradictions

MAX_RECEIPT_BYTES: Final = 1_000_000
"""A receipt has about 5,000."""


class NoReceipt(CroupierError):
    """What was given is no receipt, or one that says nothing that the chain could."""


class Verification(BaseModel):
    """Whether a receipt holds; `reasons` why not. `unchecked`: what in it the chain could not be asked about."""

    model_config = ConfigDict(frozen=True)

    receipt: Receipt
    reasons: tuple[str, ...]
    unchecked: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.reasons


class _Wrapped(BaseModel):
    """What `status --json` prints of a bet, as far as it matters here."""

    receipt: Receipt | None


def read_receipt_file(file: Path) -> Receipt:
    """A receipt as `status --json` or the Bet workflow gives it; `-` is standard input. Raises `NoReceipt`."""
    name = "standard input" if str(file) == "-" else str(file)
    try:
        with sys.stdin.buffer if str(file) == "-" else file.open("rb") as opened:
            content = opened.read(MAX_RECEIPT_BYTES + 1)
    except OSError as error:
        raise NoReceipt(f"{name} cannot be read: {error.strerror}") from None
    try:
        if (receipt := _Wrapped.model_validate_json(content).receipt) is not None:
            return receipt
        raise NoReceipt(f"{name} has no receipt in it: the bet was not settled when `status --json` was asked")
    except ValidationError:
        pass
    try:
        return Receipt.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise NoReceipt(f"{name} is no receipt: {where}{': ' if where else ''}{problem['msg']}") from None


async def verify(settings: Settings, receipt: Receipt) -> Verification:
    """Asks the chain, at the configured commitment. Raises `NoReceipt` if there is nothing to ask."""
    if receipt.status != "settled":
        raise NoReceipt(
            f"{receipt.bet_id} was rejected ({receipt.reason}): a rejected bet leaves nothing on chain to hold a receipt"
            " against"
        )
    if receipt.lane is None or receipt.number is None:
        raise NoReceipt(f"the receipt of {receipt.bet_id} names no lane and batch number")
    async with composition.open_reader(settings) as reader:
        record = await reader.batch_record(receipt.lane, receipt.number)
        reasons = contradictions(receipt, record)
        unchecked = ["its batch_id, which names it in the operator's own records"] if receipt.batch_id else []
        if receipt.inclusion is not None:
            # A batch record does not say whose its slots are.
            unchecked.append(
                f"that slot {receipt.inclusion.slot} of the batch, in which it counts, is its player's vault"
            )
        if receipt.landing is not None and record is not None:
            is_its = await _is_of(reader, receipt.landing.signature, record)
            if is_its is None:
                unchecked.append("its transaction, which the node does not know (yet, or any more)")
            elif not is_its:
                reasons += (f"transaction {receipt.landing.signature}, which it names, has not settled the batch",)
    return Verification(receipt=receipt, reasons=reasons, unchecked=tuple(unchecked))


async def _is_of(reader: ProgramReader, signature: str, record: OnChainBatch) -> bool | None:
    """Whether the transaction is the one that made the record, as far as what it moved tells; None if the node does not know it."""
    moved = await reader.movement(signature, record.lane, [])
    if moved is None:
        return None
    return (moved.succeeded, moved.slot, moved.house_delta) == (True, record.slot, record.house_delta)
