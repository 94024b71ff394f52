"""The protocol of the model: a settlement's workflow and its activities, one durable effect or one read of the chain a step.

Follows workflows/settlement.py, activities/{claiming,submitting,recording}.py and SolanaLedger.judge. Between any two steps the worker may
die, or be given up for dead and go on beside its successor; so may a claim or a signing that the workflow task did not wait for. To
continue as new is no step: the workflow's state goes along whole.
"""

from collections.abc import Iterator
from enum import Enum, auto
from functools import cache

from ledger.rpc import EpochInfo
from ledger.statuses import is_expired
from settlement.errors import BatchUnknown, IllegalTransition, JournalConflict
from tests.model import chain, journal
from tests.model.world import (
    CONFIRMED,
    EXPIRED,
    FAILED,
    PENDING,
    PROVED,
    PROVING,
    SUBMITTED,
    Attempt,
    Bounds,
    Rule,
    Run,
    Try,
    World,
    replaced,
)

Step = chain.Step
FIRST_STEP = {
    "claim": "begin",
    "prove": "prove",
    "sign": "proved",
    "confirm": "attempts",
    "record": "record",
}


class Outcome(Enum):
    """How an execution of an activity ends."""

    DONE = auto()
    """With a result, in memory until Temporal has it."""
    AGAIN = auto()
    """With an error after which Temporal tries it again."""
    TAKEN = auto()
    """`BatchNumberTaken`"""
    UNCOVERED = auto()
    """`VaultUncovered`"""
    PARKED = auto()
    """With an error that no retry mends."""
    ALREADY_SETTLED = auto()
    UNKNOWN = auto()
    """`BatchUnknown`"""


class Verdict(Enum):
    """What the judge says, or raises."""

    SETTLED = auto()
    PENDING = auto()
    NONE_LIVE = auto()
    TAKEN = auto()
    UNCOVERED = auto()
    CONFLICT = auto()
    UNAVAILABLE = auto()


NEGATIVE = frozenset({Verdict.NONE_LIVE, Verdict.TAKEN, Verdict.UNCOVERED})
ORDER = ("judge finalized", "judge statuses", "judge record", "decide")
WRONG_ORDER = ("judge record", "judge statuses", "judge finalized", "decide")

Ending = tuple[str, World, Try | Outcome]
"""What was done, and what the execution goes on with, or how it has ended."""


