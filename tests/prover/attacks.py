"""The attacks on the circuit, each as the best forged witness there is: it breaks a single constraint where one is enough.

An attack starts from an honest batch, made by `ready_to_attack`. The nets follow from what it does to the bets, so that nothing but
the attacked constraints can tell; and where it can, the bets root is that of bets to which other nets are due.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from settlement.commitment import NET_BITS, NET_OFFSET, STAKE_BITS
from settlement.limits import MAX_STAKE_LAMPORTS
from settlement.poseidon import FIELD_MODULUS
from tests.prover.anatomy import PAIR_BITS, BetConstraints, Inputs, changed
from tests.prover.forging import Forged, Forger, true
from tests.prover.solving import HONEST, Forgery

SMALL: Final = 0
"""The bet that is attacked: `SMALL_STAKE` lamports, lost. The stake divides by the number of pairs of every shape."""
SMALL_STAKE: Final = 10_000
AMOUNT: Final = 1_000
LAST: Final = -1
EMPTY: Final = -2
"""An empty place that is not the last: the last bet's amounts have no wires of their own."""


def ready_to_attack(inputs: Inputs) -> Inputs:
    """An honest batch with a small lost bet, made of one with two empty slots and three empty places at least."""
    assert not any(inputs.stakes[-3:])
    assert not any(inputs.nets[-2:])
    return true(inputs.with_bet(SMALL, stake=SMALL_STAKE, guess=0, outcome=1))


Attack = Callable[[Forger], Forged]
Part = Callable[[BetConstraints], int]
Changes = Mapping[str, int]
"""Of one bet: its stake, guess, outcome or slot."""
SlotOf = Callable[[int, int], int]
"""Given a bet's own slot and the width of slots in bits."""


def _guess(bet: BetConstraints) -> int:
    return bet.guess


def _outcome(bet: BetConstraints) -> int:
    return bet.outcome


def _both(bet: BetConstraints) -> int:
    return bet.both


def _delta(bet: BetConstraints) -> int:
    return bet.delta


def _odd(bet: BetConstraints) -> int:
    return bet.odd


def _halving(level: int, node: int, bet: BetConstraints) -> int:
    return bet.halvings[level][node]


def _off(part: Part, bet: int, error: int) -> Attack:
    """One product of one bet is off; the nets follow."""

    def attack(forger: Forger) -> Forged:
        number = part(forger.anatomy.bets[bet])
        forgery = Forgery(errors={number: error})
        return Forged(forger.followed(forger.inputs, forgery), forgery, frozenset({number}))

    return attack


def _false_nets(change: Callable[[list[int]], None], *beyond_bits: int) -> Attack:
    """Only the nets are false: then the last bet's amounts are not what its slot's bits say, for they are what the nets leave.

    `beyond_bits`: whose nets also leave 64 signed bits.
    """

    def attack(forger: Forger) -> Forged:
        nets = list(forger.inputs.nets)
        change(nets)
        ranges = {forger.anatomy.net_bits[player].constraint for player in beyond_bits}
        return Forged(forger.inputs.with_nets(nets), HONEST, forger.anatomy.bets[LAST].moves | ranges, exactly=False)

    return attack


def _move(amount: int, source: int, target: int) -> Attack:
    def change(nets: list[int]) -> None:
        nets[source] -= amount
        nets[target] += amount

    return _false_nets(change)


def _grow(player: int, amount: int, *beyond_bits: int) -> Attack:
    def change(nets: list[int]) -> None:
        nets[player] += amount

    return _false_nets(change, *beyond_bits)


def _carry_over(nets: list[int]) -> None:
    """The nets read as they are: the two stand side by side in one element."""
    nets[0] += 1 << NET_BITS
    nets[1] -= 1


def _swap_nets(nets: list[int]) -> None:
    nets[0], nets[1] = nets[1], nets[0]


def _double_nets(nets: list[int]) -> None:
    nets[:] = [2 * net for net in nets]


def _negate_nets(nets: list[int]) -> None:
    nets[:] = [-net for net in nets]


def _forget_nets(nets: list[int]) -> None:
    nets[:] = [0] * len(nets)


def _boolean(part: Part, claimed: Changes, forged: Changes) -> Attack:
    """Guess or outcome of one bet is neither 0 nor 1; the root is that of the `claimed` bet."""

    def attack(forger: Forger) -> Forged:
        told, done = (
            forger.inputs.with_bet(SMALL, **{"slot": 1, "stake": SMALL_STAKE, **changes})
            for changes in (claimed, forged)
        )
        breaks = frozenset({part(forger.anatomy.bets[SMALL])})
        return Forged(forger.followed(forger.alias(done, told)), HONEST, breaks)

    return attack


