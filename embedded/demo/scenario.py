"""What the demo places, and what must come of it. Pure: the same seed and players give the same bets.

The expectations are made from what is sent, so that the verdict does not rest on what the system says of itself.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from settlement.bets import Bet, RejectionReason
from settlement.intake import Door
from settlement.limits import MAX_BET_ID_CHARS

MIN_BETS: Final = 20
MAX_BETS: Final = 100_000
MAX_PLAYERS: Final = 1_000
MAX_STAKE_LAMPORTS: Final = 10_000_000
POOR_PLAYERS_LAMPORTS: Final = 1_000
UNCOVERED_STAKE_LAMPORTS: Final = 1_000_000_000

SIGNALLED_SHARE: Final = 0.25
TRACKED_SHARE: Final = 0.05
MAX_TRACKED: Final = 40
"""A workflow per bet costs about 50 ms."""

RESENT_SHARE: Final = 0.06
RESENT_AGAIN_SHARE: Final = 0.3


@dataclass(frozen=True)
class Sending:
    """One thing to send. `content` is a bet as JSON, or what only looks like one."""

    door: Door
    content: dict[str, Any]


@dataclass
class Scenario:
    """`first`: sent before `again`. `settled`: the bets that must settle; `rejected`: how many must not, by reason."""

    first: list[Sending] = field(default_factory=list[Sending])
    again: list[Sending] = field(default_factory=list[Sending])
    settled: list[Bet] = field(default_factory=list[Bet])
    rejected: Counter[RejectionReason] = field(default_factory=Counter[RejectionReason])
    duplicates: int = 0

    @property
    def refused_after_acceptance(self) -> int:
        """Bets that the door accepts and the claim of their batch refuses."""
        return self.rejected[RejectionReason.NO_VAULT] + self.rejected[RejectionReason.UNCOVERED]


def make_scenario(
    run: str, seed: int, bets: int, players: Sequence[str], deposit_lamports: int, poor_player: str, stranger: str
) -> Scenario:
    """`bets` bets of `players`, each of whom could lose all of his and still be covered by `deposit_lamports`.

    `run` goes into the bet ids. `poor_player` has a vault with next to nothing in it, `stranger` has none.
    """
    assert len(run) < MAX_BET_ID_CHARS // 2
    dice = random.Random(seed)
    scenario = Scenario()
    budget = dict.fromkeys(players, deposit_lamports)
    oddities = _oddities(run, poor_player, stranger)

    for number in range(bets - len(oddities)):
        player = dice.choice([*players[: max(1, len(players) // 4)], *players])
        stake = dice.randint(1, max(1, min(MAX_STAKE_LAMPORTS, budget[player] // 4)))
        budget[player] -= stake
        content = _bet(
            f"{run}-{number:05}", player, stake, dice.choice(("heads", "tails")), dice.choice(("heads", "tails"))
        )
        scenario.first.append(Sending(_door(dice), content))
        scenario.settled.append(Bet.model_validate(content))
    _limit_tracked(scenario.first)

    for sending in dice.sample(scenario.first, max(3, int(bets * RESENT_SHARE))):
        copies = 2 if dice.random() < RESENT_AGAIN_SHARE else 1
        scenario.again += [Sending(dice.choice((sending.door, *Door)), sending.content) for _ in range(copies)]
        scenario.duplicates += copies
    other_content = dict(next(sending.content for sending in scenario.first if sending.door is Door.UPDATE))
    other_content["stake"] += 1
    scenario.again.append(Sending(Door.UPDATE, other_content))
    scenario.rejected[RejectionReason.CONFLICT] += 1

    for sending, reason in oddities:
        scenario.first.insert(dice.randrange(len(scenario.first)), sending)
        scenario.rejected[reason] += 1
    return scenario


def _oddities(run: str, poor_player: str, stranger: str) -> list[tuple[Sending, RejectionReason]]:
    return [
        (
            Sending(Door.SIGNAL, {"bet_id": f"{run}-malformed", "player": "not a key", "stake": "ten"}),
            RejectionReason.MALFORMED,
        ),
        (
            Sending(Door.UPDATE, _bet(f"{run}-stake-of-zero", poor_player, 0, "heads", "tails")),
            RejectionReason.STAKE_OUT_OF_RANGE,
        ),
        (
            Sending(Door.UPDATE, _bet(f"{run}-no-vault", stranger, 5_000, "heads", "heads")),
            RejectionReason.NO_VAULT,
        ),
        (
            Sending(Door.WORKFLOW, _bet(f"{run}-uncovered", poor_player, UNCOVERED_STAKE_LAMPORTS, "heads", "tails")),
            RejectionReason.UNCOVERED,
        ),
    ]


def _bet(bet_id: str, player: str, stake: int, guess: str, outcome: str) -> dict[str, Any]:
    return {"bet_id": bet_id, "player": player, "stake": stake, "guess": guess, "outcome": outcome}


def _door(dice: random.Random) -> Door:
    chance = dice.random()
    if chance < TRACKED_SHARE:
        return Door.WORKFLOW
    return Door.SIGNAL if chance < TRACKED_SHARE + SIGNALLED_SHARE else Door.UPDATE


def _limit_tracked(sendings: list[Sending]) -> None:
    tracked = [at for at, sending in enumerate(sendings) if sending.door is Door.WORKFLOW]
    for at in tracked[MAX_TRACKED:]:
        sendings[at] = Sending(Door.UPDATE, sendings[at].content)
