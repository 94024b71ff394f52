"""Makes forged witnesses: whatever the forger wants to be false, all else in the witness follows from it."""

from dataclasses import dataclass

from settlement.poseidon import FIELD_MODULUS
from settlement.shapes import Shape
from tests.prover.anatomy import Anatomy, Inputs
from tests.prover.r1cs import R1cs
from tests.prover.solving import HONEST, BitGroup, Forgery, Plan, Solution


@dataclass(frozen=True)
class Forged:
    """`breaks`: the constraints that the forger could not but break. `exactly`: all of them are, else at least one."""

    inputs: Inputs
    forgery: Forgery
    breaks: frozenset[int]
    exactly: bool = True


class Forger:
    """Makes witnesses for Settlement(shape) from its constraints."""

    def __init__(self, circuit: R1cs, shape: Shape, inputs: Inputs) -> None:
        """`inputs`: of an honest batch."""
        self.circuit = circuit
        self.shape = shape
        self.plan = Plan(circuit)
        self.anatomy = Anatomy(self.plan, shape)
        self.inputs = inputs
        self.honest = self.plan.solve(inputs.flat)

    def solve(self, inputs: Inputs, forgery: Forgery = HONEST) -> Solution:
        return self.plan.change(self.honest, inputs.flat, forgery)

    def broken(self, solution: Solution) -> list[int]:
        """The constraints that `solution` breaks, given that the honest one breaks none."""
        return self.circuit.broken(solution.witness, solution.changed)

    def followed(self, inputs: Inputs, forgery: Forgery = HONEST) -> Inputs:
        """`inputs` with the nets that follow in the forged circuit."""
        return inputs.with_nets(self.anatomy.nets_that_follow(self.solve(inputs, forgery).witness))

    def alias(self, inputs: Inputs, claimed: Inputs) -> Inputs:
        """`inputs`, whose bets root is that of the `claimed` bets, to whom another net is due."""
        reads = [x.with_nets([0] * len(x.nets)).as_read() for x in (inputs, claimed)]
        assert reads[0] == reads[1] == claimed.with_nets(reads[0].nets)
        return inputs

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


def true(inputs: Inputs) -> Inputs:
    return inputs.with_nets(inputs.true_nets())
