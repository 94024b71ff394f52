"""The attacks on the circuit, each as the best forged witness there is: it breaks a single constraint where one is enough.

An attack starts from an honest batch, made by `ready_to_attack`. The nets follow from what it does to the bets, so that nothing but
the attacked constraints can tell; and where it can, the bets root is that of bets to which other nets are due.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from settlement.commitment import NET_STRIDE_BITS, NETS_PER_ELEMENT, SLOT_BITS, STAKE_BITS
from settlement.limits import MAX_STAKE_LAMPORTS
from settlement.poseidon import FIELD_MODULUS
from tests.prover.anatomy import BetConstraints, Inputs
from tests.prover.forging import Forged, Forger
from tests.prover.solving import HONEST, Forgery

SMALL: Final = 0
"""The bet that is attacked: `SMALL_STAKE` lamports, lost, in slot 0. The stake divides by every power of two that a trio's bits
have."""
SMALL_STAKE: Final = 10_000
OTHER: Final = 7
"""Another bet of the first trio."""
AMOUNT: Final = 1_000
LAST: Final = -1
EMPTY: Final = -2
"""An empty place that is not the last."""


def ready_to_attack(inputs: Inputs) -> Inputs:
    """An honest batch with a small lost bet, made of one with three empty places at least."""
    assert not any(inputs.stakes[-3:])
    return inputs.with_bet(SMALL, stake=SMALL_STAKE, guess=0, outcome=1, slot=0).with_bet(OTHER, slot=1)


Attack = Callable[[Forger], Forged]
Part = Callable[[BetConstraints], int]
Changes = Mapping[str, int]
"""Of one bet: its stake, guess, outcome or slot, or trio, second and third."""
TrioOf = Callable[[int], int]
"""Given the width of trios in bits."""


def _guess(bet: BetConstraints) -> int:
    return bet.guess


def _outcome(bet: BetConstraints) -> int:
    return bet.outcome


def _second(bet: BetConstraints) -> int:
    return bet.second


def _third(bet: BetConstraints) -> int:
    return bet.third


def _exclusive(bet: BetConstraints) -> int:
    return bet.exclusive


def _both(bet: BetConstraints) -> int:
    return bet.both


def _delta(bet: BetConstraints) -> int:
    return bet.delta


def _placed(bet: BetConstraints) -> int:
    return bet.placed


def _halving(level: int, node: int, bet: BetConstraints) -> int:
    return bet.halvings[level][node]


def _false_nets(change: Callable[[list[int]], None]) -> Attack:
    """An honest witness under the public input of other nets."""

    def attack(forger: Forger) -> Forged:
        nets = forger.anatomy.nets(forger.honest.witness)[: forger.shape.players]
        change(nets)
        return forger.claiming(forger.inputs, nets)

    return attack


def _move(amount: int, source: int, target: int) -> Attack:
    def change(nets: list[int]) -> None:
        nets[source] -= amount
        nets[target] += amount

    return _false_nets(change)


def _grow(player: int, amount: int) -> Attack:
    def change(nets: list[int]) -> None:
        nets[player] += amount

    return _false_nets(change)


def _swap_nets(nets: list[int]) -> None:
    nets[0], nets[1] = nets[1], nets[0]


def _double_nets(nets: list[int]) -> None:
    nets[:] = [2 * net for net in nets]


def _negate_nets(nets: list[int]) -> None:
    nets[:] = [-net for net in nets]


def _forget_nets(nets: list[int]) -> None:
    nets[:] = [0] * len(nets)


def _unseen_slot(forger: Forger) -> Forged:
    """A bet in the last trio's slot that there is not, under the public input in which its amount is nobody's."""
    inputs = forger.inputs.with_bet(SMALL, slot=forger.shape.players)
    nets = forger.anatomy.nets(forger.solve(inputs).witness)[: forger.shape.players]
    return forger.claiming(inputs, nets)


def _off(part: Part, bet: int, error: int) -> Attack:
    """One product of one bet is off."""

    def attack(forger: Forger) -> Forged:
        number = part(forger.anatomy.bets[bet])
        return Forged(forger.inputs, Forgery(errors={number: error}), frozenset({number}))

    return attack


def _no_bit(part: Part, claimed: Changes, forged: Changes) -> Attack:
    """An input of one bet that should be a bit is none, or one beside another; the root is that of the `claimed` bet."""

    def attack(forger: Forger) -> Forged:
        bet = forger.inputs.with_bet(SMALL, stake=SMALL_STAKE, slot=1)
        told, done = bet.with_bet(SMALL, **claimed), bet.with_bet(SMALL, **forged)
        return Forged(forger.alias(done, told), HONEST, frozenset({part(forger.anatomy.bets[SMALL])}))

    return attack


def _place(trio: int, second: int, third: int) -> Changes:
    return {"trio": trio, "second": second, "third": third}


def _stake(position: int, claimed: Changes, forged: Changes) -> Attack:
    """A stake outside its bits; the root is that of the `claimed` bet. Another bet of the player keeps his net in bounds."""

    def attack(forger: Forger) -> Forged:
        old = forger.inputs.with_bet(1, stake=1 << STAKE_BITS - 1, guess=1, outcome=1, slot=forger.inputs.slots[SMALL])
        inputs = forger.alias(old.with_bet(SMALL, **forged), old.with_bet(SMALL, **claimed))
        forgery, breaks = forger.in_bits(forger.anatomy.bets[SMALL].stake_bits, forged["stake"], position)
        return Forged(inputs, forgery, breaks)

    return attack


def _cancelling_stakes(forger: Forger) -> Forged:
    """Stakes of one player beyond their bits, one won and one lost, whose nets together stay within theirs."""
    inputs = forger.inputs.with_bet(SMALL, stake=(1 << STAKE_BITS) + AMOUNT, slot=0, guess=1, outcome=1)
    inputs = inputs.with_bet(1, stake=1 << STAKE_BITS, slot=0, guess=1, outcome=0)
    breaks = frozenset(forger.anatomy.bets[bet].stake_bits.constraint for bet in (SMALL, 1))
    return Forged(inputs, HONEST, breaks)


def _bits_of_trio(forger: Forger, said: int, position: int, bits_of: int) -> tuple[Forgery, frozenset[int]]:
    """Bits of the trio `bits_of` in the bet that says `said`, but for one, which makes up for the difference; and what breaks."""
    group = forger.anatomy.bets[SMALL].trio_bits
    forgery, breaks = forger.in_bits(group, said, position % group.width, bits_of)
    return forgery, breaks | _cuts_broken(forger, said, forgery)


def _cuts_broken(forger: Forger, said: int, forgery: Forgery) -> frozenset[int]:
    """The constraints that let nothing pass to trios that there are not, where something does of the bet that says `said`."""
    bet, trios = forger.anatomy.bets[SMALL], forger.anatomy.trios
    group, cuts, broken = bet.trio_bits, iter(bet.cuts), set[int]()
    bits = {at: forgery.bits.get(wire, said >> at & 1) for at, wire in group.wires.items()}
    rest = said - sum(bit << at for at, bit in bits.items())
    bits[group.eliminated] = rest * pow(2, -group.eliminated, FIELD_MODULUS)
    amounts = {0: 1}
    for at in reversed(range(group.width)):
        for first, amount in list(amounts.items()):
            right = amount * bits[at] % FIELD_MODULUS
            if first + (1 << at) < trios:
                amounts[first], amounts[first + (1 << at)] = amount - right, right
            else:
                cut = next(cuts)
                broken |= {cut} if right else set()
    assert next(cuts, None) is None
    return frozenset(broken)


def _trio(position: int, trio: TrioOf, trio_of_bits: TrioOf) -> Attack:
    """A bet whose trio's bits are not those of its trio."""

    def attack(forger: Forger) -> Forged:
        width = forger.anatomy.bets[SMALL].trio_bits.width
        forgery, breaks = _bits_of_trio(forger, trio(width), position, trio_of_bits(width))
        return Forged(forger.inputs.with_bet(SMALL, trio=trio(width)), forgery, breaks)

    return attack


