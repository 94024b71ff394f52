"""What a run does to the stack and when, all of it following from a seed. Pure: nothing here kills or breaks anything.

The plan is fixed by the seed; what a kill hits depends on how far the system has come at that instant.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

NODES: Final = 3
"""RPC nodes that the workers know, all of one local ledger."""


class Target(StrEnum):
    """What is killed. The values are the JSON report's."""

    SETTLEMENT_WORKER = "settlement_worker"
    PROVING_WORKER = "proving_worker"
    TEMPORAL = "temporal"
    LEDGER = "ledger"
    CLIENT = "client"


KILL_SHARES: Final = {
    Target.SETTLEMENT_WORKER: 0.32,
    Target.PROVING_WORKER: 0.18,
    Target.TEMPORAL: 0.12,
    Target.LEDGER: 0.15,
    Target.CLIENT: 0.23,
}
MIN_KILLS: Final = len(Target)
"""Each kind is killed at least once."""

LONGEST_DOWN_SECONDS: Final = 3.0
"""A killed process is started again after a random part of this."""


@dataclass(frozen=True)
class Kill:
    """A SIGKILL, `at` so many seconds after the disturbing began. `pick` (0…1) says which one of its kind, `down_seconds` how long."""

    at: float
    target: Target
    pick: float
    down_seconds: float


@dataclass(frozen=True)
class Fault:
    """A disturbance of the ledger by one call of its extension. `at` as for kills; `kind` as the report counts it."""

    at: float
    kind: str
    method: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """Kills and faults in the order of their instants, all within `seconds`."""

    seed: int
    seconds: float
    kills: tuple[Kill, ...]
    faults: tuple[Fault, ...]


INJECT: Final = "croupierInjectFault"
FORK: Final = "croupierFork"
SKIP_SLOTS: Final = "croupierSkipSlots"

DEEPEST_FORK_SLOTS: Final = 24
"""Blocks become final at 32: a fork may undo what is confirmed, never what is final."""

MOST_SKIPPED_SLOTS: Final = 40
FURTHEST_BEHIND_SLOTS: Final = 60
LEAST_FEE_MICRO_LAMPORTS: Final = 10_000_000
"""More than anybody pays: a transaction sent meanwhile is dropped without a word."""

ALL_NODES_SHARE: Final = 0.35
SECONDS_PER_FAULT: Final = 5.0

REQUEST_FAULTS: Final = {
    "drop": 8.0,
    "http_status": 3.0,
    "hang_before": 3.0,
    "hang_after": 3.0,
    "reset_after": 3.0,
    "rpc_error": 3.0,
    "bad_body": 3.0,
    "null_statuses": 8.0,
    "behind": 6.0,
    "delayed_confirmation": 6.0,
    "no_history": 6.0,
    "min_priority_fee": 8.0,
    "stuck": 4.0,
    "refuse": 3.0,
}
"""The extension's kinds of faults, and the longest that one lasts, in seconds."""

HTTP_STATUSES: Final = (429, 500, 502, 503)
RPC_ERRORS: Final = (
    (-32005, "Node is behind by 42 slots", {"numSlotsBehind": 42}),
    (-32603, "Internal error", None),
    (-32016, "Minimum context slot has not been reached", {"contextSlot": 1}),
    (-32014, "Block status not yet available for slot", None),
)


def make_plan(seed: int, kills: int, seconds: float) -> Plan:
    """`kills` kills and all kinds of faults, at random instants of so many seconds."""
    assert kills >= MIN_KILLS
    dice = random.Random(seed)
    targets = _shares(kills)
    dice.shuffle(targets)
    at = sorted(dice.uniform(0, seconds) for _ in targets)
    planned = [
        Kill(instant, target, dice.random(), dice.uniform(0, LONGEST_DOWN_SECONDS))
        for instant, target in zip(at, targets, strict=True)
    ]
    return Plan(seed, seconds, tuple(planned), _faults(dice, seconds))


def _shares(kills: int) -> list[Target]:
    counts = {target: max(1, int(kills * share)) for target, share in KILL_SHARES.items()}
    # What rounding has left belongs to those that hold most of the work.
    counts[Target.SETTLEMENT_WORKER] += kills - sum(counts.values())
    if counts[Target.SETTLEMENT_WORKER] < 1:
        return list(Target)
    return [target for target, count in counts.items() for _ in range(count)]


def _faults(dice: random.Random, seconds: float) -> tuple[Fault, ...]:
    kinds: list[str] = []
    every = [*REQUEST_FAULTS, FORK, SKIP_SLOTS]
    while len(kinds) < max(len(every), seconds / SECONDS_PER_FAULT):
        kinds += dice.sample(every, len(every))
    at = sorted(dice.uniform(0, seconds) for _ in kinds)
    longest_part = min(1.0, seconds / (len(REQUEST_FAULTS) * SECONDS_PER_FAULT))
    return tuple(_fault(dice, instant, kind, longest_part) for instant, kind in zip(at, kinds, strict=True))


def _fault(dice: random.Random, at: float, kind: str, longest_part: float) -> Fault:
    if kind == FORK:
        return Fault(at, "fork", FORK, {"depth": dice.randint(1, DEEPEST_FORK_SLOTS)})
    if kind == SKIP_SLOTS:
        return Fault(at, "skip_slots", SKIP_SLOTS, {"slots": dice.randint(1, MOST_SKIPPED_SLOTS)})
    node = None if dice.random() < ALL_NODES_SHARE else dice.randrange(NODES)
    seconds = round(dice.uniform(0.3, 1) * REQUEST_FAULTS[kind] * longest_part, 2)
    return Fault(at, kind, INJECT, {"kind": kind, "node": node, "seconds": seconds} | _further(dice, kind))


def _further(dice: random.Random, kind: str) -> dict[str, Any]:
    if kind == "http_status":
        return {"status": dice.choice(HTTP_STATUSES)}
    if kind == "rpc_error":
        code, message, data = dice.choice(RPC_ERRORS)
        return {"code": code, "message": message, "data": data}
    if kind == "behind":
        return {"slots": dice.randint(1, FURTHEST_BEHIND_SLOTS)}
    if kind == "min_priority_fee":
        return {"micro_lamports": LEAST_FEE_MICRO_LAMPORTS}
    return {}


def described(fault: Fault) -> str:
    """A fault in a few words."""
    further = {name: value for name, value in fault.parameters.items() if name not in ("kind", "data", "message")}
    return " ".join([fault.kind, *(f"{name}={_named(name, value)}" for name, value in further.items())])


def _named(name: str, value: Any) -> Any:
    return "all" if name == "node" and value is None else value


def kinds_of_faults() -> Sequence[str]:
    """Every kind that a report counts."""
    return (*REQUEST_FAULTS, "fork", "skip_slots")
