"""The circuit against the commitments: it outputs the domain's public input, and no false input gives a proof that verifies.

`groth16py.prove` fills in a witness for any input and lets it break constraints; such a proof then does not verify. So each
tampered input is verified against the very public input that the circuit would have put out for it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import groth16py
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prover import circuit
from prover.inputs import Signals, circuit_signals
from prover.keys import key_files, load_proving_key, load_verifying_key
from settlement import commitment
from settlement.batches import Statement
from settlement.commitment import FIELD_MODULUS, NET_OFFSET
from settlement.shapes import SHAPES, Shape

MAX_FFT_DOMAIN: Final = {"16x8": 2**12, "64x16": 2**13}
"""The proof's cost doubles where a shape outgrows its power of two."""

StatementOf = Callable[..., Statement]
Tampering = Callable[[dict[str, list[int]]], None]


class Circuit:
    """One shape's keys, used without any of the adapter's checks."""

    def __init__(self, keys_dir: Path, shape: Shape) -> None:
        self.shape = shape
        self._proving_key = load_proving_key(keys_dir, shape)
        verifying_key = groth16py.VerifyingKey.from_snarkjs(load_verifying_key(keys_dir, shape).text)
        self.public_inputs = verifying_key.n_public
        self._verifier = groth16py.Verifier(verifying_key)

    def accepts(self, signals: Signals, public_input: int) -> bool:
        return self._verifier.verify(groth16py.prove(self._proving_key, dict(signals)), [public_input])


@pytest.fixture(scope="module")
def circuits(keys_dir: Path) -> dict[str, Circuit]:
    return {shape.name: Circuit(keys_dir, shape) for shape in SHAPES}


def claimed_public_input(signals: Signals, shape: Shape) -> int:
    """What the circuit outputs for `signals` if no constraint is looked at: the commitments over the field, without bounds."""
    stakes, guesses, outcomes, slots = (_list(signals, name) for name in ("stakes", "guesses", "outcomes", "slots"))
    packs = [
        stake + (guess << 63) + (outcome << 64) + (slot << 65)
        for stake, guess, outcome, slot in zip(stakes, guesses, outcomes, slots, strict=True)
    ]
    elements = [element % FIELD_MODULUS for element in commitment.elements_of(packs, shape)]
    root = commitment.poseidon([_int(signals, "idsDigest"), *commitment.nodes_of(elements)])
    nets = _list(signals, "nets")
    packed_nets = [
        sum(net + NET_OFFSET << 64 * i for i, net in enumerate(nets[start : start + 3])) % FIELD_MODULUS
        for start in range(0, len(nets), 3)
    ]
    house = (NET_OFFSET - sum(nets)) % FIELD_MODULUS
    inputs = [_int(signals, "identity"), root, house, *_list(signals, "vaults"), *packed_nets]
    assert len(inputs) <= 12, "one Poseidon call does for the shapes in use"
    return commitment.poseidon(inputs)


def _list(signals: Signals, name: str) -> list[int]:
    value = signals[name]
    assert isinstance(value, list)
    return value


def _int(signals: Signals, name: str) -> int:
    value = signals[name]
    assert isinstance(value, int)
    return value


def tampered(signals: Signals, tamper: Tampering) -> Signals:
    """`signals` after `tamper`, which must have changed something."""
    lists = {name: list(value) for name, value in signals.items() if isinstance(value, list)}
    tamper(lists)
    changed = {**signals, **{name: [value % FIELD_MODULUS for value in values] for name, values in lists.items()}}
    assert changed != signals
    return changed


@pytest.mark.parametrize(
    ("bets", "players"), [(1, 1), (16, 8), (5, 3), (9, 9), (64, 16), (40, 2)], ids=lambda size: str(size)
)
def test_the_circuit_outputs_the_public_input_of_the_domain(
    circuits: dict[str, Circuit], statement_of: StatementOf, bets: int, players: int
) -> None:
    statement = statement_of(bets, players)
    assert circuits[statement.shape.name].accepts(circuit_signals(statement), statement.public_input)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bets=st.integers(1, 64), players=st.integers(1, 16), seed=st.integers(0, 2**32))
def test_random_batches_of_any_fill_are_proven(
    circuits: dict[str, Circuit], statement_of: StatementOf, bets: int, players: int, seed: int
) -> None:
    statement = statement_of(max(bets, players), players, seed)
    assert circuits[statement.shape.name].accepts(circuit_signals(statement), statement.public_input)


@settings(max_examples=150)
@given(bets=st.integers(1, 64), players=st.integers(1, 16), seed=st.integers(0, 2**32))
def test_signals_carry_exactly_what_the_public_input_commits_to(
    statement_of: StatementOf, bets: int, players: int, seed: int
) -> None:
    statement = statement_of(max(bets, players), players, seed)
    assert claimed_public_input(circuit_signals(statement), statement.shape) == statement.public_input