def _stake(position: int, claimed: Changes, forged: Changes) -> Attack:
    """A stake outside its bits; the root is that of the `claimed` bet. Another bet of the player keeps his net in bounds."""

    def attack(forger: Forger) -> Forged:
        old = forger.inputs.with_bet(1, stake=1 << STAKE_BITS - 1, guess=1, outcome=1, slot=forger.inputs.slots[SMALL])
        inputs = forger.alias(old.with_bet(SMALL, **forged), old.with_bet(SMALL, **claimed))
        forgery, breaks = forger.in_bits(forger.anatomy.bets[SMALL].stake_bits, forged["stake"], position)
        return Forged(forger.followed(inputs, forgery), forgery, breaks)

    return attack


def _cancelling_stakes(forger: Forger) -> Forged:
    """Stakes of one player beyond their bits, one won and one lost, whose nets together stay within theirs."""
    inputs = forger.inputs.with_bet(SMALL, stake=(1 << STAKE_BITS) + AMOUNT, slot=0, guess=1, outcome=1)
    inputs = inputs.with_bet(1, stake=1 << STAKE_BITS, slot=0, guess=1, outcome=0)
    breaks = frozenset(forger.anatomy.bets[bet].stake_bits.constraint for bet in (SMALL, 1))
    return Forged(forger.followed(inputs), HONEST, breaks)


def _slot(position: int, slot: SlotOf, slot_of_bits: SlotOf) -> Attack:
    """A bet whose slot's bits are not those of its slot."""

    def attack(forger: Forger) -> Forged:
        group = forger.anatomy.bets[SMALL].slot_bits
        own = forger.inputs.slots[SMALL]
        said, bits_of = slot(own, group.width), slot_of_bits(own, group.width)
        forgery, breaks = forger.in_bits(group, said, position % group.width, bits_of)
        return Forged(forger.followed(forger.inputs.with_bet(SMALL, slot=said), forgery), forgery, breaks)

    return attack


def _pack_overflow(position: int) -> Attack:
    """A slot of 256 more spills into the next pack of the element, whose stake is one less: the root is the honest one."""

    def attack(forger: Forger) -> Forged:
        group, old = forger.anatomy.bets[SMALL].slot_bits, forger.inputs
        said = old.slots[SMALL] + 256
        inputs = old.with_bet(SMALL, slot=said).with_bet(SMALL + 1, stake=old.stakes[SMALL + 1] - 1)
        forgery, breaks = forger.in_bits(group, said, position % group.width)
        return Forged(forger.followed(forger.alias(inputs, old), forgery), forgery, breaks)

    return attack


def _half_and_half(position: int) -> Attack:
    """A slot bit of 1/2 with a full one below it: the same slot, but its amount goes to two players by halves."""

    def attack(forger: Forger) -> Forged:
        group = forger.anatomy.bets[SMALL].slot_bits
        at = position % group.width
        inputs = forger.inputs.with_bet(SMALL, slot=1 << at)
        forgery, breaks = forger.in_bits(group, 1 << at, at, bits_of=1 << at - 1)
        assert forgery.bits[group.wires[at]] % FIELD_MODULUS == _HALF
        return Forged(forger.followed(inputs, forgery), forgery, breaks)

    return attack


def bets_of_first_player(stakes: Sequence[int], won: bool) -> Callable[[Inputs], Inputs]:
    """The batch in which the first bets are these, all of slot 0, which has no others."""

    def inputs_of(inputs: Inputs) -> Inputs:
        slots = [slot or 1 for slot in inputs.slots]
        for bet, stake in enumerate(stakes):
            inputs = inputs.with_bet(bet, stake=stake, guess=int(won), outcome=1)
            slots[bet] = 0
        empty = [i for i, stake in enumerate(inputs.stakes) if not stake]
        for bet in empty:
            slots[bet] = 0
        return replace(inputs, slots=tuple(slots))

    return inputs_of


def _net(stakes: Sequence[int], won: bool, position: int) -> Attack:
    """Honest bets of slot 0 whose net leaves 64 signed bits."""
    inputs_of = bets_of_first_player(stakes, won)

    def attack(forger: Forger) -> Forged:
        inputs = true(inputs_of(forger.inputs))
        forgery, breaks = forger.in_bits(forger.anatomy.net_bits[0], inputs.nets[0] + NET_OFFSET, position)
        assert forger.followed(inputs, forgery) == inputs
        return Forged(inputs, forgery, breaks)

    return attack


