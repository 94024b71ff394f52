"""Gets transactions that an operator or a player sends by hand to land, each once: sign, send, send again, ask what became of them.

A job is signed anew only when its last transaction has provably expired. Nothing here is for settlements, whose attempts must
be durable before they are sent: what is under way here is forgotten when the process ends.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message

from ledger.failures import Failure, Fault
from ledger.fates import dated_blockhash, find
from ledger.nodes import Nodes
from ledger.rpc import READ_COMMITMENT, RequestRefused, RpcClient, TransactionError
from ledger.statuses import has_landed
from ledger.transactions import BUDGET_INSTRUCTIONS, budgeted, distinguishing_units, sign_message
from settlement.errors import LedgerMisconfigured, LedgerUnavailable

MAX_IN_FLIGHT: Final = 16
"""Transactions sent and not yet confirmed."""
RESEND_SECONDS: Final = 2.0
FIRST_POLL_SECONDS: Final = 0.05
LAST_POLL_SECONDS: Final = 1.0
"""How long the waits between looks at the ledger become while nothing lands."""
STALL_SECONDS: Final = 150.0
"""How long to wait without anything happening before giving up.

Longer than it takes until a transaction has provably expired: the 150 blocks for which its blockhash is good and some 32 until the
last of them is final, 73 s at a block every 400 ms and 91 s at 500 ms.
"""
MAX_SIGNINGS: Final = 5
"""So often one job is signed before it is given up: on a chain that takes other transactions but not this one."""

COMPUTE_UNITS_PER_INSTRUCTION: Final = 200_000
"""The runtime's own default (agave `DEFAULT_INSTRUCTION_COMPUTE_UNIT_LIMIT`)."""


@dataclass(frozen=True)
class Job:
    """One transaction to land. `preflight`: have the node simulate it first, for an early and cheap error."""

    purpose: str
    instructions: Sequence[Instruction]
    co_signers: Sequence[Keypair] = ()
    preflight: bool = True


@dataclass
class _Flight:
    """A job's signed transaction under way."""

    job: Job
    signings: int
    signature: str
    raw: str
    last_valid_block_height: int
    signed_after_slot: int
    sent_at: float


_Waiting: TypeAlias = deque[tuple[Job, int]]
"""Jobs to be signed, and how often each was."""


