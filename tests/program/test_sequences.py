"""Thousands of random sequences of transactions leave the chain exactly as the model says, codes included.

`CROUPIER_SEQUENCES` runs more of them than it takes by default.
"""

import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from secrets import randbits
from typing import Final

import pytest
from solders.litesvm import LiteSVM

from ledger.instructions import Opcode
from ledger.program_errors import ProgramError, decode_error
from tests.program.chain import AnyProver, deploy, program_code
from tests.program.planting import Defect, build_with
from tests.program.sequences import Divergence, Snapshot, Tally, World, described

SEQUENCES: Final = max(2_000, int(os.environ.get("CROUPIER_SEQUENCES", "0")))
"""Enough for every code to be seen many times."""
MAX_TRANSACTIONS: Final = 12
BARE_SHARE: Final = 0.05
"""Of the sequences that start with a program not initialised."""
MAX_REPLAYS: Final = 300
SEED_BITS: Final = 48

NEVER_SEEN: Final = {
    ProgramError.ACCOUNT_SIZE,
    ProgramError.SYSVAR,
    ProgramError.PUBLIC_INPUT,
    ProgramError.VAULT_INDEX_EXHAUSTED,
}
"""What no transaction brings about: each takes an account or a sysvar that only a test can write (see `test_attacks`)."""


class Game:
    """A world, and how it stands before and after the program is open for business."""

    def __init__(self, code: bytes, provers: Sequence[AnyProver]) -> None:
        self.world = World(deploy(code, provers[0], LiteSVM()), provers)
        self.bare = self.world.snapshot()
        self.world.open()
        self.world.tally = Tally()
        self.opened = self.world.snapshot()

    def sequence(self, seed: int) -> tuple[list[int], Snapshot]:
        rng = Random(seed)
        start = self.bare if rng.random() < BARE_SHARE else self.opened
        return [rng.getrandbits(SEED_BITS) for _ in range(rng.randint(3, MAX_TRANSACTIONS))], start

    def divergence(self, seeds: Sequence[int], start: Snapshot) -> Divergence | None:
        try:
            self.world.play(seeds, start)
        except Divergence as divergence:
            return divergence
        return None

    def shortest(self, seeds: Sequence[int], start: Snapshot, found: Divergence) -> tuple[list[int], Divergence]:
        """Leaves out, one by one and over again, what the divergence does not need."""
        kept, at, since_last, replays = list(seeds), 0, 0, 0
        while since_last < len(kept) and replays < MAX_REPLAYS:
            replays += 1
            at %= len(kept)
            fewer = kept[:at] + kept[at + 1 :]
            if again := self.divergence(fewer, start):
                kept, found, since_last = fewer, again, 0
            else:
                at, since_last = at + 1, since_last + 1
        return kept, found

    def account_of(self, seed: int, found: Divergence) -> str:
        """The shortest sequence that fails, in words."""
        seeds, start = self.sequence(seed)
        kept, found = self.shortest(seeds, start, found)
        self.world.restore(start)
        lines: list[str] = []
        for step in kept:
            planned = self.world.plan(Random(step))
            lines.append(
                f"  {planned.told}, paid by {planned.payer.address}: {list(map(described, planned.instructions))}"
            )
            if step != kept[-1]:
                self.world.execute(*planned)
        return f"sequence {seed} diverges: {found}\nby way of\n" + "\n".join(lines)