def _borrow(units: int, position: int) -> Attack:
    """So many units of the odd slot become 2^80 units each of the even one: the pair's sum stays."""

    def attack(forger: Forger) -> Forged:
        nets = forger.inputs.nets
        even = nets[0] + (units << PAIR_BITS)
        nets = changed(changed(nets, 0, even), 1, nets[1] - units)
        forgery, breaks = forger.in_bits(forger.anatomy.net_bits[0], even + NET_OFFSET, position)
        return Forged(forger.inputs.with_nets(nets), forgery, breaks)

    return attack


_HALF, _QUARTER = (pow(divisor, -1, FIELD_MODULUS) for divisor in (2, 4))
_DELTA_ERRORS: Final = (1, -1)
_PLACES: Final = {"a bet": SMALL, "another bet": 7, "an empty place": EMPTY, "the last place": LAST}
_PLACES_WITH_WIRES: Final = {name: bet for name, bet in _PLACES.items() if bet != LAST}
_NODES: Final = {"the root": (0, 0), "the first leaves": (-1, 0), "the last leaves": (-1, -1)}
"""Level and node of a demultiplexer."""
_STAKE_POSITIONS: Final = (0, 31, STAKE_BITS - 1)
_NET_POSITIONS: Final = (0, 32, NET_BITS - 1)
_SLOT_POSITIONS: Final = {"lowest": 0, "second": 1, "highest": -1}

_STAKES: Final[Mapping[str, tuple[Changes, Changes]]] = {
    "a stake of -5": (
        {"stake": (1 << STAKE_BITS) - 5, "guess": 0, "outcome": 1},
        {"stake": -5, "guess": 1, "outcome": 1},
    ),
    "a stake of 2^63 more": (
        {"stake": SMALL_STAKE, "guess": 1, "outcome": 1},
        {"stake": SMALL_STAKE + (1 << STAKE_BITS), "guess": 0, "outcome": 1},
    ),
    "a stake of 2^63": (
        {"stake": 0, "guess": 1, "outcome": 1},
        {"stake": 1 << STAKE_BITS, "guess": 0, "outcome": 1},
    ),
}
"""The bet that the root seems to hold, and what stands there."""

_SLOTS: Final[Mapping[str, tuple[SlotOf, SlotOf]]] = {
    "a bet in slot P": (lambda _own, width: 1 << width, lambda _own, _width: 0),
    "a bet in slot -1": (lambda _own, _width: -1, lambda _own, width: (1 << width) - 1),
    "a bet handed to its pair's other slot": (lambda own, _width: own, lambda own, _width: own ^ 1),
    "a bet handed to the neighbouring pair": (lambda own, _width: own, lambda own, _width: own ^ 2),
    "a bet handed to a distant pair": (lambda own, _width: own, lambda own, width: own ^ 1 << width - 1),
    "a bet handed to an empty slot": (lambda own, _width: own, lambda _own, width: (1 << width) - 1),
}
"""The slot that a bet says, and the one whose bits it has."""

_SELF_MENDING: Final = (
    ("a bet handed to its pair's other slot", "lowest"),
    ("a bet handed to the neighbouring pair", "second"),
    ("a bet handed to a distant pair", "highest"),
)
"""Made up for in the very bit that differs, a slot is itself again."""

_NETS: Final[Mapping[str, Callable[[int], Attack]]] = {
    "a net of 2^63": partial(_net, [1 << 62, 1 << 62], True),
    "a net of -2^63 - 1": partial(_net, [1 << 62, 1 << 62, 1], False),
    "a net of two largest stakes won": partial(_net, [MAX_STAKE_LAMPORTS] * 2, True),
    "a net of two largest stakes lost": partial(_net, [MAX_STAKE_LAMPORTS] * 2, False),
    "a net with a unit of the other's as 2^80": partial(_borrow, 1),
    "a net with 2^80 as a unit of the other's": partial(_borrow, -1),
}

