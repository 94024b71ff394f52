"""Which bets stand under the roots on chain: hints are tried until a root follows from them.

It must never name bets that a root does not follow from. Neither the order of batches nor their numbers matter here: a batch that landed
under two numbers is found under both.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from chaos.checking.bets import Bet, BetList
from chaos.checking.chain import Chain, Record, Vault
from chaos.checking.hints import BatchHint
from chaos.checking.roots import SLOTS_END, bets_root

Hints = Callable[[], Iterable[BatchHint]]
"""Reads the hints from the beginning."""


class Explanation(NamedTuple):
    """The bets that give a root, in their order, in a circuit that holds `capacity` bets."""

    bets: tuple[Bet, ...]
    capacity: int


class Explanations:
    """The bets of each record whose root follows from some."""

    def __init__(self, chain: Chain, hints: Hints, sent: BetList) -> None:
        self._vaults: Final = _vaults_by_lane(chain)
        self._found: Final[dict[tuple[int, int], Explanation]] = {}
        self._open: Final = {_key(record) for record in chain.records}
        capacities = {circuit_id: circuit.bets for circuit_id, circuit in chain.circuits.items()}
        likely: dict[tuple[int, int], set[int]] = {}
        for record in chain.records:
            if record.circuit_id in capacities:
                likely.setdefault((record.lane, record.bet_count), set()).add(capacities[record.circuit_id])
        # What the journal says now comes first, and only where counts match; all else only for what that leaves open.
        for hint in hints():
            for lane in self._vaults:
                self._try(lane, hint.bets, likely.get((lane, len(hint.bets)), set()))
        if self._open:
            for hint in hints():
                for bets in _variants(hint, sent):
                    for lane in {lane for lane, _ in self._open}:
                        self._try(lane, bets, set(capacities.values()))

    def of(self, record: Record) -> Explanation | None:
        """What `record` has settled, None if nobody can say."""
        return self._found.get(_key(record))

    def _try(self, lane: int, bets: tuple[Bet, ...], capacities: Iterable[int]) -> None:
        players, vaults = {bet.player for bet in bets}, self._vaults.get(lane, {})
        if not 0 < len(players) <= SLOTS_END or not players <= vaults.keys():
            return
        indices = {player: vaults[player].vault_index for player in players}
        for capacity in capacities:
            if len(bets) > capacity:
                continue
            key = lane, bets_root(bets, indices, capacity)
            if key in self._open:
                self._open.remove(key)
                self._found[key] = Explanation(bets, capacity)


def _key(record: Record) -> tuple[int, int]:
    return record.lane, record.bets_root


def _vaults_by_lane(chain: Chain) -> Mapping[int, Mapping[str, Vault]]:
    by_lane: dict[int, dict[str, Vault]] = {}
    for (lane, owner), vault in chain.vaults.items():
        by_lane.setdefault(lane, {})[owner] = vault
    return by_lane


def _variants(hint: BatchHint, sent: BetList) -> Iterator[tuple[Bet, ...]]:
    """What the batch may have been besides: what it is by other circuits, what it was before, each also as the clients have sent it."""
    for bets in (hint.bets, *hint.earlier):
        yield bets
        as_sent = tuple(sent.of_id(bet.bet_id) or bet for bet in bets)
        if as_sent != bets:
            yield as_sent
