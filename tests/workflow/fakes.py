"""A chain and a prover in memory, as the domain's ports see them. They keep the program's rules, and fail only as told.

The chain moves lamports between a lane's house and its players' vaults and nowhere else, so that its total never changes.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from settlement.batches import (
    House,
    Landing,
    Movement,
    OnChainBatch,
    Proof,
    Sighting,
    SignedAttempt,
    Standing,
    Statement,
    Vault,
    Verdict,
)
from settlement.bets import Bet, Rejection
from settlement.circuits import RegisteredCircuits
from settlement.errors import (
    AlreadySettled,
    BatchNumberTaken,
    CroupierError,
    HouseUncovered,
    LedgerMisconfigured,
    ProofRejected,
    SettlementRefused,
    VaultUncovered,
)
from settlement.intake import Answer, BetOutcome
from settlement.lanes import Estate, LookBack, QueuedBet, UnheardSignal, UnheardSignals

SOL: Final = 10**9
HOUSE_BALANCE: Final = 1_000 * SOL
VAULT_BALANCE: Final = 10 * SOL
FEE: Final = 5_000
COMPUTE_UNITS: Final = 200_000
BLOCKHASH_LIFE: Final = 150


_NO_CIRCUITS: Final = RegisteredCircuits(place="a ledger in memory", local=True, circuits=())


LOOK_SECONDS: Final = 0.01


class Fate(Enum):
    """What becomes of a signed transaction when it is sent. *Lands*, if the program's rules let it."""

    LANDS = auto()
    WAITS = auto()
    EXPIRES = auto()


@dataclass
class Sent:
    """A signed transaction. `error`: why it failed, finalized."""

    attempt: SignedAttempt
    statement: Statement
    fate: Fate
    landed: bool = False
    error: SettlementRefused | None = None

    @property
    def is_live(self) -> bool:
        return not self.landed and self.error is None and self.fate is not Fate.EXPIRES


class Script:
    """Failures to come, by the method that will meet them, in order."""

    def __init__(self) -> None:
        self._failures: dict[str, deque[CroupierError]] = {}
        self.calls: list[str] = []

    def fail(self, method: str, *failures: CroupierError) -> None:
        """Lets the next calls of `method` raise `failures`, one each."""
        self._failures.setdefault(method, deque()).extend(failures)

    def pending(self, method: str) -> int:
        """How many of the failures told have not been met yet."""
        return len(self._failures.get(method, ()))

    def meet(self, method: str) -> None:
        self.calls.append(method)
        if failures := self._failures.get(method):
            raise failures.popleft()