DEFECTS: Final = {
    "a vault of another lane is taken": Defect(
        "REQUIRE(load_u16(account_data(vault) + VAULT_LANE) == statement->lane, ERROR_VAULT_LANE);"
    ),
    "vaults stand in any order": Defect("REQUIRE(index > previous_index, ERROR_VAULT_ORDER);", "(void)previous_index;"),
    "accounts may stand twice in a settlement": Defect(
        """TRY(require_distinct_accounts(call));
    TRY(require_payer(authority, call->accounts[SETTLE_SYSTEM]));""",
        "TRY(require_payer(authority, call->accounts[SETTLE_SYSTEM]));",
    ),
    "the authority need not sign": Defect(
        """REQUIRE(account_is_signer(authority), ERROR_MISSING_SIGNATURE);
    TRY(require_state(call, config""",
        "TRY(require_state(call, config",
    ),
    "the owner need not sign": Defect("REQUIRE(account_is_signer(owner), ERROR_MISSING_SIGNATURE);"),
    "anybody withdraws from a vault": Defect(
        """REQUIRE(bytes_equal(account_data(vault) + VAULT_OWNER, account_key(owner), KEY_SIZE),
            ERROR_WRONG_VAULT_OWNER);"""
    ),
    "rent minimum is not kept": Defect("return left >= minimum;", "return minimum != 0;"),
    "a proof need not hold": Defect(
        "REQUIRE(bytes_equal(value, one, FIELD_SIZE), ERROR_PROOF_REJECTED);", "(void)one;"
    ),
    "the house wins what players win": Defect("statement->house_delta = -sum;", "statement->house_delta = sum;"),
    "the last batch is the highest": Defect("if (statement.number > load_u64(highest_batch))"),
    "a settled number is not told from a settled batch": Defect(
        "return is_this ? ERROR_BATCH_EXISTS : ERROR_BATCH_NUMBER_TAKEN;", "(void)is_this; return ERROR_BATCH_EXISTS;"
    ),
    "the proof does not bind the lane": Defect(
        "words[1] = statement->lane | (statement->bet_count << 16);", "words[1] = statement->bet_count << 16;"
    ),
}


@pytest.fixture(scope="module")
def provers(tmp_path_factory: pytest.TempPathFactory) -> list[AnyProver]:
    """Two circuits with keys of their own."""
    return [AnyProver(tmp_path_factory.mktemp("circuit")) for _ in range(2)]


def test_random_sequences_do_what_the_model_says(provers: list[AnyProver]) -> None:
    game = Game(program_code(), provers)
    start, first = time.monotonic(), randbits(SEED_BITS)
    for seed in range(first, first + SEQUENCES):
        if found := game.divergence(*game.sequence(seed)):
            pytest.fail(game.account_of(seed, found))
    tally = game.world.tally
    codes = Counter[ProgramError]()
    for code, count in tally.refused.items():
        if decoded := decode_error(code or 0):
            codes[decoded[0]] += count
    print(
        f"\n{tally.sequences} sequences from seed {first}: {tally.transactions} transactions in "
        f"{time.monotonic() - start:.0f} s\naccepted {dict(tally.accepted)}\n"
        f"refused { ({code.name: codes[code] for code in sorted(codes)}) }"
    )
    assert tally.sequences == SEQUENCES
    assert tally.accepted.keys() == {opcode.name for opcode in Opcode}
    assert codes.keys() == set(ProgramError) - NEVER_SEEN


def first_divergence(game: Game) -> tuple[int, Divergence]:
    """The seed of the first sequence that diverges."""
    first = randbits(SEED_BITS)
    for seed in range(first, first + SEQUENCES):
        if found := game.divergence(*game.sequence(seed)):
            return seed, found
    pytest.fail(f"{SEQUENCES} sequences from seed {first} on notice nothing")


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_makes_a_sequence_diverge(name: str, provers: list[AnyProver], tmp_path: Path) -> None:
    first_divergence(Game(build_with(DEFECTS[name], tmp_path), provers))


def test_a_divergence_is_told_by_the_transactions_that_it_takes(provers: list[AnyProver], tmp_path: Path) -> None:
    game = Game(build_with(DEFECTS["the last batch is the highest"], tmp_path), provers)
    told = game.account_of(*first_divergence(game))
    assert "highest_batch" in told
    transactions = told.splitlines()[2:]
    assert 2 <= len(transactions) <= 4, "a higher and a lower number, and hardly more"