class Protocol:
    """All steps that lead on from a state, given the bounds of a search and the rules that are kept in it."""

    def __init__(self, bounds: Bounds, rules: frozenset[Rule]) -> None:
        self.bounds = bounds
        self.rules = rules
        self.lost_bet = 1 << max(mask.bit_length() for mask in bounds.asked) - 1

    def start(self) -> World:
        """No batch is claimed, nothing is on the chain."""
        count = len(self.bounds.asked)
        return World(
            batches=(None,) * count,
            bets=(journal.Bet(),) * self.lost_bet.bit_length(),
            runs=(Run(),) * count,
            tries=((begun("claim", Run()), None),) * count,
            left=self.bounds.budget,
        )

    def steps(self, world: World) -> Iterator[Step]:
        """What may happen next."""
        yield from chain.moves(world, self.bounds, self.rules, self.lost_bet)
        if world.left.restores and world.copy is None:
            yield "the journal is copied", world._replace(copy=(world.batches, world.bets, world.highest))
        if world.left.restores and world.copy is not None and world.copy[0] != world.batches:
            batches, bets, highest = world.copy
            left = world.left._replace(restores=world.left.restores - 1)
            restored = world._replace(batches=batches, bets=bets, highest=highest, copy=None, left=left)
            yield "the journal is restored from the copy", restored
        for place in range(len(world.runs)):
            yield from self._workflow(world, place)

    def _workflow(self, world: World, place: int) -> Iterator[Step]:
        name = f"batch {place}" if len(world.runs) > 1 else "batch"
        run, (current, overtaken) = world.runs[place], world.tries[place]
        if run.doing == "parked" and Rule.RETRY in self.rules:
            yield f"{name}: woken", self._woken(world, place)
        if overtaken is not None:
            for said, after, ending in self._ran(world, place, overtaken):
                left = _still(ending) if isinstance(ending, Try) else None
                yield f"{name}: given up for dead, {said}", _with_tries(after, place, current, left)
        if world.left.wipes and world.batches[place] is not None:
            left = world.left._replace(wipes=world.left.wipes - 1)
            wiped = world._replace(left=left, tries=replaced(world.tries, place, (None, None)))
            yield f"{name}: Temporal has lost it, and the reconciliation starts it again", self._revived(wiped, place)
        if run.doing == "nothing" and self._was_forgotten(world, place):
            yield f"{name}: the reconciliation starts it again", self._revived(world, place)
        if current is None:
            return
        if current.step.startswith("done"):
            yield f"{name}: {current.activity} is over", self._completed(world, place, current)
        else:
            for said, after, ending in self._ran(world, place, current):
                if not isinstance(ending, Try):
                    yield f"{name}: {said} → {ending.name}", self._failed(after, place, current.activity, ending)
                elif ending.step.startswith("done") and not world.left.crashes:
                    # Nothing can come between, so nothing is lost by going on at once.
                    yield f"{name}: {said}, and {current.activity} is over", self._completed(after, place, ending)
                else:
                    yield f"{name}: {said}", _with_tries(after, place, ending, overtaken)
            if world.left.troubles and current.activity != "record":
                left = world.left._replace(troubles=world.left.troubles - 1)
                troubled = self._failed(world._replace(left=left), place, current.activity, Outcome.PARKED)
                yield f"{name}: {current.activity} fails on what an operator must mend", troubled
        again = begun(current.activity, run)
        if world.left.crashes and current != again:
            left = world.left._replace(crashes=world.left.crashes - 1)
            crashed = _with_tries(world._replace(left=left), place, again, overtaken)
            yield f"{name}: the worker dies in {current.activity} before '{current.step}'", crashed
        if world.left.overtakings and overtaken is None and not current.step.startswith("done"):
            left = world.left._replace(overtakings=world.left.overtakings - 1)
            beside = _with_tries(world._replace(left=left), place, again, current)
            yield f"{name}: {current.activity} is given up for dead before '{current.step}' and begun again", beside

    # The reconciliation.

    def _was_forgotten(self, world: World, place: int) -> bool:
        """Whether a batch that came to its end is open in the journal, or on the chain and unknown to the journal."""
        run, batch = world.runs[place], world.batches[place]
        if batch is None:
            return chain.record(world, run.number, world.final) is not None
        return batch.status not in (CONFIRMED, FAILED) or (batch.status == FAILED and run.status == CONFIRMED)

    def _revived(self, world: World, place: int) -> World:
        number = world.runs[place].number if world.batches[place] is None else 0
        return _doing(world, place, Run(revived=True, number=number), "claim")

    # The workflow.

    def _woken(self, world: World, place: int) -> World:
        run = world.runs[place]
        if run.live and not run.forgotten:
            return _doing(world, place, entered(run, SUBMITTED), "record")
        return _doing(world, place, entered(run, PENDING), "claim")

    def _claiming(self, world: World, place: int, run: Run) -> World:
        return _doing(world, place, run if run.status == PENDING else entered(run, PENDING), "claim")

    def _failed(self, world: World, place: int, activity: str, outcome: Outcome) -> World:
        """`Settlement._recover`, and what Temporal does by itself."""
        run = world.runs[place]
        if outcome is Outcome.AGAIN or activity == "record":
            return _doing(world, place, run, activity)
        if activity == "confirm":
            run = _sent(run)
        if outcome is Outcome.ALREADY_SETTLED:
            return _doing(world, place, run, "confirm")
        if outcome is Outcome.PARKED:
            return _doing(world, place, entered(run, FAILED), "record")
        if outcome is Outcome.UNKNOWN:
            return self._claiming(world, place, run._replace(forgotten=True))
        run = run._replace(live=(), taken=run.number if outcome is Outcome.TAKEN else run.taken)
        return self._claiming(world, place, run)

    def _completed(self, world: World, place: int, finished: Try) -> World:
        """Temporal has an activity's result: the workflow decides what is next."""
        run = world.runs[place]
        if finished.activity == "claim":
            return self._claimed(world, place, run, finished)
        if finished.activity == "prove":
            return _doing(
                world,
                place,
                entered(run, PROVED)._replace(proved=run.sequence, sequence=run.sequence + 1),
                "sign",
            )
        if finished.activity == "sign":
            live = (*(at for at in run.live if at != finished.place), finished.place)
            run = run._replace(
                attempts=max(run.attempts, finished.sequence + 1), live=live, forgotten=False, unsent=True
            )
            if run.status == PROVED:
                run = entered(run, SUBMITTED)._replace(submitted=run.sequence, sequence=run.sequence + 1)
            return _doing(world, place, run, "confirm")
        if finished.activity == "confirm":
            run = _sent(run)
            if finished.step == "done settled":
                return _doing(world, place, entered(run, CONFIRMED), "nothing")
            return _doing(world, place, run._replace(live=()), "sign")
        assert finished.activity == "record"
        run = run._replace(sequence=finished.sequence + 1)
        return _doing(world, place, run, "parked" if run.status == FAILED else "confirm")

    def _claimed(self, world: World, place: int, run: Run, finished: Try) -> World:
        run = run._replace(number=finished.number, taken=0, sequence=finished.sequence + 1)
        if finished.step != "done confirmed":
            run = run._replace(refused=finished.refused if Rule.HISTORY in self.rules else 0)
        if finished.signed == Verdict.NONE_LIVE.name:
            run = run._replace(live=())
        if finished.step == "done waiting":
            return self._claiming(world, place, run)
        if finished.step == "done confirmed":
            return _doing(world, place, entered(run, CONFIRMED)._replace(bets=finished.bets), "nothing")
        if finished.step == "done nothing":
            return _doing(world, place, entered(run, FAILED), "nothing")
        return _doing(world, place, entered(run, PROVING)._replace(bets=finished.bets), "prove")

    # The activities.

    def _ran(self, world: World, place: int, running: Try) -> Iterator[Ending]:
        """What the next step of an execution does. What the journal refuses parks the batch.

        A change of status that the domain forbids may only be tried by an execution that is given up, or on an older journal.
        """
        step = running.step
        try:
            if step.startswith("judge"):
                yield from self._judge(world, place, running)
            elif step == "sign":
                yield from self._sign(world, place, running)
            else:
                yield getattr(self, f"_{running.activity}_{step.replace(' ', '_')}")(world, place, running)
        except BatchUnknown as error:
            yield f"{running.activity}: {error}", world, Outcome.UNKNOWN
        except (JournalConflict, IllegalTransition) as error:
            is_current = running is world.tries[place][0]
            if isinstance(error, IllegalTransition) and is_current and not self.bounds.budget.restores:
                raise
            yield f"{running.activity}: {error}", world, Outcome.PARKED

    def _claim_begin(self, world: World, place: int, running: Try) -> Ending:  # noqa: ARG002
        run = running.run
        running = running._replace(number=run.number, bets=run.bets, attempts=sum(1 << at for at in run.live))
        step = self._order[0]
        return "looks what it remembers", world, running._replace(step=step, place=run.live[-1], signed="judged")

    def _claim_claim(self, world: World, place: int, running: Try) -> Ending:
        run = running.run
        if run.revived and world.batches[place] is not None:
            world = journal.resume(world, place, run)
        else:
            world = journal.claim(world, place, self.bounds.asked[place], run, self.rules)
        world = journal.restore_attempts(world, place, run.live)
        batch = journal.batch_of(world, place)
        running = running._replace(
            number=batch.number,
            sequence=batch.sequence,
            attempts=0,
            bets=journal.live_bets(world, place),
            step="done confirmed" if batch.status == CONFIRMED else "look",
        )
        return "claims its bets in the journal", world, running

    def _claim_look(self, world: World, place: int, running: Try) -> Ending:
        highest, taken = chain.highest_number(world), running.run.taken
        if taken:
            world = self._renumbered(world, place, taken, highest, running)
            running = running._replace(number=journal.batch_of(world, place).number)
        said = f"looks at house and vaults, as number {running.number}"
        uncovered = 0 if world.covered else running.bets & self.lost_bet
        running = running._replace(uncovered=uncovered)
        if not running.bets:
            return said, world, _claimed(world, place, running, "done nothing")
        if running.signed in (Verdict.SETTLED.name, Verdict.PENDING.name):
            if running.bets == running.run.bets:
                return said, world, running._replace(step="proving", uncovered=0)
            if running.signed == Verdict.SETTLED.name:
                raise JournalConflict("its attempt has settled other bets than are its own now")
            return said, world, _claimed(world, place, running, "done waiting")
        if uncovered or running.number <= highest or running.run.revived:
            return said, world, self._judging(world, place, running)
        return said, world, running._replace(step="proving")

    def _renumbered(self, world: World, place: int, taken: int, above: int, running: Try) -> World:
        if running.run.revived and running.number == taken:
            raise JournalConflict("it was started again, so what was signed for it before may be unknown")
        return journal.renumber(world, place, taken, above, running.sequence, self.rules)

    def _claim_renumber(self, world: World, place: int, running: Try) -> Ending:
        world = self._renumbered(world, place, running.number, chain.highest_number(world), running)
        number = journal.batch_of(world, place).number
        said = f"gets number {number}, for {running.number} is taken"
        return said, world, running._replace(number=number, step="eject" if running.uncovered else "proving")

    def _claim_eject(self, world: World, place: int, running: Try) -> Ending:
        world = journal.eject(world, place, running.uncovered, running.sequence, running.attempts, self.rules)
        bets = running.bets & ~running.uncovered
        running = running._replace(bets=bets, uncovered=0, attempts=0, step="proving")
        if not bets:
            running = _claimed(world, place, running, "done nothing")
        return "ejects the bet that is not covered", world, running

    def _claim_proving(self, world: World, place: int, running: Try) -> Ending:
        sequence = running.sequence + 1
        world = journal.record_transition(world, place, sequence, PROVING)
        return "records Proving", world, running._replace(sequence=sequence, uncovered=0, attempts=0, step="count")

    def _claim_count(self, world: World, place: int, running: Try) -> Ending:
        if journal.live_bets(world, place) != running.bets:
            return "finds that another try has ejected bets", world, Outcome.AGAIN
        return "counts the bets that stand", world, _claimed(world, place, running, "done")

    def _prove_prove(self, world: World, place: int, running: Try) -> Ending:  # noqa: ARG002
        return "proves", world, running._replace(step="done")

    def _sign_proved(self, world: World, place: int, running: Try) -> Ending:
        world = journal.record_transition(world, place, running.run.proved, PROVED)
        return "records Proved", world, running._replace(step="statement")

    def _sign_statement(self, world: World, place: int, running: Try) -> Ending:
        run = running.run
        world = journal.record_statement(world, place, run.number, run.bets)
        world = journal.restore_attempts(world, place, run.live)
        kept = journal.batch_of(world, place).attempts
        said = "records the statement"
        if run.live:
            running = running._replace(step="done", sequence=run.attempts - 1, place=run.live[-1])
            return f"{said} and goes on with the attempt that may still land", world, running
        if kept and kept[-1][0] >= run.attempts and _settles(world.signed[kept[-1][1]], run):
            running = running._replace(step="done", sequence=kept[-1][0], place=kept[-1][1])
            return f"{said} and finds attempt {kept[-1][0]} kept", world, running
        number = max(kept[-1][0] + 1 if kept else 0, run.attempts)
        return said, world, running._replace(step="sign", sequence=number)

    def _sign(self, world: World, place: int, running: Try) -> Iterator[Ending]:
        run = running.run
        for node, seen, slot, denies in self._nodes(world, running):
            record = None if denies else chain.record(world, run.number, slot)
            if record == run.bets:
                yield f"{node} simulates: settled already", seen, Outcome.ALREADY_SETTLED
            elif record is not None:
                yield f"{node} simulates: number {run.number} is taken", seen, Outcome.TAKEN
            elif run.bets & self.lost_bet and not world.covered:
                yield f"{node} simulates: a vault does not cover", seen, Outcome.UNCOVERED
            elif len(world.signed) < self.bounds.max_attempts:
                attempt = Attempt(place, run.number, run.bets, slot + self.bounds.validity_blocks)
                step = "keep" if Rule.DURABLE_BEFORE_BROADCAST in self.rules else "send"
                yield f"signs over a blockhash of {node}", seen, running._replace(step=step, attempt=attempt)

    def _sign_send(self, world: World, place: int, running: Try) -> Ending:  # noqa: ARG002
        """Only where the rule against it is left out."""
        assert running.attempt is not None
        at = len(world.signed)
        world = chain.broadcast(world._replace(signed=(*world.signed, running.attempt)), 1 << at)
        return "broadcasts at once", world, running._replace(step="keep", place=at)

    def _sign_keep(self, world: World, place: int, running: Try) -> Ending:
        assert running.attempt is not None
        sent_as = None if Rule.DURABLE_BEFORE_BROADCAST in self.rules else running.place
        world, at = journal.record_attempt(world, place, running.sequence, running.attempt, sent_as)
        if not _settles(world.signed[at], running.run):
            return "finds that another attempt was kept", world, Outcome.AGAIN
        return f"keeps attempt {running.sequence}", world, running._replace(step="done", attempt=None, place=at)

    def _confirm_send(self, world: World, place: int, running: Try) -> Ending:  # noqa: ARG002
        run = running.run
        step = "submitted" if run.submitted else "attempts"
        return "broadcasts", chain.broadcast(world, sum(1 << at for at in run.live)), running._replace(step=step)

    def _confirm_submitted(self, world: World, place: int, running: Try) -> Ending:
        world = journal.record_transition(world, place, running.run.submitted, SUBMITTED)
        return "records Submitted", world, running._replace(step="attempts")

    def _confirm_attempts(self, world: World, place: int, running: Try) -> Ending:
        run = running.run
        running = running._replace(number=run.number, bets=run.bets)
        if world.batches[place] is not None and Rule.HISTORY in self.rules:
            world = journal.restore_attempts(world, place, run.live)
        return "reads all attempts", world, self._judging(world, place, running)

    def _confirm_confirm(self, world: World, place: int, running: Try) -> Ending:
        run, batch = running.run, journal.batch_of(world, place)
        if batch.landing is None and batch.statement != (run.number, run.bets):
            raise BatchUnknown("the journal holds an older state of the batch")
        if batch.landing is not None:
            return "finds it Confirmed", world, begun("confirm", running.run)._replace(step="done settled")
        world = journal.confirm(world, place, running.place, running.run.sequence)
        return "records Confirmed", world, begun("confirm", running.run)._replace(step="done settled")

    def _record_record(self, world: World, place: int, running: Try) -> Ending:
        run, batch = running.run, world.batches[place]
        if batch is None:
            return "finds no batch to record it of", world, running._replace(step="done", sequence=run.sequence)
        if batch.status == run.status:
            return "finds it recorded", world, running._replace(step="done", sequence=batch.sequence)
        if not journal.may_follow(batch.status, run.status) and Rule.ONLY_WHAT_FOLLOWS in self.rules:
            return "finds that it cannot follow", world, running._replace(step="done", sequence=batch.sequence)
        sequence = max(run.sequence, batch.sequence + 1)
        world = journal.record_transition(world, place, sequence, run.status)
        return "records the change", world, running._replace(step="done", sequence=sequence)

    # The judge.

    def _judging(self, world: World, place: int, running: Try) -> Try:
        batch = world.batches[place]
        attempts = [at for _, at in sorted(batch.attempts)] if batch is not None else list(running.run.live)
        newest = attempts[-1] if attempts else EXPIRED
        return running._replace(step=self._order[0], attempts=sum(1 << at for at in attempts), place=newest)

    @property
    def _order(self) -> tuple[str, ...]:
        return ORDER if Rule.ORDER_OF_READS in self.rules else WRONG_ORDER

    def _nodes(self, world: World, running: Try) -> Iterator[tuple[str, World, int, bool]]:
        """Who may answer: as of which slot, and whether it denies what it knows.

        Who asks a node that lags or denies may ask it again.
        """
        newest = len(world.blocks)
        yield "a node", world, newest, False
        if world.left.lags or running.asks_laggard:
            used = not running.asks_laggard
            seen = world._replace(left=world.left._replace(lags=world.left.lags - used))
            for slot in range(newest):
                yield f"a node {newest - slot} slots behind", seen, slot, False
        if world.left.denials or running.asks_liar:
            used = not running.asks_liar
            seen = world._replace(left=world.left._replace(denials=world.left.denials - used))
            yield "a node that denies", seen, newest, True

    def _judge(self, world: World, place: int, running: Try) -> Iterator[Ending]:
        following = self._order[self._order.index(running.step) + 1]
        for node, seen, slot, denies in self._nodes(world, running):
            read = self._read(world, running, slot, denies)._replace(step=following)
            if seen.left.lags < world.left.lags:
                read = read._replace(asks_laggard=True)
            if seen.left.denials < world.left.denials:
                read = read._replace(asks_liar=True)
            said = f"{running.activity}: {node} tells {running.step.removeprefix('judge ')}"
            if following != "decide":
                yield said, seen, read
                continue
            verdict = self.verdict(world, read)
            second = verdict
            if verdict in NEGATIVE and self.bounds.two_nodes and Rule.TWO_NODES in self.rules:
                second = self._honest_verdict(world, read)
            if second is not verdict:
                verdict = Verdict.UNAVAILABLE
            after, ending = self._judged(seen, place, read, verdict)
            yield f"{said}: {verdict.name}", after, ending

    def _honest_verdict(self, world: World, running: Try) -> Verdict:
        """Of a node that neither lags nor denies."""
        for step in self._order[:-1]:
            running = self._read(world, running._replace(step=step), len(world.blocks), denies=False)
        return self.verdict(world, running)

    def _read(self, world: World, running: Try, slot: int, denies: bool) -> Try:
        final = min(world.final, slot)
        if running.step == "judge finalized":
            height = final if Rule.FINALIZED_HEIGHT in self.rules else slot
            passed = sum(
                1 << at
                for at in chain.places(running.attempts)
                if Rule.EXPIRY_PROOF not in self.rules or _is_dead(final, world.signed[at].expires, final, height)
            )
            running = running._replace(finalized=final, passed=passed)
            return running if self._order is ORDER else self.with_dead(running)
        if running.step == "judge statuses":
            succeeded, failed = chain.succeeded(world, slot), chain.failed(world, slot)
            running = running._replace(
                status_slot=slot,
                unknown=running.attempts if denies else running.attempts & ~(succeeded | failed),
                landed=0 if denies else running.attempts & chain.succeeded(world, final),
                failed=0 if denies else running.attempts & chain.failed(world, final),
            )
            return self.with_dead(running) if self._order is ORDER else running
        at = final if Rule.FINALITY in self.rules else slot
        record = None if denies else chain.record(world, running.number, at)
        return running._replace(record=record, record_slot=at)

    def with_dead(self, running: Try) -> Try:
        """As soon as both are read on which it depends."""
        slot = running.status_slot if Rule.CONTEXT_SLOTS in self.rules else running.finalized
        dead = sum(
            1 << at
            for at in chain.places(running.unknown)
            if _is_dead(slot, 0, running.finalized, running.passed >> at & 1)
        )
        return running._replace(passed=0, unknown=0, status_slot=EXPIRED, dead=dead | running.failed)

    def verdict(self, world: World, read: Try) -> Verdict:
        """`SolanaLedger.judge`, once everything is read."""
        live = read.attempts & ~read.dead
        if read.record is not None:
            if read.record == read.bets or Rule.ROOT_COMPARISON not in self.rules:
                return Verdict.SETTLED
            judged = [world.signed[at] for at in chain.places(read.attempts)]
            if any((attempt.number, attempt.bets) == (read.number, read.record) for attempt in judged):
                return Verdict.CONFLICT
        if live & read.landed:
            return Verdict.UNAVAILABLE
        if read.record is not None:
            others = any(world.signed[at].number != read.number for at in chain.places(live))
            return Verdict.PENDING if others else Verdict.TAKEN
        if live:
            return Verdict.PENDING
        if Rule.CONTEXT_SLOTS in self.rules and read.record_slot < read.finalized:
            return Verdict.UNAVAILABLE
        if read.place != EXPIRED and read.failed >> read.place & 1:
            newest = world.signed[read.place]
            if (newest.number, newest.bets) == (read.number, read.bets):
                return Verdict.UNCOVERED
        return Verdict.NONE_LIVE

    def _judged(self, world: World, place: int, read: Try, verdict: Verdict) -> tuple[World, Try | Outcome]:
        """What claim and confirm do with a verdict."""
        if verdict is Verdict.CONFLICT:
            return world, Outcome.PARKED
        if verdict is Verdict.UNAVAILABLE:
            return world, Outcome.AGAIN
        if read.activity == "claim":
            return world, self._claim_judged(world, place, read, verdict)
        if verdict is not Verdict.NONE_LIVE and verdict not in NEGATIVE and world.batches[place] is None:
            return world, Outcome.UNKNOWN
        if verdict is Verdict.SETTLED:
            succeeded = chain.succeeded(world, len(world.blocks))
            landing = next(
                (at for at in chain.places(read.attempts & succeeded) if world.signed[at].number == read.number),
                chain.FOREIGN,
            )
            return world, begun("confirm", read.run)._replace(step="confirm", place=landing)
        if verdict is Verdict.PENDING:
            return chain.broadcast(world, sum(1 << at for at in read.run.live)), begun("confirm", read.run)._replace(
                step="attempts"
            )
        if verdict is Verdict.NONE_LIVE:
            return world, begun("confirm", read.run)._replace(step="done none")
        return world, Outcome.TAKEN if verdict is Verdict.TAKEN else Outcome.UNCOVERED

    def _claim_judged(self, world: World, place: int, read: Try, verdict: Verdict) -> Try:
        if read.signed == "judged":
            none_live = verdict in NEGATIVE
            return begun("claim", read.run)._replace(
                step="claim", signed=Verdict.NONE_LIVE.name if none_live else verdict.name
            )
        running = begun("claim", read.run)._replace(
            number=read.number,
            bets=read.bets,
            sequence=read.sequence,
            uncovered=read.uncovered,
            attempts=read.attempts,
            signed=read.signed,
        )
        if verdict is Verdict.TAKEN:
            return running._replace(step="renumber")
        if verdict is Verdict.PENDING and read.uncovered:
            return _claimed(world, place, running, "done waiting")
        refusable = verdict in (Verdict.NONE_LIVE, Verdict.UNCOVERED)
        return running._replace(step="eject" if refusable and read.uncovered else "proving")


