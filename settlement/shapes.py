"""The circuit shapes: how many bets and players one proof covers. The smallest that fits is the cheapest to prove."""

from collections.abc import Iterable
from typing import Final

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """A circuit's capacity. `circuit_id` is the number under which its verifying key is registered on chain."""

    model_config = ConfigDict(frozen=True)

    circuit_id: int
    bets: int
    players: int

    @property
    def name(self) -> str:
        """Names the shape's files, like `60x56`."""
        return f"{self.bets}x{self.players}"


SHAPES: Final = (
    Shape(circuit_id=5, bets=16, players=8),
    Shape(circuit_id=6, bets=60, players=56),
    Shape(circuit_id=7, bets=132, players=56),
    Shape(circuit_id=8, bets=280, players=56),
)
"""Every shape there is, cheapest first; the last holds whatever another does. Ids 1 to 4 were of
earlier circuits, whose proofs the program takes no more: no id is used again.

A transaction locks at most 64 accounts, 8 of which are not vaults, so 56 players. A proof costs by the power of two that holds its
constraints: 2^11 for a few bets, 2^13 where each of 56 players bets once, 2^14 where some bet more, and 2^15 where few bet much.
"""

DEFAULT_SHAPE: Final = SHAPES[1]
"""What a lane's batches are cut for unless settings say otherwise."""


def smallest_shape(bets: int, players: int, shapes: Iterable[Shape] = SHAPES) -> Shape:
    """The first of `shapes` that holds `bets` and `players`; raises `ValueError` if none does."""
    for shape in shapes:
        if bets <= shape.bets and players <= shape.players:
            return shape
    raise ValueError(f"no circuit shape holds {bets} bets of {players} players")


def shapes_for(max_bets: int, max_players: int) -> tuple[Shape, ...]:
    """The shapes that batches of up to `max_bets` and `max_players` are proven in: those that need keys and a circuit on chain."""
    return tuple(
        shape for shape in SHAPES if smallest_shape(min(max_bets, shape.bets), min(max_players, shape.players)) == shape
    )


DEFAULT_SHAPES: Final = shapes_for(DEFAULT_SHAPE.bets, DEFAULT_SHAPE.players)
"""In use unless settings say otherwise."""
