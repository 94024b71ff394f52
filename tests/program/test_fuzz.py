"""Instructions no client would build: the program answers each with a code of its own, and none moves what it must not.

`CROUPIER_FUZZ_SECONDS` runs it for longer, `CROUPIER_FUZZ_SEED` from a seed that an earlier run has printed.
"""

import os
import time
from pathlib import Path
from random import Random
from secrets import randbits
from typing import Final

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey
from solders.sysvar import CLOCK, INSTRUCTIONS, RENT, SLOT_HASHES

from ledger.program_errors import decode_error
from tests.program import model
from tests.program.chain import AnyProver, deploy, program_code
from tests.program.planting import Defect, build_with
from tests.program.sequences import Divergence, Tally, World, described

SECONDS: Final = float(os.environ.get("CROUPIER_FUZZ_SECONDS", "15"))
SEED: Final = int(os.environ.get("CROUPIER_FUZZ_SEED") or randbits(48))
INSTRUCTIONS_MIN: Final = 1_000
"""Run in less than the time given even by a slow machine."""
BETWEEN_RESETS: Final = 40
MAX_CHANGES: Final = 4
MAX_ACCOUNTS: Final = 90
"""More than the program has room for."""
NUMBERS: Final = (0, 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
TOKEN_PROGRAM: Final = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")


class Fuzzer:
    """Bends instructions that would be accepted, or makes them up out of nothing."""

    def __init__(self, code: bytes, provers: list[AnyProver], seed: int) -> None:
        self.world = World(deploy(code, provers[0], LiteSVM()), provers)
        self.world.know(
            [self.world.program, CLOCK, RENT, SLOT_HASHES, model.UPGRADEABLE_LOADER, model.LOOKUP_TABLES, TOKEN_PROGRAM]
        )
        self.world.open()
        self.world.tally = Tally()
        self.opened = self.world.snapshot()
        self.rng = Random(seed)
        self.strange = [INSTRUCTIONS, *(Pubkey.new_unique() for _ in range(3))]

    def run(self, seconds: float) -> int:
        """Returns the number of instructions tried. Raises `Divergence`."""
        world, tried, end = self.world, 0, time.monotonic() + seconds
        while tried < INSTRUCTIONS_MIN or time.monotonic() < end:
            if tried % BETWEEN_RESETS == 0:
                world.restore(self.opened)
            instruction = self.instruction()
            payer = self.rng.choice([world.sponsor, world.sponsor, world.authority])
            world.execute([instruction], payer, f"instruction {tried}, {described(instruction)}")
            world.compare()
            tried += 1
        return tried

    def instruction(self) -> Instruction:
        rng = self.rng
        if rng.random() < 0.1:
            accounts = [self.meta() for _ in range(rng.randrange(12))]
            return Instruction(
                self.world.program, bytes([rng.randrange(9)]) + rng.randbytes(rng.randrange(300)), accounts
            )
        made = self.template()
        accounts, data = list(made.accounts), bytearray(made.data)
        for _ in range(rng.randint(0, MAX_CHANGES)):
            if rng.random() < 0.5:
                self.bend_data(data)
            else:
                self.bend_accounts(accounts)
        return Instruction(self.world.program, bytes(data), accounts)

    def template(self) -> Instruction:
        while True:
            make, _ = self.rng.choice(list(self.world.makers.values()))
            if (made := make(self.rng)).program_id == self.world.program:
                return made

    def key(self) -> Pubkey:
        return self.rng.choice([*self.world.model.lamports, *self.strange])

    def meta(self) -> AccountMeta:
        key = self.key()
        return AccountMeta(key, key in self.world.keys and self.rng.random() < 0.7, self.rng.random() < 0.7)

    def bend_data(self, data: bytearray) -> None:
        rng = self.rng
        at = rng.randrange(len(data) + 1)
        match rng.choices(range(7), weights=(4, 4, 2, 1, 1, 2, 1))[0]:
            case 0:
                for _ in range(rng.randint(1, 8)):
                    if data:
                        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            case 1:
                size = rng.choice([1, 2, 4, 8])
                number = rng.choice(NUMBERS) % 256**size
                data[at : at + size] = number.to_bytes(size, "little")
            case 2:
                data[at : at + 32] = rng.randbytes(32)
            case 3:
                del data[at : at + rng.randint(1, 40)]
            case 4:
                data[at:at] = rng.randbytes(rng.randint(1, 40))
            case 5:
                other = bytes(self.template().data)
                data[at:] = other[rng.randrange(len(other)) :]
            case _:
                if data:
                    data[0] = rng.randrange(9)

    def bend_accounts(self, accounts: list[AccountMeta]) -> None:
        rng = self.rng
        if not accounts:
            accounts.append(self.meta())
        at, to = rng.randrange(len(accounts)), rng.randrange(len(accounts))
        meta = accounts[at]
        match rng.choices(range(8), weights=(4, 4, 4, 4, 2, 1, 4, 1))[0]:
            case 0:
                accounts[at], accounts[to] = accounts[to], meta
            case 1:
                accounts[to] = meta
            case 2:
                accounts[at] = self.meta()
            case 3:
                key = self.key()
                accounts[at] = AccountMeta(key, meta.is_signer and key in self.world.keys, meta.is_writable)
            case 4:
                accounts.insert(at, self.meta())
            case 5:
                del accounts[at]
            case 6:
                signs = not meta.is_signer and meta.pubkey in self.world.keys
                accounts[at] = AccountMeta(meta.pubkey, signs, meta.is_writable ^ (rng.random() < 0.5))
            case _:
                more = [self.meta() for _ in range(rng.choice([1, 2, MAX_ACCOUNTS]))]
                accounts += rng.choices(more, k=rng.randint(1, MAX_ACCOUNTS))
                del accounts[MAX_ACCOUNTS:]


DEFECTS: Final = {
    "more accounts than there is room for": Defect("REQUIRE(count <= ACCOUNTS_MAX, ERROR_ACCOUNT_COUNT);"),
    "deltas beyond the end of the data": Defect(
        "REQUIRE(call->data_size == SETTLE_DELTAS + DELTA_SIZE * vault_count, ERROR_DATA_SIZE);"
    ),
}


@pytest.fixture(scope="module")
def provers(tmp_path_factory: pytest.TempPathFactory) -> list[AnyProver]:
    return [AnyProver(tmp_path_factory.mktemp("circuit")) for _ in range(2)]


def test_bent_and_random_instructions_neither_crash_the_program_nor_move_what_they_must_not(
    provers: list[AnyProver],
) -> None:
    fuzzer = Fuzzer(program_code(), provers, SEED)
    try:
        tried = fuzzer.run(SECONDS)
    except Divergence as divergence:
        pytest.fail(f"from seed {SEED}: {divergence}")
    tally = fuzzer.world.tally
    codes = {decoded[0] for code in tally.refused if (decoded := decode_error(code or 0))}
    print(
        f"\n{tried} instructions from seed {SEED}: accepted {dict(tally.accepted)}, refused with {len(codes)} codes "
        f"{ ({code.name: tally.refused[code] for code in sorted(codes)}) }"
    )
    assert len(codes) >= 20
    assert len(tally.accepted) >= 5


@pytest.mark.parametrize("name", DEFECTS)
def test_a_program_that_reads_what_it_must_not_is_noticed(name: str, provers: list[AnyProver], tmp_path: Path) -> None:
    fuzzer = Fuzzer(build_with(DEFECTS[name], tmp_path), provers, SEED)
    with pytest.raises(Divergence):
        fuzzer.run(SECONDS)