def begun(activity: str, run: Run) -> Try:
    """An execution that has done nothing yet."""
    if activity == "claim" and not run.live:
        return Try(activity, "claim", run)
    if activity == "confirm" and run.unsent:
        return Try(activity, "send", run)
    return Try(activity, FIRST_STEP[activity], run)


def entered(run: Run, status: int) -> Run:
    """The workflow's own view of the batch's status, checked as `Settlement._enter` does."""
    journal.check(run.status, status)
    return run._replace(status=status)


def _sent(run: Run) -> Run:
    """`Settlement._note_sent`"""
    return run._replace(unsent=False, submitted=0)


def _doing(world: World, place: int, run: Run, activity: str) -> World:
    """With the workflow waiting for an activity, for a person (`parked`), or for nothing any more."""
    run = run._replace(doing=activity)
    current = begun(activity, run) if activity in FIRST_STEP else None
    world = world._replace(runs=replaced(world.runs, place, run))
    return _with_tries(world, place, current, world.tries[place][1])


def _with_tries(world: World, place: int, current: Try | None, overtaken: Try | None) -> World:
    return world._replace(tries=replaced(world.tries, place, (current, overtaken)))


def _claimed(world: World, place: int, running: Try, step: str) -> Try:
    """A claim that is over, with what it tells the history: what it left out."""
    return begun("claim", running.run)._replace(
        number=running.number,
        bets=running.bets,
        sequence=running.sequence,
        refused=journal.rejected_bets(world, place),
        signed=running.signed,
        step=step,
    )


def _still(running: Try | None) -> Try | None:
    """An execution that has something left to do."""
    return None if running is None or running.step.startswith("done") else running


def _settles(attempt: Attempt, run: Run) -> bool:
    return (attempt.number, attempt.bets) == (run.number, run.bets)


@cache
def _is_dead(status_slot: int, expires: int, finalized_slot: int, finalized_height: int) -> bool:
    """The ledger's own rule on an attempt of which a node knows nothing."""
    # Its models count from zero.
    shift = -EXPIRED
    finalized = EpochInfo(absolute_slot=finalized_slot + shift, block_height=finalized_height + shift)
    return is_expired(None, status_slot + shift, expires + shift, finalized)