class Lander:
    """Lands transactions that one key pays for.

    Every method raises `LedgerUnavailable`, or `LedgerMisconfigured` with the remedy.
    """

    def __init__(self, rpc: RpcClient, payer: Keypair, *, priority_fee_micro_lamports: int) -> None:
        self._rpc = rpc
        self._nodes = Nodes.of(rpc)
        self._payer = payer
        self._payer_key = payer.pubkey()
        self._micro_lamports_per_unit = priority_fee_micro_lamports

    async def land(self, jobs: Sequence[Job], landed: Callable[[], None] = lambda: None) -> None:
        """Signs, sends and re-sends until every job is confirmed, in any order, several in flight.

        A job is signed anew only when its last transaction has provably expired (`ledger.fates`), so that a transfer is made once.
        """
        waiting, flying = deque((job, 0) for job in jobs), dict[str, _Flight]()
        polling = Polling(self._rpc.name, "transactions to land")
        while waiting or flying:
            try:
                await self._launch(waiting, flying)
                if await self._observe(waiting, flying, landed):
                    polling.restart()
            except LedgerUnavailable as error:
                polling.trouble = error
            await polling.wait()

    async def _launch(self, waiting: _Waiting, flying: dict[str, _Flight]) -> None:
        """Fills the room in flight, and sends again what has been under way for long."""
        now = time.monotonic()
        for flight in flying.values():
            if now - flight.sent_at >= RESEND_SECONDS:
                flight.sent_at = now
                await self._send(flight, preflight=False)
        if not waiting or len(flying) >= MAX_IN_FLIGHT:
            return
        dated = await dated_blockhash(self._nodes, READ_COMMITMENT)
        while waiting and len(flying) < MAX_IN_FLIGHT:
            job, signings = waiting.popleft()
            if signings >= MAX_SIGNINGS:
                raise LedgerMisconfigured(
                    f"{job.purpose} on {self._rpc.name} has expired {signings} times without landing: run it again later, or"
                    " with a higher CROUPIER_PRIORITY_FEE_MICRO_LAMPORTS"
                )
            signature, raw = sign_message(self._message(job, dated.blockhash), [self._payer, *job.co_signers])
            until, after = dated.last_valid_block_height, dated.signed_after_slot
            flight = _Flight(job, signings + 1, signature, raw, until, after, now)
            # Under way before it is sent: a node that fails in answering may have passed it on.
            flying[signature] = flight
            await self._send(flight, preflight=job.preflight)

    def _message(self, job: Job, blockhash: str) -> Message:
        units = COMPUTE_UNITS_PER_INSTRUCTION * len(job.instructions) + distinguishing_units()
        body = budgeted(job.instructions, units=units, micro_lamports_per_unit=self._micro_lamports_per_unit)
        return Message.new_with_blockhash(body, self._payer_key, Hash.from_string(blockhash))

    async def _send(self, flight: _Flight, *, preflight: bool) -> None:
        try:
            await self._rpc.send(flight.raw, preflight=READ_COMMITMENT if preflight else None)
        except RequestRefused as refusal:
            error = refusal.transaction_error
            failure = self._failure(flight.job, error) if error is not None else None
            # An unknown blockhash or a known transaction prove nothing: the statuses will tell.
            if failure is None or failure.fault not in (Fault.BLOCKHASH, Fault.PROCESSED):
                raise self._refused(flight.job, failure.text if failure else str(refusal), failure) from None

    async def _observe(self, waiting: _Waiting, flying: dict[str, _Flight], landed: Callable[[], None]) -> bool:
        """Takes out of `flying` what has landed or expired; answers whether anything has.

        Raises `LedgerUnavailable` if nothing has, and the nodes differ on something.
        """
        flights = list(flying.values())
        moved = False
        doubt: str | None = None
        _, findings = await find(self._nodes, flights)
        for flight, finding in zip(flights, findings, strict=True):
            if finding.status is not None and finding.status.err is not None:
                failure = self._failure(flight.job, finding.status.err)
                raise self._refused(flight.job, failure.text, failure)
            if has_landed(finding.status, READ_COMMITMENT):
                del flying[flight.signature]
                landed()
                moved = True
            elif finding.is_dead:
                del flying[flight.signature]
                waiting.append((flight.job, flight.signings))
                moved = True
            else:
                doubt = doubt or finding.doubt
        if doubt is not None and not moved:
            raise LedgerUnavailable(doubt)
        return moved

    def _failure(self, job: Job, error: TransactionError) -> Failure:
        return Failure.of(error, range(BUDGET_INSTRUCTIONS, BUDGET_INSTRUCTIONS + len(job.instructions)))

    def _refused(self, job: Job, text: str, failure: Failure | None) -> LedgerMisconfigured:
        if failure is not None and failure.fault is Fault.PAYER:
            return LedgerMisconfigured(
                f"{self._payer_key} cannot pay for {job.purpose} on {self._rpc.name}: send it SOL ({text})"
            )
        return LedgerMisconfigured(f"{self._rpc.name} refuses {job.purpose}: {text}")


class Polling:
    """Waits between looks at the ledger, longer while nothing happens, and gives up after `STALL_SECONDS` of that."""

    def __init__(self, node: str, awaited: str) -> None:
        self._node = node
        self._awaited = awaited
        self.trouble: LedgerUnavailable | None = None
        self._since = 0.0
        self._seconds = 0.0
        self.restart()

    def restart(self) -> None:
        """Something has happened, so what went wrong before is over."""
        self.trouble = None
        self._since = time.monotonic()
        self._seconds = FIRST_POLL_SECONDS

    async def wait(self) -> None:
        """Raises `LedgerUnavailable` after too long."""
        if time.monotonic() - self._since > STALL_SECONDS:
            raise self.trouble or LedgerUnavailable(
                f"waited {STALL_SECONDS:g} s in vain for {self._awaited} on {self._node}"
            )
        await asyncio.sleep(self._seconds)
        self._seconds = min(self._seconds * 1.5, LAST_POLL_SECONDS)