def test_the_largest_stake_lost_and_won_is_proven(circuits: dict[str, Circuit], statement_of: StatementOf) -> None:
    signals = circuit_signals(statement_of(2, 2))
    for guess in (0, 1):
        extreme = {**signals, **_places(16, stakes=[2**63 - 1, 0], guesses=[guess, 0], outcomes=[0, 0], slots=[0, 1])}
        net = (2**63 - 1) * (1 - 2 * guess) % FIELD_MODULUS
        extreme["nets"] = [net, 0, 0, 0, 0, 0, 0, 0]
        assert circuits["16x8"].accepts(extreme, claimed_public_input(extreme, SHAPES[0]))


def _places(bets: int, **lists: list[int]) -> dict[str, int | list[int]]:
    return {name: [*values, *[0] * (bets - len(values))] for name, values in lists.items()}


def _add(name: str, position: int, amount: int) -> Tampering:
    def tamper(lists: dict[str, list[int]]) -> None:
        lists[name][position] += amount

    return tamper


def _set(name: str, position: int, value: int) -> Tampering:
    def tamper(lists: dict[str, list[int]]) -> None:
        lists[name][position] = value

    return tamper


def _move(amount: int, source: int, target: int) -> Tampering:
    def tamper(lists: dict[str, list[int]]) -> None:
        lists["nets"][source] -= amount
        lists["nets"][target] += amount

    return tamper


def _borrow_between_the_halves_of_a_pair(lists: dict[str, list[int]]) -> None:
    lists["nets"][0] += 2**80
    lists["nets"][1] -= 1


def _flip_outcome(lists: dict[str, list[int]]) -> None:
    lists["outcomes"][0] = 1 - lists["outcomes"][0]


def _swap_slots_of_two_bets(lists: dict[str, list[int]]) -> None:
    """Bets of two players, of different stakes, change places: the players' sums no longer fit."""
    other = next(i for i, slot in enumerate(lists["slots"]) if slot != lists["slots"][0])
    lists["slots"][0], lists["slots"][other] = lists["slots"][other], lists["slots"][0]


def _stake_beyond_its_bits_with_fitting_net(lists: dict[str, list[int]]) -> None:
    """A stake of -5: the nets would follow, so only the stake's bits stand against it."""
    won = lists["guesses"][0] == lists["outcomes"][0]
    before = lists["stakes"][0]
    lists["stakes"][0] = -5
    lists["nets"][lists["slots"][0]] += (-5 - before) * (1 if won else -1)


def _guess_of_two_with_fitting_net(lists: dict[str, list[int]]) -> None:
    """A guess of 2 with outcome 0 would multiply the stake by -3: only the guess's bit stands against it."""
    stake, slot = lists["stakes"][0], lists["slots"][0]
    won = lists["guesses"][0] == lists["outcomes"][0]
    lists["guesses"][0], lists["outcomes"][0] = 2, 0
    lists["nets"][slot] += -3 * stake - (stake if won else -stake)


def _outcome_of_two_with_fitting_net(lists: dict[str, list[int]]) -> None:
    stake, slot = lists["stakes"][0], lists["slots"][0]
    won = lists["guesses"][0] == lists["outcomes"][0]
    lists["guesses"][0], lists["outcomes"][0] = 0, 2
    lists["nets"][slot] += -3 * stake - (stake if won else -stake)


def _slot_beyond_the_players_with_fitting_net(lists: dict[str, list[int]]) -> None:
    """Slot P looks like slot 0 in its low bits; its packs would spill into the next place of the element."""
    stake, slot = lists["stakes"][0], lists["slots"][0]
    delta = stake if lists["guesses"][0] == lists["outcomes"][0] else -stake
    lists["slots"][0] = len(lists["nets"])
    lists["nets"][slot] -= delta
    lists["nets"][0] += delta


def _only_two_bets_of_the_first_player(stake: int, guesses: list[int], net: int) -> Tampering:
    """All outcomes are 0, so a guess of 0 wins."""

    def tamper(lists: dict[str, list[int]]) -> None:
        bets, players = len(lists["stakes"]), len(lists["nets"])
        lists.update(
            stakes=[stake, stake, *[0] * (bets - 2)],
            guesses=[*guesses, *[0] * (bets - 2)],
            outcomes=[0] * bets,
            slots=[0] * bets,
            nets=[net, *[0] * (players - 1)],
        )

    return tamper