def _unseen_trio(trio: Callable[[int, int], int]) -> Attack:
    """A bet in a trio that there is not, whose number the bits can say: given how many there are and the bits' width."""

    def attack(forger: Forger) -> Forged:
        width = forger.anatomy.bets[SMALL].trio_bits.width
        said = trio(forger.anatomy.trios, width)
        assert forger.anatomy.trios <= said < 1 << width
        return Forged(forger.inputs.with_bet(SMALL, trio=said), HONEST, _cuts_broken(forger, said, HONEST))

    return attack


def _pack_overflow(position: int) -> Attack:
    """A slot of 256 more spills into the next pack of the element, whose stake is one less: the root is the honest one."""

    def attack(forger: Forger) -> Forged:
        old = forger.inputs
        inputs = old.with_bet(SMALL, slot=old.slots[SMALL] + (1 << SLOT_BITS))
        inputs = inputs.with_bet(SMALL + 1, stake=old.stakes[SMALL + 1] - 1)
        forgery, breaks = _bits_of_trio(forger, inputs.trios[SMALL], position, bits_of=0)
        return Forged(forger.alias(inputs, old), forgery, breaks)

    return attack


def _half_and_half(position: int) -> Attack:
    """A trio's bit is 1/2: its amount goes to two trios by halves, and it says to be of another one."""

    def attack(forger: Forger) -> Forged:
        group = forger.anatomy.bets[SMALL].trio_bits
        at = position % group.width
        forgery, breaks = _bits_of_trio(forger, 1 << at - 1, at, bits_of=0)
        return Forged(forger.inputs.with_bet(SMALL, trio=1 << at - 1), forgery, breaks)

    return attack