ONLY_THE_NETS: Final[Mapping[str, Attack]] = {
    "a net one higher": _grow(0, 1),
    "a net one lower": _grow(5, -1),
    "a net of an empty slot": _grow(-1, 1),
    "a net 2^64 higher": _grow(0, 1 << NET_BITS, 0),
    "a net 2^64 higher and the next one lower": _false_nets(_carry_over, 0),
    "an amount moved within a pair": _move(AMOUNT, 0, 1),
    "an amount moved between neighbouring pairs": _move(AMOUNT, 1, 2),
    "an amount moved between distant pairs": _move(AMOUNT, 0, -3),
    "two nets swapped": _false_nets(_swap_nets),
    "all nets doubled": _false_nets(_double_nets),
    "all nets negated": _false_nets(_negate_nets),
    "no net at all": _false_nets(_forget_nets),
}

PRODUCTS: Final[Mapping[str, Attack]] = {
    **{
        f"a delta off by {error}, of {place}": _off(_delta, bet, error)
        for place, bet in _PLACES.items()
        for error in _DELTA_ERRORS
    },
    "a lost bet that moves nothing": _off(_delta, SMALL, -SMALL_STAKE),
    "a lost bet as if won": _off(_both, SMALL, _HALF),
    "a lost bet that loses threefold": _off(_both, SMALL, -_HALF),
    **{
        f"{amount} moved within a pair, of {place}": _off(_odd, bet, amount)
        for place, bet in _PLACES_WITH_WIRES.items()
        for amount in (AMOUNT, -AMOUNT)
    },
    **{
        f"an amount moved at {where}, of {place}, from {units} slots": _off(partial(_halving, *node), bet, error)
        for place, bet in _PLACES_WITH_WIRES.items()
        for where, node in _NODES.items()
        for units, error in (("even", AMOUNT), ("odd", -AMOUNT << PAIR_BITS))
    },
}

BITS: Final[Mapping[str, Attack]] = {
    "a guess of 2": _boolean(_guess, {"guess": 0, "outcome": 1}, {"guess": 2, "outcome": 0}),
    "a guess of -1": _boolean(_guess, {"guess": 1, "outcome": 0}, {"guess": -1, "outcome": 1}),
    "a guess of 1/2": _boolean(
        _guess,
        {"guess": 0, "outcome": 1, "stake": SMALL_STAKE + (1 << STAKE_BITS - 1)},
        {"guess": _HALF, "outcome": 1},
    ),
    "an outcome of 2": _boolean(
        _outcome,
        {"guess": 1, "outcome": 0, "slot": 2},
        {"guess": 1, "outcome": 2, "slot": 1},
    ),
    "an outcome of -1": _boolean(
        _outcome,
        {"guess": 1, "outcome": 1, "slot": 1},
        {"guess": 1, "outcome": -1, "slot": 2},
    ),
    "an outcome of 1/4": _boolean(
        _outcome,
        {"guess": 0, "outcome": 0, "stake": SMALL_STAKE + (1 << STAKE_BITS - 1)},
        {"guess": 0, "outcome": _QUARTER},
    ),
    **{
        f"{name}, made up for in bit {position}": _stake(position, claimed, forged)
        for name, (claimed, forged) in _STAKES.items()
        for position in _STAKE_POSITIONS
    },
    "stakes of 2^63 that nearly cancel": _cancelling_stakes,
    **{
        f"{name}, made up for in the {which} bit": _slot(position, *slots)
        for name, slots in _SLOTS.items()
        for which, position in _SLOT_POSITIONS.items()
        if (name, which) not in _SELF_MENDING
    },
    **{
        f"a pack that overflows, by the {which} slot bit": _pack_overflow(position)
        for which, position in _SLOT_POSITIONS.items()
    },
    "a bet shared half and half between neighbouring pairs": _half_and_half(1),
    "a bet shared half and half between distant pairs": _half_and_half(-1),
    **{
        f"{name}, made up for in bit {position}": attack(position)
        for name, attack in _NETS.items()
        for position in _NET_POSITIONS
    },
}

ATTACKS: Final[Mapping[str, Attack]] = {**ONLY_THE_NETS, **PRODUCTS, **BITS}
"""By name. Names that are equal up to a comma are of one attack, made in several ways or places."""

HONEST_EXTREMES: Final[Mapping[str, Callable[[Inputs], Inputs]]] = {
    "a net of 2^63 - 1": bets_of_first_player([MAX_STAKE_LAMPORTS], won=True),
    "a net of 1 - 2^63": bets_of_first_player([MAX_STAKE_LAMPORTS], won=False),
    "a net of -2^63": bets_of_first_player([1 << 62, 1 << 62], won=False),
    "two largest stakes that cancel": lambda inputs: bets_of_first_player([MAX_STAKE_LAMPORTS] * 2, won=True)(
        inputs
    ).with_bet(1, guess=0),
}