@dataclass
class FakeLedger:
    """Fulfils `settlement.ports.Ledger`. Balances in lamports above rent.

    `on_broadcast` runs before a transaction executes; `deposits`: what each vault holds beside settlements; `supply`: all the
    lamports that tests have brought in; `finality_lags`: what lands counts as settled, but is final only by `finalize`; `unfinal`:
    the numbers of which that holds.
    """

    script: Script = field(default_factory=Script)
    houses: dict[int, int] = field(default_factory=dict[int, int])
    balances: dict[tuple[int, str], int] = field(default_factory=dict[tuple[int, str], int])
    indices: dict[tuple[int, str], int] = field(default_factory=dict[tuple[int, str], int])
    records: dict[tuple[int, int], OnChainBatch] = field(default_factory=dict[tuple[int, int], OnChainBatch])
    movements: dict[str, Movement] = field(default_factory=dict[str, Movement])
    sent: dict[str, Sent] = field(default_factory=dict[str, Sent])
    fates: deque[Fate] = field(default_factory=deque[Fate])
    on_broadcast: Callable[[Statement], None] | None = None
    deposits: dict[tuple[int, str], int] = field(default_factory=dict[tuple[int, str], int])
    finality_lags: bool = False
    unfinal: set[int] = field(default_factory=set[int])
    supply: int = 0
    registered: RegisteredCircuits = _NO_CIRCUITS
    slot: int = 1_000
    signed: int = 0

    # What a test does to the chain.

    def fund_house(self, lane: int, balance: int = HOUSE_BALANCE) -> None:
        """Gives a lane's house this balance, and the house if there is none."""
        self.supply += balance - self.houses.get(lane, 0)
        self.houses[lane] = balance

    def fund_vault(self, lane: int, player: str, balance: int = VAULT_BALANCE) -> None:
        """Gives a player's vault this balance, by deposit or withdrawal, and the vault if there is none."""
        change = balance - self.balances.get((lane, player), 0)
        self.supply += change
        self.deposits[lane, player] = self.deposits.get((lane, player), 0) + change
        self.indices.setdefault((lane, player), 1 + sum(other == lane for other, _ in self.indices))
        self.balances[lane, player] = balance

    def release(self) -> None:
        """Lets everything that waits land, oldest first, and whatever will be signed from now on."""
        self.fates.clear()
        for sent in self.sent.values():
            if sent.fate is Fate.WAITS:
                sent.fate = Fate.LANDS
                self._execute(sent)

    def expire(self) -> None:
        """Lets everything that waits expire."""
        for sent in self.sent.values():
            if sent.fate is Fate.WAITS:
                sent.fate = Fate.EXPIRES

    def finalize(self) -> None:
        """Makes all that has landed final."""
        self.unfinal.clear()

    def fork(self, fate: Fate) -> None:
        """Undoes all that has landed and is not final; what was sent has this fate from now on."""
        for sent in [sent for sent in self.sent.values() if sent.landed and sent.statement.number in self.unfinal]:
            statement = sent.statement
            for slot in statement.slots:
                self.balances[statement.lane, slot.player] -= slot.net
            self.houses[statement.lane] -= statement.house_delta
            del self.movements[sent.attempt.signature], self.records[statement.lane, statement.number]
            sent.landed, sent.fate = False, fate
        self.unfinal.clear()

    def take_number(self, lane: int, number: int) -> None:
        """Puts a stranger's record where a batch of that number would go."""
        self.records[lane, number] = OnChainBatch(
            lane=lane,
            number=number,
            circuit_id=1,
            bet_count=1,
            player_count=1,
            house_delta=0,
            slot=self.slot,
            bets_root=number,
        )

    def settle_by_rival(self, statement: Statement) -> None:
        """Settles the statement by a transaction that the journal has never seen."""
        signature = f"rival-{statement.number}"
        attempt = SignedAttempt(
            attempt=0,
            number=statement.number,
            bets_root=statement.bets_root,
            signature=signature,
            raw="",
            last_valid_block_height=0,
        )
        self._execute(Sent(attempt, statement, Fate.LANDS))

    @property
    def total(self) -> int:
        """All the lamports there are."""
        return sum(self.houses.values()) + sum(self.balances.values())

    @property
    def payments(self) -> int:
        """How many transactions have moved money."""
        return len(self.movements)

    # The port.

    async def circuits(self) -> RegisteredCircuits:
        self.script.meet("circuits")
        return self.registered

    async def house(self, lane: int) -> House:
        self.script.meet("house")
        if lane not in self.houses:
            raise LedgerMisconfigured(f"lane {lane} has no house")
        return House(
            lane=lane,
            available=self.houses[lane],
            vault_count=sum(other == lane for other, _ in self.indices),
            highest_batch=max((number for other, number in self.records if other == lane), default=0),
        )

    async def vaults(self, lane: int, players: Sequence[str], *, by_quorum: bool = False) -> dict[str, Vault]:
        self.script.meet("vaults by quorum" if by_quorum else "vaults")
        return {
            player: Vault(player=player, index=self.indices[lane, player], available=self.balances[lane, player])
            for player in players
            if (lane, player) in self.indices
        }

    async def batch_record(self, lane: int, number: int) -> OnChainBatch | None:
        self.script.meet("batch_record")
        return self.records.get((lane, number))

    async def batch_records(self, lane: int) -> list[OnChainBatch]:
        self.script.meet("batch_records")
        return [record for (other, _), record in sorted(self.records.items()) if other == lane]

    async def movement(self, signature: str, lane: int, players: Sequence[str]) -> Movement | None:
        self.script.meet("movement")
        moved = self.movements.get(signature)
        if moved is None or lane not in self.houses:
            return None
        nets = {player: moved.net_by_player.get(player, 0) for player in players}
        return moved.model_copy(update={"net_by_player": nets})

    async def sign(self, statement: Statement, proof: Proof, attempt: int) -> SignedAttempt:
        self.script.meet("sign")
        assert proof.public_input == statement.public_input, "the program would refuse the proof"
        if refusal := self._refusal(statement):
            raise refusal
        self.signed += 1
        signed = SignedAttempt(
            attempt=attempt,
            number=statement.number,
            bets_root=statement.bets_root,
            signature=f"signature-{self.signed}",
            raw="AQID",
            last_valid_block_height=self.slot + BLOCKHASH_LIFE,
        )
        fate = self.fates.popleft() if self.fates else Fate.LANDS
        self.sent[signed.signature] = Sent(signed, statement, fate)
        return signed

    async def broadcast(self, attempt: SignedAttempt) -> None:
        self.script.meet("broadcast")
        sent = self.sent[attempt.signature]
        if sent.is_live and sent.fate is Fate.LANDS:
            if self.on_broadcast:
                self.on_broadcast(sent.statement)
            self._execute(sent)

    async def judge(
        self, statement: Statement, attempts: Sequence[SignedAttempt], *, at_finality: bool = False
    ) -> Verdict:
        self.script.meet("judge")
        record = self.records.get((statement.lane, statement.number))
        if record is not None and record.bets_root == statement.bets_root:
            is_final = record.number not in self.unfinal
            if at_finality and not is_final:
                return Verdict(standing=Standing.PENDING)
            return Verdict(standing=Standing.SETTLED, landing=self._landing(record), final=is_final)
        if record is not None:
            raise BatchNumberTaken(f"batch number {record.number} was taken by a batch with another root")
        sightings = [self.sent[attempt.signature] for attempt in attempts]
        if any(sent.is_live for sent in sightings):
            return Verdict(standing=Standing.PENDING)
        newest = sightings[-1] if sightings else None
        if newest and newest.error and newest.statement.bets_root == statement.bets_root:
            raise newest.error
        return Verdict(standing=Standing.NONE_LIVE)

    async def sight(
        self,
        attempts: Sequence[SignedAttempt],
        *,
        at_finality: bool = False,
        while_seen: float = 0.0,  # noqa: ARG002
    ) -> Sighting:
        """Always worth a verdict: what is decided is the judge's."""
        del attempts, at_finality
        await asyncio.sleep(LOOK_SECONDS)
        return Sighting.DECIDED

    # The program.

    def _refusal(self, statement: Statement) -> AlreadySettled | SettlementRefused | None:
        record = self.records.get((statement.lane, statement.number))
        if record is not None and record.bets_root == statement.bets_root:
            return AlreadySettled(f"batch {record.number} was settled in slot {record.slot}")
        if record is not None:
            return BatchNumberTaken(f"batch number {record.number} was taken by a batch with another root")
        for position, slot in enumerate(statement.slots):
            if self.balances[statement.lane, slot.player] + slot.net < 0:
                return VaultUncovered(
                    position, f"the vault of {slot.player} cannot cover its net of {slot.net} lamports"
                )
        if self.houses[statement.lane] + statement.house_delta < 0:
            return HouseUncovered(f"the house of lane {statement.lane} cannot cover {-statement.house_delta} lamports")
        return None

    def _execute(self, sent: Sent) -> None:
        statement, signature = sent.statement, sent.attempt.signature
        self.slot += 1
        refusal = self._refusal(statement)
        if isinstance(refusal, SettlementRefused):
            sent.error = refusal
            return
        if refusal is not None:
            sent.fate = Fate.EXPIRES
            return
        sent.landed = True
        if self.finality_lags:
            self.unfinal.add(statement.number)
        for slot in statement.slots:
            self.balances[statement.lane, slot.player] += slot.net
        self.houses[statement.lane] += statement.house_delta
        self.movements[signature] = Movement(
            succeeded=True,
            slot=self.slot,
            house_delta=statement.house_delta,
            net_by_player={slot.player: slot.net for slot in statement.slots},
        )
        self.records[statement.lane, statement.number] = OnChainBatch(
            lane=statement.lane,
            number=statement.number,
            circuit_id=statement.shape.circuit_id,
            bet_count=len(statement.entries),
            player_count=len(statement.slots),
            house_delta=statement.house_delta,
            slot=self.slot,
            bets_root=statement.bets_root,
        )

    def _landing(self, record: OnChainBatch) -> Landing:
        signature = next(signature for signature, moved in self.movements.items() if moved.slot == record.slot)
        return Landing(signature=signature, slot=record.slot, compute_units=COMPUTE_UNITS, fee_lamports=FEE)


