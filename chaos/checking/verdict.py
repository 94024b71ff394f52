"""What is decided about a run, and in what words."""

from collections.abc import Iterable, Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict, computed_field

SHOWN: Final = 10
"""How many of each kind are named; all are counted."""


class BalanceDifference(BaseModel):
    """An account whose lamports (rent included) are not deposits plus settled bets. `account`: `house` or the player's key."""

    model_config = ConfigDict(frozen=True)

    account: str
    lane: int
    expected: int
    found: int


class Verdict(BaseModel):
    """What the chain shows at finalized `slot`, held against what clients sent and what was acknowledged to them.

    `sent`, `acknowledged`: distinct bets by id and content; `settled`: distinct bet ids under a root on chain; `batches`: records.
    `lost`: acknowledged, under no root. `settled_twice`: ids that stand under roots more than once. `never_sent`: settled with a content
    that no client has sent. `unexplained`: records (`lane/number`) whose root no known bets give. `misfits`: what else does not fit.
    Of each, the first `SHOWN` are named. `lamports_…`: over all houses and vaults.
    """

    model_config = ConfigDict(frozen=True)

    slot: int
    batches: int
    sent: int
    acknowledged: int
    settled: int
    lost: int
    lost_ids: tuple[str, ...]
    settled_twice: int
    settled_twice_ids: tuple[str, ...]
    never_sent: int
    never_sent_ids: tuple[str, ...]
    unexplained: int
    unexplained_batches: tuple[str, ...]
    misfit_count: int
    misfits: tuple[str, ...]
    balance_difference_count: int
    balance_differences: tuple[BalanceDifference, ...]
    lamports_expected: int
    lamports_found: int

    def findings(self) -> tuple[str, ...]:
        """What keeps the verdict from *agreed*, one line a kind."""
        found: list[str] = []
        if not self.acknowledged:
            found.append("no bet was acknowledged: there is nothing to agree with")
        if self.lost:
            found.append(f"{self.lost} acknowledged bets are lost: {_some(self.lost_ids, self.lost)}")
        if self.settled_twice:
            found.append(
                f"{self.settled_twice} bets are settled twice: {_some(self.settled_twice_ids, self.settled_twice)}"
            )
        if self.never_sent:
            found.append(
                f"{self.never_sent} settled bets were never sent: {_some(self.never_sent_ids, self.never_sent)}"
            )
        if self.unexplained:
            found.append(
                f"{self.unexplained} batch records are unexplained: {_some(self.unexplained_batches, self.unexplained)}"
            )
        if self.misfit_count:
            found.append(f"{self.misfit_count} things do not fit: {_some(self.misfits, self.misfit_count)}")
        if self.balance_difference_count:
            shown = [
                f"{'house' if one.account == HOUSE else one.account} of lane {one.lane} holds {one.found:,}"
                f" instead of {one.expected:,} ({one.found - one.expected:+,})"
                for one in self.balance_differences
            ]
            found.append(
                f"{self.balance_difference_count} balances differ: {_some(shown, self.balance_difference_count)}"
            )
        if self.lamports_found != self.lamports_expected:
            difference = self.lamports_found - self.lamports_expected
            found.append(
                f"houses and vaults hold {difference:+,} lamports against what was deposited: money is not conserved"
            )
        return tuple(found)

    @computed_field
    @property
    def agreed(self) -> bool:
        """Whether every acknowledged bet is settled, no bet is settled twice or invented, and all money is where it belongs."""
        return not self.findings()


HOUSE: Final = "house"


def shown(names: Iterable[str]) -> tuple[str, ...]:
    """The first of `names`, by name."""
    return tuple(sorted(names)[:SHOWN])


def _some(names: Sequence[str], count: int) -> str:
    return ", ".join(names) + (", …" if count > len(names) else "")
