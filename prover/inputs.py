"""From a statement to the circuit's input signals, and the check that tells in words why a statement is false.

The check is for people: what a proof guards is guarded by the circuit, and every proof is verified before it leaves.
"""

from collections.abc import Mapping
from typing import Final

from settlement import commitment
from settlement.batches import Statement
from settlement.commitment import NETS_PER_ELEMENT, STAKE_BITS, VAULT_INDEX_BITS, Slot
from settlement.errors import ProofRejected
from settlement.limits import MAX_LANE

Signals = Mapping[str, int | list[int]]
MAX_BATCH_NUMBER: Final = 2**64 - 1
"""A batch number is an unsigned 64-bit integer on chain."""


def circuit_signals(statement: Statement) -> Signals:
    """The inputs of `Settlement(bets, players)`, as field elements; empty places are zeros. Checks nothing."""
    bets, entries = statement.shape.bets, statement.entries
    return {
        "scope": commitment.scope(
            commitment.identity(statement.lane, statement.number, len(entries)),
            [slot.vault_index for slot in statement.slots],
            statement.shape,
        ),
        "idsDigest": statement.ids_digest,
        "stakes": _padded([entry.stake for entry in entries], bets),
        "guesses": _padded([entry.guess for entry in entries], bets),
        "outcomes": _padded([entry.outcome for entry in entries], bets),
        "trios": _padded([entry.slot // NETS_PER_ELEMENT for entry in entries], bets),
        "seconds": _padded([int(entry.slot % NETS_PER_ELEMENT == 1) for entry in entries], bets),
        "thirds": _padded([int(entry.slot % NETS_PER_ELEMENT == 2) for entry in entries], bets),
    }


def values_of(signals: Signals) -> list[int]:
    """Signals one behind the other, as the circuit's input wires are numbered: in the order of their declaration."""
    values: list[int] = []
    for signal in signals.values():
        values += signal if isinstance(signal, list) else [signal]
    return values


def check_statement(statement: Statement) -> None:
    """Raises `ProofRejected` with the first thing in `statement` that is out of bounds or does not follow from the rest."""
    problem = _out_of_bounds(statement) or _contradiction(statement)
    if problem is not None:
        raise ProofRejected(f"batch {statement.number} of lane {statement.lane} cannot be proven: {problem}")


def _out_of_bounds(statement: Statement) -> str | None:
    shape, entries, slots = statement.shape, statement.entries, statement.slots
    if not 1 <= len(entries) <= shape.bets:
        return f"{len(entries)} bets, its shape holds 1 to {shape.bets}"
    if not 1 <= len(slots) <= shape.players:
        return f"{len(slots)} players, its shape holds 1 to {shape.players}"
    if not (0 <= statement.lane <= MAX_LANE and 0 <= statement.number <= MAX_BATCH_NUMBER):
        return f"lanes go from 0 to {MAX_LANE} and numbers from 0 to {MAX_BATCH_NUMBER}"
    for position, entry in enumerate(entries):
        if not 0 <= entry.stake < 1 << STAKE_BITS:
            return f"the stake of bet {position} is {entry.stake}, it must be from 0 to 2^{STAKE_BITS} - 1 lamports"
        if not {entry.guess, entry.outcome} <= {0, 1}:
            return f"guess and outcome of bet {position} are {entry.guess} and {entry.outcome}, they must be 0 or 1"
        if not 0 <= entry.slot < len(slots):
            return f"bet {position} is in slot {entry.slot}, the batch has slots 0 to {len(slots) - 1}"
    for position, slot in enumerate(slots):
        if not 1 <= slot.vault_index < 1 << VAULT_INDEX_BITS:
            return f"the vault index of slot {position} is {slot.vault_index}, it must be from 1 to 2^{VAULT_INDEX_BITS} - 1"
    return None


def _contradiction(statement: Statement) -> str | None:
    shape, entries, slots = statement.shape, statement.entries, statement.slots
    nets = [0] * len(slots)
    for entry in entries:
        nets[entry.slot] += entry.stake if entry.guess == entry.outcome else -entry.stake
    for position, (slot, net) in enumerate(zip(slots, nets, strict=True)):
        if slot.net != net:
            return f"the net of slot {position} is given as {slot.net} lamports, its bets sum to {net}"
    if statement.bets_root != commitment.bets_root(entries, statement.ids_digest, shape):
        return "the bets root does not follow from the bets and the ids digest"
    try:
        public_input = commitment.public_input(
            commitment.identity(statement.lane, statement.number, len(entries)),
            statement.bets_root,
            [Slot(vault_index=slot.vault_index, net=slot.net) for slot in slots],
            shape,
        )
    except ValueError as error:
        return str(error)
    if statement.public_input != public_input:
        return "the public input does not follow from the batch's identity, bets root, vaults and nets"
    return None


def _padded(values: list[int], size: int) -> list[int]:
    return [*values, *[0] * (size - len(values))]
