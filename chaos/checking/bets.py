"""Bets as clients have sent them, and what makes two of them the same. The files are the clients' own: JSON lines.

It must never take as sent or acknowledged what a client was killed while writing: a last line without its end does not count.
"""

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from solders.pubkey import Pubkey

from chaos.checking.errors import CannotJudge

MOST_BETS: Final = 200_000
"""A run of more distinct bets is refused: all of them are held in memory, some 500 bytes each."""
MOST_LINE_BYTES: Final = 4_096
"""A longer line holds no bet."""
STAKE_END: Final = 2**63
"""Stakes are lamports below it: they have 63 bits under the root."""
BET_ID_PATTERN: Final = "^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$"


class Bet(NamedTuple):
    """A well-formed bet. `stake` in lamports; `heads`: whether that was the guess, and the outcome."""

    bet_id: str
    player: str
    stake: int
    guess_heads: bool
    outcome_heads: bool

    @property
    def delta(self) -> int:
        """Lamports that it brings its player: a win pays the stake, a loss costs it."""
        return self.stake if self.guess_heads == self.outcome_heads else -self.stake

    @property
    def digest(self) -> bytes:
        """The leaf: 32 bytes over the domain, the id with its length, the key, the stake and both sides."""
        bet_id = self.bet_id.encode()
        content = hashlib.sha256(b"croupier/bet/1")
        content.update(len(bet_id).to_bytes(1, "big") + bet_id)
        content.update(key_of(self.player))
        content.update(self.stake.to_bytes(8, "big"))
        content.update(bytes((self.guess_heads, self.outcome_heads)))
        return content.digest()


@lru_cache(maxsize=MOST_BETS)
def key_of(player: str) -> bytes:
    """A key's 32 bytes; raises `ValueError` if it is none."""
    return bytes(Pubkey.from_string(player))


def lane_of(player: str, lanes: int) -> int:
    """The lane that a player belongs to: SHA-256 of the key, its first 8 bytes big-endian, modulo the number of lanes."""
    return int.from_bytes(hashlib.sha256(key_of(player)).digest()[:8], "big") % lanes


def _a_key(player: str) -> str:
    key_of(player)
    return player


class BetLine(BaseModel):
    """A bet by the names that clients give its fields; others are passed over."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    bet_id: Annotated[str, Field(pattern=BET_ID_PATTERN)]
    player: Annotated[str, AfterValidator(_a_key)]
    stake: Annotated[int, Field(ge=1, lt=STAKE_END)]
    guess: Literal["heads", "tails"]
    outcome: Literal["heads", "tails"]

    @property
    def bet(self) -> Bet:
        """The same, in less memory."""
        return Bet(self.bet_id, self.player, self.stake, self.guess == "heads", self.outcome == "heads")


class BetList:
    """Distinct bets, by content."""

    def __init__(self) -> None:
        self._by_digest: dict[bytes, Bet] = {}
        self._by_id: dict[str, Bet] = {}

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Self:
        """From files, and from all `*.jsonl` of folders. Raises `CannotJudge`."""
        read = cls()
        for file in _files(paths):
            for bet in _bets_in(file):
                read._add(bet)
                if len(read) > MOST_BETS:
                    raise CannotJudge(f"{file}: there are more than {MOST_BETS} distinct bets: judge a smaller run")
        return read

    def _add(self, bet: Bet) -> None:
        self._by_digest.setdefault(bet.digest, bet)
        self._by_id.setdefault(bet.bet_id, bet)

    def __len__(self) -> int:
        return len(self._by_digest)

    def __iter__(self) -> Iterator[Bet]:
        return iter(self._by_digest.values())

    def __contains__(self, bet: Bet) -> bool:
        return bet.digest in self._by_digest

    def of_id(self, bet_id: str) -> Bet | None:
        """The first content that stands under an id."""
        return self._by_id.get(bet_id)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.glob("*.jsonl"))
        else:
            yield path


def _bets_in(file: Path) -> Iterator[Bet]:
    number = 0
    try:
        with file.open("rb") as lines:
            while line := lines.readline(MOST_LINE_BYTES):
                number += 1
                if not line.endswith(b"\n") and len(line) < MOST_LINE_BYTES:
                    return
                if line.strip():
                    yield BetLine.model_validate_json(line).bet
    except OSError as error:
        raise CannotJudge(f"{file}: {error.strerror}: name a file of bets or a folder of them") from None
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        what = f"{'.'.join(map(str, problem['loc'])) or 'the line'}: {problem['msg']}"
        raise CannotJudge(f"{file}, line {number}: {what}: each line but an unfinished last one holds a bet") from None
