"""The judge's own hash, roots and lanes, held against published vectors and against the pipeline; and that it takes nothing from that."""

import ast
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from solders.pubkey import Pubkey

from chaos.checking.bets import BetLine, lane_of
from chaos.checking.poseidon import MOST_INPUTS, R, poseidon
from chaos.checking.roots import bets_root
from settlement.batches import statement_for
from settlement.bets import Bet
from settlement.bets import lane_of as lane_in_use
from settlement.poseidon import poseidon as poseidon_in_use
from settlement.shapes import SHAPES, Shape

ROOT: Final = Path(__file__).parents[2]
JUDGE: Final = "chaos.checker"
JUDGES_OWN: Final = ("chaos", JUDGE, "chaos.checking")


@pytest.mark.parametrize(
    ("inputs", "digest"),
    [
        # circomlib, test/poseidoncircuit.js
        ((1, 2), 7853200120776062878684798364095072458815029376092732009249414926327459813530),
        ((1, 2, 3, 4), 18821383157269793795438455681495246036402687001665670618754263018637548127333),
        # circomlibjs, test/poseidon.js
        ((1, 2, 0, 0, 0), 1018317224307729531995786483840663576608797660851238720571059489595066344487),
        ((1, 2, 0, 0, 0, 0), 15336558801450556532856248569924170992202208561737609669134139141992924267169),
        ((3, 4, 0, 0, 0), 5811595552068139067952687508729883632420015185677766880877743348592482390548),
        ((3, 4, 0, 0, 0, 0), 12263118664590987767234828103155242843640892839966517009184493198782366909018),
        ((1, 2, 3, 4, 5, 6), 20400040500897583745843009878988256314335038853985262692600694741116813247201),
    ],
)
def test_poseidon_gives_the_published_digests(inputs: tuple[int, ...], digest: int) -> None:
    assert poseidon(inputs) == digest


@pytest.mark.parametrize("count", range(1, MOST_INPUTS + 1))
def test_two_implementations_of_poseidon_agree_at_every_width(count: int) -> None:
    chance = random.Random(count)
    inputs = [chance.randrange(R) for _ in range(count)]
    assert poseidon(inputs) == poseidon_in_use(inputs)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("fill", ["full", "nearly full", "smallest"])
def test_two_implementations_of_the_bets_root_agree(shape: Shape, fill: str) -> None:
    smaller = max((other.bets for other in SHAPES if other.bets < shape.bets), default=0)
    count = {"full": shape.bets, "nearly full": shape.bets - 1, "smallest": smaller + 1}[fill]
    chance = random.Random(f"{shape.name} {fill}")
    players = [str(Pubkey(chance.randbytes(32))) for _ in range(min(shape.players, count))]
    vault_indices = dict(zip(players, chance.sample(range(1, 1_000), len(players)), strict=True))
    bets = [
        Bet(
            bet_id=f"bet:{nth}" * chance.randint(1, 5),
            player=players[nth % len(players)],
            stake=chance.randrange(1, 2**30) if nth else 2**63 - 2**40,
            guess=chance.choice(("heads", "tails")),
            outcome=chance.choice(("heads", "tails")),
        )
        for nth in range(count)
    ]
    own = [BetLine.model_validate(bet.model_dump(exclude={"placed_at"})).bet for bet in bets]
    statement = statement_for(0, 1, bets, vault_indices)
    assert bets_root(own, vault_indices, statement.shape.bets) == statement.bets_root
    assert [bet.digest for bet in own] == [bet.digest for bet in bets]
    assert [bet.delta for bet in own] == [bet.delta for bet in bets]


def test_a_players_lane_is_the_one_in_use() -> None:
    chance = random.Random(1)
    for _ in range(50):
        player, lanes = str(Pubkey(chance.randbytes(32))), chance.randint(1, 300)
        assert lane_of(player, lanes) == lane_in_use(player, lanes)


@pytest.mark.parametrize(
    "change",
    [
        {"stake": 0},
        {"stake": 2**63},
        {"stake": True},
        {"stake": "1"},
        {"guess": "edge"},
        {"player": "short"},
        {"bet_id": "a b"},
    ],
    ids=str,
)
def test_what_no_client_could_send_is_no_bet(change: dict[str, object]) -> None:
    bet = {"bet_id": "b", "player": str(Pubkey(bytes(32))), "stake": 1, "guess": "heads", "outcome": "tails"}
    BetLine.model_validate(bet)
    with pytest.raises(ValueError, match="1 validation error"):
        BetLine.model_validate({**bet, **change})


def _imported_by(file: Path, package: str) -> Iterator[str]:
    """Every module that a file may import, wherever in it; of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (above, node.module) if part)
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def _file_of(module: str) -> Path | None:
    place = ROOT.joinpath(*module.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


def _closure(module: str) -> set[str]:
    """All of this repository's modules that come with `module`, packages included."""
    reached, waiting = set[str](), [module]
    while waiting:
        name = waiting.pop()
        file = _file_of(name)
        if file is None or name in reached:
            continue
        reached.add(name)
        parents = name.split(".")[:-1]
        waiting += [".".join(parents[: depth + 1]) for depth in range(len(parents))]
        waiting += _imported_by(file, name if file.name == "__init__.py" else ".".join(parents))
    return reached


def test_the_judge_shares_no_code_with_what_it_judges() -> None:
    closure = _closure(JUDGE)
    assert {"chaos.checking.poseidon", "chaos.checking.chain", "chaos.checking.hints"} <= closure
    assert {name for name in closure if name not in JUDGES_OWN and not name.startswith("chaos.checking.")} == set()
    # The closure is found at all: the pipeline's own would be.
    assert "settlement.poseidon" in _closure("settlement.receipts")


def test_the_running_judge_has_loaded_nothing_else_of_this_repository() -> None:
    code = f"import json, sys, {JUDGE}; print(json.dumps([m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {Path(file).relative_to(ROOT) for file in json.loads(done.stdout) if Path(file).is_relative_to(ROOT)}
    own = {file for file in loaded if file.parts[0] != ".venv"}
    assert {
        file
        for file in own
        if file.parts[:2] not in (("chaos", "checking"), ("chaos", "checker.py"), ("chaos", "__init__.py"))
    } == set()
    assert Path("chaos/checker.py") in own