def bets_of_first_player(stakes: Sequence[int], won: bool) -> Callable[[Inputs], Inputs]:
    """The batch in which the first bets are these, all of slot 0, which has no others."""

    def inputs_of(inputs: Inputs) -> Inputs:
        for bet, slot in enumerate(inputs.slots):
            if bet < len(stakes):
                inputs = inputs.with_bet(bet, stake=stakes[bet], guess=int(won), outcome=1, slot=0)
            elif inputs.stakes[bet] and slot == 0:
                inputs = inputs.with_bet(bet, slot=1)
        return inputs

    return inputs_of


def borrowing(inputs: Inputs) -> Inputs:
    """Bets whose nets, 64 bits apart, would be those of -10, 20 and 4 lamports, the house's delta as well."""
    for bet in range(len(inputs.stakes)):
        inputs = inputs.with_bet(bet, stake=0, slot=0)
    won, lost = (MAX_STAKE_LAMPORTS, MAX_STAKE_LAMPORTS - 8), (MAX_STAKE_LAMPORTS, MAX_STAKE_LAMPORTS - 17)
    placed = [*((stake, 1, 0) for stake in won), *((stake, 0, 1) for stake in lost), (5, 1, 2)]
    for bet, (stake, guess, slot) in enumerate(placed):
        inputs = inputs.with_bet(bet, stake=stake, guess=guess, outcome=1, slot=slot)
    return inputs


def cancelling_in_no_slot(inputs: Inputs, players: int) -> Inputs:
    """A bet won and another lost, of the same stake, in the last trio's slot that there is not."""
    for bet, guess in ((SMALL, 1), (OTHER, 0)):
        inputs = inputs.with_bet(bet, stake=SMALL_STAKE, guess=guess, outcome=1, slot=players)
    return inputs


_HALF, _QUARTER = (pow(divisor, -1, FIELD_MODULUS) for divisor in (2, 4))
_UNITS: Final = [1 << NET_STRIDE_BITS * place for place in range(NETS_PER_ELEMENT)]
"""What a lamport of a slot is in its trio's accumulator, by the slot's place."""
_DELTA_ERRORS: Final = (1, -1)
_PLACES: Final = {"a bet": SMALL, "another bet": OTHER, "an empty place": EMPTY, "the last place": LAST}
_NODES: Final = {"the root": (0, 0), "the first leaves": (-1, 0), "the last leaves": (-1, -1)}
"""Level and node of a demultiplexer."""
_STAKE_POSITIONS: Final = (0, 31, STAKE_BITS - 1)
_TRIO_POSITIONS: Final = {"lowest": 0, "highest": -1}

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

_TRIOS: Final[Mapping[str, tuple[TrioOf, TrioOf]]] = {
    "a bet in a trio beyond the bits": (lambda width: 1 << width, lambda _width: 0),
    "a bet in trio -1": (lambda _width: -1, lambda _width: 0),
    "a bet handed to the neighbouring trio": (lambda _width: 0, lambda _width: 1),
    "a bet handed to a distant trio": (lambda _width: 0, lambda width: 1 << width - 1),
    "a bet of a distant trio handed to the first": (lambda width: 1 << width - 1, lambda _width: 0),
}
"""The trio that a bet says, and the one whose bits it has."""

_SELF_MENDING: Final = (
    ("a bet handed to the neighbouring trio", "lowest"),
    ("a bet handed to a distant trio", "highest"),
    ("a bet of a distant trio handed to the first", "highest"),
)
"""Made up for in the very bit that differs, a trio is itself again."""

ONLY_THE_NETS: Final[Mapping[str, Attack]] = {
    "a net one higher": _grow(0, 1),
    "a net one lower": _grow(5, -1),
    "a net of an empty slot": _grow(-1, 1),
    "an amount moved within a trio": _move(AMOUNT, 0, 1),
    "an amount moved between neighbouring trios": _move(AMOUNT, 2, 3),
    "an amount moved between distant trios": _move(AMOUNT, 0, -3),
    "two nets swapped": _false_nets(_swap_nets),
    "all nets doubled": _false_nets(_double_nets),
    "all nets negated": _false_nets(_negate_nets),
    "no net at all": _false_nets(_forget_nets),
    "a bet in the last trio's slot that there is not": _unseen_slot,
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
        f"{amount} moved within a trio to its {target} slot, of {place}": _off(_placed, bet, amount * (unit - 1))
        for place, bet in _PLACES.items()
        for amount in (AMOUNT, -AMOUNT)
        for target, unit in (("second", _UNITS[1]), ("third", _UNITS[2]))
    },
    **{
        f"an amount moved at {where}, of {place}, from {units} slots": _off(partial(_halving, *node), bet, error)
        for place, bet in _PLACES.items()
        for where, node in _NODES.items()
        for units, error in (("first", AMOUNT), ("second", -AMOUNT * _UNITS[1]))
    },
}

