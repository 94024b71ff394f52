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
        """Names the shape's files, like `64x16`."""
        return f"{self.bets}x{self.players}"


SHAPES: Final = (Shape(circuit_id=1, bets=16, players=8), Shape(circuit_id=2, bets=64, players=16))
"""The shapes in use, smallest first. A lane's batches are cut so that the last one always fits."""


def smallest_shape(bets: int, players: int, shapes: Iterable[Shape] = SHAPES) -> Shape:
    """The first of `shapes` that holds `bets` and `players`; raises `ValueError` if none does."""
    for shape in shapes:
        if bets <= shape.bets and players <= shape.players:
            return shape
    raise ValueError(f"no circuit shape holds {bets} bets of {players} players")
