"""Makes forged witnesses: whatever the forger wants to be false, all else in the witness follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from settlement.commitment import (
    NET_OFFSET,
    NET_STRIDE_BITS,
    NETS_PER_ELEMENT,
    PACK_BITS,
    PACKS_PER_ELEMENT,
    STAKE_BITS,
    nodes_of,
)
from settlement.poseidon import FIELD_MODULUS, MAX_INPUTS, poseidon
from settlement.shapes import Shape
from tests.prover.anatomy import Anatomy, Inputs
from tests.prover.r1cs import Witness
from tests.prover.solving import HONEST, BitGroup, Forgery, Plan, Solution


@dataclass(frozen=True)
class Forged:
    """`breaks`: the constraints that the forger could not but break. `claims`: the nets, where the witness is under the public input
    of others than follow from it."""

    inputs: Inputs
    forgery: Forgery
    breaks: frozenset[int]
    claims: tuple[int, ...] | None = None


class Forger:
    """Makes witnesses for Settlement(shape) from its constraints."""

    def __init__(self, plan: Plan, shape: Shape, inputs: Inputs) -> None:
        """`inputs`: of an honest batch."""
        self.circuit = plan.circuit
        self.shape = shape
        self.plan = plan
        self.anatomy = Anatomy(self.plan, shape)
        self.inputs = inputs
        self.honest = self.plan.solve(inputs.flat)

    def solve(self, inputs: Inputs, forgery: Forgery = HONEST) -> Solution:
        return self.plan.change(self.honest, inputs.flat, forgery)

    def broken(self, solution: Solution) -> list[int]:
        """The constraints that `solution` breaks, given that the honest one breaks none."""
        return self.circuit.broken(solution.witness, solution.changed)

    def has_public_input(self, witness: Witness) -> bool:
        """Whether the program could make the public input that follows from `witness`."""
        nets, house = self.anatomy.nets(witness), self.anatomy.house_delta(witness)
        return (
            not any(nets[self.shape.players :])
            and house == -sum(nets)
            and all(-NET_OFFSET <= amount < NET_OFFSET for amount in (house, *nets))
        )

    def tells_the_truth(self, inputs: Inputs, nets: Sequence[int]) -> bool:
        """Whether whoever reads the bets from the root of `inputs` is due these nets."""
        try:
            return inputs.as_read().true_nets(self.shape.players) == tuple(nets)
        except ValueError:
            return False

    def alias(self, inputs: Inputs, claimed: Inputs) -> Inputs:
        """`inputs`, whose bets root is that of the `claimed` bets, to whom other nets are due."""
        assert inputs.as_read() == claimed.as_read() == claimed
        return inputs

    def public_input(self, inputs: Inputs, nets: Sequence[int]) -> int:
        """What the program makes of the root of `inputs` and these nets, written out anew."""
        players = range(self.shape.players)
        packs = [
            stake + (guess << STAKE_BITS) + (outcome << STAKE_BITS + 1) + (slot << STAKE_BITS + 2)
            for stake, guess, outcome, slot in zip(
                inputs.stakes, inputs.guesses, inputs.outcomes, inputs.slots, strict=True
            )
        ]
        elements = [
            sum(pack << PACK_BITS * i for i, pack in enumerate(packs[at : at + PACKS_PER_ELEMENT])) % FIELD_MODULUS
            for at in range(0, len(packs), PACKS_PER_ELEMENT)
        ]
        trios = [players[at : at + NETS_PER_ELEMENT] for at in players[::NETS_PER_ELEMENT]]
        chained = [
            inputs.scope,
            poseidon([inputs.ids_digest, *nodes_of(elements)]),
            NET_OFFSET - sum(nets),
            *(sum(nets[slot] + NET_OFFSET << NET_STRIDE_BITS * i for i, slot in enumerate(trio)) for trio in trios),
        ]
        while len(chained) > 1:
            chained[:MAX_INPUTS] = [poseidon([value % FIELD_MODULUS for value in chained[:MAX_INPUTS]])]
        return chained[0]

    def forced(self, inputs: Inputs, public_input: int) -> Forged:
        """`inputs` under another public input: a product of the last hash is off by what makes it so."""
        (output,) = self.circuit.outputs
        plain = self.solve(inputs).witness[output]
        for number, constraint in enumerate(self.circuit.constraints):
            if output in constraint.c:
                by_one = self.solve(inputs, Forgery(errors={number: 1}))
                slope = by_one.witness[output] - plain
                if slope and len(self.broken(by_one)) == 1:
                    error = (public_input - plain) * pow(slope, -1, FIELD_MODULUS)
                    return Forged(inputs, Forgery(errors={number: error}), frozenset({number}))
        raise AssertionError("no product of the last hash moves the output alone")

    def claiming(self, inputs: Inputs, nets: Sequence[int]) -> Forged:
        """`inputs` under the public input of these nets."""
        return replace(self.forced(inputs, self.public_input(inputs, nets)), claims=tuple(nets))

    def nets_told(self, forged: Forged, witness: Witness) -> tuple[int, ...]:
        """The players' nets that the public input of `witness`, made of `forged`, tells of; one that the program could make."""
        if forged.claims is not None:
            return forged.claims
        assert self.has_public_input(witness)
        return tuple(self.anatomy.nets(witness)[: self.shape.players])

    def in_bits(
        self, group: BitGroup, value: int, position: int, bits_of: int | None = None
    ) -> tuple[Forgery, frozenset[int]]:
        """Bits of `bits_of` (by default, of the lowest bits of `value`), but for the one at `position`, which makes up for the
        difference; and the constraint that this breaks."""
        low = value % (1 << group.width) if bits_of is None else bits_of
        bits = {wire: low >> i & 1 for i, wire in group.wires.items()}
        if position == group.eliminated:
            return Forgery(bits=bits), frozenset({group.constraint})
        wire = group.wires[position]
        bits[wire] += (value - low) * pow(2, -position, FIELD_MODULUS)
        return Forgery(bits=bits), frozenset({self.plan.booleans[wire]})