BITS: Final[Mapping[str, Attack]] = {
    "a guess of 2": _no_bit(_guess, {"guess": 0, "outcome": 1}, {"guess": 2, "outcome": 0}),
    "a guess of -1": _no_bit(_guess, {"guess": 1, "outcome": 0}, {"guess": -1, "outcome": 1}),
    "a guess of 1/2": _no_bit(
        _guess,
        {"guess": 0, "outcome": 1, "stake": SMALL_STAKE + (1 << STAKE_BITS - 1)},
        {"guess": _HALF, "outcome": 1},
    ),
    "an outcome of 2": _no_bit(_outcome, {"guess": 1, "outcome": 0, "slot": 2}, {"guess": 1, "outcome": 2, "slot": 1}),
    "an outcome of -1": _no_bit(
        _outcome, {"guess": 1, "outcome": 1, "slot": 1}, {"guess": 1, "outcome": -1, "slot": 2}
    ),
    "an outcome of 1/4": _no_bit(
        _outcome,
        {"guess": 0, "outcome": 0, "stake": SMALL_STAKE + (1 << STAKE_BITS - 1)},
        {"guess": 0, "outcome": _QUARTER},
    ),
    "a second slot's bit of 2": _no_bit(_second, {"slot": 2}, _place(0, 2, 0)),
    "a second slot's bit of -1": _no_bit(_second, {"slot": 2}, _place(1, -1, 0)),
    "a third slot's bit of 1/2": _no_bit(_third, {"slot": 1}, _place(0, 0, _HALF)),
    "a third slot's bit of -1": _no_bit(_third, {"slot": 1}, _place(1, 0, -1)),
    "a bet of the second and the third slot": _no_bit(_exclusive, {"slot": 3}, _place(0, 1, 1)),
    **{
        f"{name}, made up for in bit {position}": _stake(position, claimed, forged)
        for name, (claimed, forged) in _STAKES.items()
        for position in _STAKE_POSITIONS
    },
    "stakes of 2^63 that nearly cancel": _cancelling_stakes,
    **{
        f"{name}, made up for in the {which} bit": _trio(position, *trios)
        for name, trios in _TRIOS.items()
        for which, position in _TRIO_POSITIONS.items()
        if (name, which) not in _SELF_MENDING
    },
    "a bet in the first trio that there is not": _unseen_trio(lambda trios, _width: trios),
    "a bet in the last trio that bits can say": _unseen_trio(lambda _trios, width: (1 << width) - 1),
    **{
        f"a pack that overflows, by the {which} trio bit": _pack_overflow(position)
        for which, position in _TRIO_POSITIONS.items()
    },
    "a bet shared half and half between neighbouring trios": _half_and_half(1),
    "a bet shared half and half between distant trios": _half_and_half(-1),
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

WITHOUT_A_PUBLIC_INPUT: Final[Mapping[str, Callable[[Inputs, int], Inputs]]] = {
    "a net of 2^63": lambda inputs, _: bets_of_first_player([1 << 62, 1 << 62], won=True)(inputs),
    "a net of -2^63 - 1": lambda inputs, _: bets_of_first_player([1 << 62, 1 << 62, 1], won=False)(inputs),
    "a net of two largest stakes won": lambda inputs, _: bets_of_first_player([MAX_STAKE_LAMPORTS] * 2, won=True)(
        inputs
    ),
    "a net of two largest stakes lost": lambda inputs, _: bets_of_first_player([MAX_STAKE_LAMPORTS] * 2, won=False)(
        inputs
    ),
    "a house's delta beyond 64 bits": lambda inputs, _: bets_of_first_player([MAX_STAKE_LAMPORTS] * 2, won=True)(
        inputs
    ).with_bet(1, slot=1),
    "a bet in the last trio's slot that there is not": lambda inputs, players: inputs.with_bet(SMALL, slot=players),
    "nets of a trio that borrow from each other": lambda inputs, _: borrowing(inputs),
}
"""Given the players of the shape: bets to which true nets are due of which the program can make no public input."""