TAMPERINGS: Final[dict[str, Tampering]] = {
    "a net one higher": _add("nets", 0, 1),
    "a net one lower": _add("nets", 5, -1),
    "an amount moved within a pair": _move(1000, 0, 1),
    "an amount moved between pairs": _move(1000, 1, 2),
    "a borrow between the halves of a pair": _borrow_between_the_halves_of_a_pair,
    "a net of an empty slot": _add("nets", 7, 1),
    "a net outside 64 bits": _add("nets", 0, 2**64),
    "won bets whose sum leaves 64 bits": _only_two_bets_of_the_first_player(2**63 - 1, [0, 0], 2**64 - 2),
    "lost bets whose sum leaves 64 bits": _only_two_bets_of_the_first_player(2**63 - 1, [1, 1], 2 - 2**64),
    "another stake": _add("stakes", 0, 1),
    "a negative stake": _stake_beyond_its_bits_with_fitting_net,
    "a stake of 2^63 more, which reads as the other guess": _add("stakes", 0, 2**63),
    "stakes of 2^63 that cancel": _only_two_bets_of_the_first_player(2**63, [0, 1], 0),
    "a stake on an empty place": _set("stakes", 15, 1),
    "the outcome swapped": _flip_outcome,
    "a guess of 2": _guess_of_two_with_fitting_net,
    "an outcome of 2": _outcome_of_two_with_fitting_net,
    "an outcome of 1/4": _set("outcomes", 0, pow(4, -1, FIELD_MODULUS)),
    "a bet in another's slot": _swap_slots_of_two_bets,
    "a bet in an empty slot": _set("slots", 0, 7),
    "a bet in slot P": _slot_beyond_the_players_with_fitting_net,
    "a bet in slot -1": _set("slots", 0, -1),
}
LARGE_SHAPE_TAMPERINGS: Final = ("a net one higher", "an amount moved between pairs", "the outcome swapped")


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_tampered_input_gives_no_valid_proof(
    circuits: dict[str, Circuit], statement_of: StatementOf, name: str
) -> None:
    signals = tampered(circuit_signals(statement_of(12, 6)), TAMPERINGS[name])
    assert not circuits["16x8"].accepts(signals, claimed_public_input(signals, SHAPES[0]))


@pytest.mark.parametrize("name", LARGE_SHAPE_TAMPERINGS)
def test_a_tampered_input_of_the_large_shape_gives_no_valid_proof(
    circuits: dict[str, Circuit], statement_of: StatementOf, name: str
) -> None:
    signals = tampered(circuit_signals(statement_of(60, 14)), TAMPERINGS[name])
    assert not circuits["64x16"].accepts(signals, claimed_public_input(signals, SHAPES[1]))


@pytest.mark.parametrize("name", ["identity", "idsDigest", "vaults"])
def test_the_public_input_binds_what_the_circuit_does_not_constrain(
    circuits: dict[str, Circuit], statement_of: StatementOf, name: str
) -> None:
    statement = statement_of(12, 6)
    signals = circuit_signals(statement)
    other = {**signals, name: [1, *_list(signals, name)[1:]] if name == "vaults" else _int(signals, name) + 1}
    assert circuits["16x8"].accepts(other, claimed_public_input(other, SHAPES[0]))
    assert not circuits["16x8"].accepts(other, statement.public_input)


def test_the_circuit_takes_no_hint_of_its_own() -> None:
    source = (circuit.CIRCUITS_DIR / "settlement.circom").read_text()
    code = "\n".join(line.split("//")[0] for line in source.splitlines())
    assert "<--" not in code
    assert "-->" not in code


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_each_shape_stays_within_its_fft_domain_and_has_one_public_input(
    keys_dir: Path, circuits: dict[str, Circuit], shape: Shape
) -> None:
    assert circuits[shape.name].public_inputs == 1
    assert _fft_domain(key_files(keys_dir, shape).proving_key.read_bytes()) <= MAX_FFT_DOMAIN[shape.name]


def _fft_domain(proving_key: bytes) -> int:
    """One more than the length of the H query, which has a point for each power of tau below the domain's size less one.

    groth16py 0.2.0 writes "g16pk1" and then arkworks' uncompressed `ProvingKey`: alpha G1, beta, gamma, delta G2, vector of G1,
    beta G1, delta G1, and the queries A (G1), B (G1), B (G2), H (G1), L (G1). A vector is its length (u64) and its points.
    """
    g1, g2, length = 64, 128, 8
    offset = len(b"g16pk1") + g1 + 3 * g2

    def skip(point_bytes: int) -> int:
        nonlocal offset
        count = int.from_bytes(proving_key[offset : offset + length], "little")
        offset += length + count * point_bytes
        return count

    skip(g1)
    offset += 2 * g1
    wires = [skip(g1), skip(g1), skip(g2)]
    h = skip(g1)
    private_wires = skip(g1)
    assert wires == [private_wires + 2] * 3, "the key is not laid out as documented here"
    return h + 1