@dataclass
class FakeProver:
    """Fulfils `settlement.ports.Prover`. `gate`: proofs wait while it is closed; `proven`: the statements proven so far."""

    script: Script = field(default_factory=Script)
    waiting: list[Statement] = field(default_factory=list[Statement])
    proven: list[Statement] = field(default_factory=list[Statement])
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def prove(self, statement: Statement) -> Proof:
        self.script.meet("prove")
        if statement.house_delta + sum(slot.net for slot in statement.slots):
            raise ProofRejected("the statement does not conserve money")
        self.waiting.append(statement)
        try:
            await self.gate.wait()
        finally:
            self.waiting.remove(statement)
        self.proven.append(statement)
        return Proof(
            circuit_id=statement.shape.circuit_id,
            public_input=statement.public_input,
            proof="00" * 256,
            milliseconds=1_000,
        )


@dataclass
class FakePredecessors:
    """Fulfils `settlement.ports.Predecessors`: ended runs of one lane's Batcher, the latest first, that tests have made up."""

    script: Script = field(default_factory=Script)
    estates: list[Estate] = field(default_factory=list[Estate])
    rejected: dict[str, list[Rejection]] = field(default_factory=dict[str, list[Rejection]])
    signals: dict[str, list[UnheardSignal]] = field(default_factory=dict[str, list[UnheardSignal]])
    page: int = 2

    async def latest(self, look: LookBack) -> str | None:
        self.script.meet("latest")
        return next((estate.run_id for estate in self.estates if estate.run_id not in look.adopted), None)

    async def estate(self, lane: int, run_id: str) -> Estate:  # noqa: ARG002
        self.script.meet("estate")
        return next(estate for estate in self.estates if estate.run_id == run_id)

    async def overflow(self, lane: int, run_id: str, start: int, limit: int) -> list[QueuedBet]:  # noqa: ARG002
        state = next(estate.state for estate in self.estates if estate.run_id == run_id)
        assert state is not None
        return state.overflow[start : start + limit]

    async def rejections(self, lane: int, run_id: str, start: int, limit: int) -> list[Rejection]:  # noqa: ARG002
        self.script.meet("rejections")
        return self.rejected.get(run_id, [])[start : start + min(limit, self.page)]

    async def unheard_signals(self, lane: int, run_id: str, after: int) -> UnheardSignals:  # noqa: ARG002
        self.script.meet("unheard_signals")
        signals = self.signals.get(run_id, [])
        end = after + self.page
        return UnheardSignals(signals=tuple(signals[after:end]), after=end if end < len(signals) else None)


@dataclass
class FakeIntake:
    """Fulfils `settlement.ports.Intake`: lanes that take every bet, and hear which batches are done. `run_id`: of their Batchers."""

    refusal: CroupierError | None = None
    run_id: str = "the run that runs"
    closed: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])

    async def place(self, bet: Bet, *, tracked: bool) -> BetOutcome:  # noqa: ARG002
        return BetOutcome(bet_id=bet.bet_id, answer=Answer.ACCEPTED)

    async def restart_batcher(self, lane: int) -> bool:  # noqa: ARG002
        return False

    async def is_run(self, lane: int, run_id: str) -> bool:  # noqa: ARG002
        if self.refusal is not None:
            raise self.refusal
        return run_id == self.run_id

    async def tell_closed(self, lane: int, batch_id: str) -> bool:
        if self.refusal is not None:
            raise self.refusal
        self.closed.append((lane, batch_id))
        return True
