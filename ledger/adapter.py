"""The chain behind the domain's port: reads the program's accounts, signs settlements, sends them and judges what became of them.

It must never send what its caller has not made durable first (so `sign` sends nothing), sign while judging, or say of an
attempt that it cannot land unless the finalized chain proves it: that would pay twice.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, NoReturn

import structlog
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey

from ledger import layout
from ledger.failures import Failure, Fault
from ledger.fees import PriceBounds, estimated_price
from ledger.judging import NUMBER_SETTLED, Judge, last_valid_height, measure, number_taken
from ledger.lookup_tables import SettlementTables
from ledger.nodes import Doubted
from ledger.program_errors import ProgramError
from ledger.reading import PROVISION_REMEDY, ProgramReader
from ledger.recent import Recent
from ledger.rpc import (
    INVALID_PARAMS,
    READ_COMMITMENT,
    Blockhash,
    ConfirmedAt,
    RequestRefused,
    RpcClient,
    SignatureStatus,
)
from ledger.statuses import has_landed
from ledger.transactions import (
    MAX_COMPUTE_UNITS,
    SETTLE_POSITION,
    compute_unit_limit,
    encode,
    settle_instruction,
    settlement_message,
    sign_message,
    unsigned,
)
from ledger.watching import SignatureWatch
from settlement.batches import Proof, Sighting, SignedAttempt, Statement, Verdict
from settlement.errors import (
    AlreadySettled,
    BatchNumberTaken,
    HouseUncovered,
    LedgerMisconfigured,
    LedgerUnavailable,
    SettlementRefused,
    VaultUncovered,
)
from settlement.shapes import Shape

ESTIMATE_GOOD_SECONDS: Final = 5.0
"""How long a lane's batches offer what one of them has found usual: they all write to its house, which is what they contend for."""

BLOCKHASH_GOOD_SECONDS: Final = 2.0
"""How long batches are signed over the same blockhash, of the minute that it lives."""

_log = structlog.get_logger(__name__)


class SolanaLedger(ProgramReader):
    """`settlement.ports.Ledger`. `commitment`: when a batch counts as settled; `price`: what a settlement may offer."""

    def __init__(
        self, rpc: RpcClient, program: Pubkey, authority: Keypair, *, commitment: ConfirmedAt, price: PriceBounds
    ) -> None:
        super().__init__(rpc, program, commitment=commitment)
        self._authority = authority
        self._authority_key = authority.pubkey()  # derived anew at every call
        self._price = price
        self._tables = SettlementTables(program, self._authority_key, READ_COMMITMENT)
        self._watch = SignatureWatch(self._rpc)
        self._estimates = Recent[tuple[RpcClient, int], int](ESTIMATE_GOOD_SECONDS)
        self._blockhashes = Recent[RpcClient, Blockhash](BLOCKHASH_GOOD_SECONDS)

    async def check(self) -> layout.Config:
        """Raises `LedgerUnavailable` or `LedgerMisconfigured` unless the program is there, initialised, and obeys this key."""
        config = await super().check()
        self.require_authority(config, self._authority_key)
        return config

    async def sign(self, statement: Statement, proof: Proof, attempt: int) -> SignedAttempt:
        """See the port. One node gives blockhash and simulation; a refusal is raised only if a second one refuses the same.

        If no second one does, `LedgerUnavailable`: it may lag behind what covers the batch, or lie.
        """
        settle = settle_instruction(statement, proof, self._program, self._authority_key)
        refusals: list[SettlementRefused] = []

        async def signed_on(node: RpcClient) -> SignedAttempt:
            try:
                return await self._sign_on(node, statement, settle, attempt)
            except SettlementRefused as refusal:
                if len(self._nodes.nodes) == 1 or any(_is_same(refusal, other) for other in refusals):
                    raise
                refusals.append(refusal)
                raise Doubted(f"{node.name} alone says: {refusal}") from None

        return await self._nodes.on_one(signed_on)

    async def _sign_on(self, node: RpcClient, statement: Statement, settle: Instruction, attempt: int) -> SignedAttempt:
        fitting = await self._tables.fitting(node, settle, statement.lane)
        tables = fitting.tables
        # What has not landed by what was known is signed by what is known now.
        is_again = attempt > 0
        estimate = await self._estimates.get(
            (node, statement.lane), lambda: estimated_price(node, settle, self._authority_key), anew=is_again
        )
        blockhash = await self._blockhashes.get(node, lambda: node.latest_blockhash(READ_COMMITMENT), anew=is_again)
        # Only after the blockhash: how far above what is final it may be is known then.
        least_slot, last_valid = 0, blockhash.last_valid_block_height
        if len(self._nodes.nodes) > 1:
            finalized = await self._finalized()
            least_slot = measure([info.absolute_slot for info in finalized])
            last_valid = last_valid_height(last_valid, [info.block_height for info in finalized])

        def message(unit_limit: int) -> MessageV0:
            return settlement_message(
                settle,
                self._authority_key,
                blockhash.blockhash,
                tables,
                unit_limit=unit_limit,
                micro_lamports_per_unit=self._price.price(estimate, earlier_attempts=attempt),
            )

        try:
            seen = await node.simulate(encode(unsigned(message(MAX_COMPUTE_UNITS))), READ_COMMITMENT)
        except RequestRefused as refusal:
            if tables and refusal.code == INVALID_PARAMS:
                self._tables.forget(statement.lane)
                said = f"{node.name} does not resolve the lookup tables of lane {statement.lane}: {refusal}"
                # They were deactivated since they were read. Of tables read just now it might be said for ever.
                raise (SettlementRefused(said) if fitting.is_fresh else LedgerUnavailable(said)) from refusal
            if refusal.transaction_error is not None:
                failure = Failure.of(refusal.transaction_error, [SETTLE_POSITION])
                await self._raise_refusal(node, statement, failure)
            raise SettlementRefused(str(refusal)) from refusal
        simulation = seen.value
        if simulation.err is not None:
            if seen.slot < least_slot:
                raise LedgerUnavailable(
                    f"{node.name} simulates as of slot {seen.slot}, behind slot {least_slot} that is finalized"
                )
            await self._raise_refusal(node, statement, Failure.of(simulation.err, [SETTLE_POSITION]))
        if simulation.units_consumed is None:
            raise LedgerUnavailable(f"{node.name} does not say how many compute units a simulation has used")
        signature, raw = sign_message(message(compute_unit_limit(simulation.units_consumed)), [self._authority])
        return SignedAttempt(
            attempt=attempt,
            number=statement.number,
            bets_root=statement.bets_root,
            signature=signature,
            raw=raw,
            last_valid_block_height=last_valid,
        )

    async def broadcast(self, attempt: SignedAttempt) -> None:
        """See the port. Every node gets the same bytes."""
        try:
            await self._nodes.send(attempt.raw)
        except RequestRefused as refusal:
            # A node's word does not cancel what may have reached others: the judge has the last.
            _log.warning("broadcast refused", signature=attempt.signature, node=self._nodes.name, refusal=str(refusal))

    async def judge(
        self, statement: Statement, attempts: Sequence[SignedAttempt], *, at_finality: bool = False
    ) -> Verdict:
        """See the port, and `ledger.judging`."""
        lane, number = statement.lane, statement.number
        return await Judge(
            self._nodes,
            self._program,
            statement,
            attempts,
            "finalized" if at_finality else self._commitment,
            read_record=lambda node, commitment: self._record(lane, number, commitment, node),
            refuse=lambda failure: self._refusal(statement, failure),
        ).verdict()

    async def sight(
        self, attempts: Sequence[SignedAttempt], *, at_finality: bool = False, while_seen: float = 0.0
    ) -> Sighting:
        """See the port."""
        commitment = "finalized" if at_finality else self._commitment

        def sighting(statuses: Sequence[SignatureStatus | None]) -> Sighting:
            known = [status for status in statuses if status is not None]
            if any(status.err is not None or has_landed(status, commitment) for status in known):
                return Sighting.DECIDED
            return Sighting.SEEN if known else Sighting.UNSEEN

        def is_news(statuses: Sequence[SignatureStatus | None]) -> bool:
            return not while_seen or sighting(statuses) is not Sighting.SEEN

        try:
            async with asyncio.timeout(while_seen or None):
                return sighting(await self._watch.statuses([a.signature for a in attempts], is_news))
        except TimeoutError:
            return Sighting.SEEN

    async def _raise_refusal(self, node: RpcClient, statement: Statement, failure: Failure) -> NoReturn:
        """Raises what a failed simulation means, having looked at the chain where its code leaves that open."""
        if failure.fault in (Fault.BLOCKHASH, Fault.PROCESSED):
            raise LedgerUnavailable(f"{node.name} does not accept the blockhash that it has given: {failure.text}")
        if failure.fault is Fault.PAYER:
            raise LedgerMisconfigured(
                f"authority {self._authority_key} cannot pay for a settlement on {node.name}: send it SOL"
                f" ({failure.text})"
            )
        if failure.fault is Fault.PROVISIONING:
            await self.check()
            await self._check_provisioned(statement.lane, statement.shape)
        if failure.program_error in NUMBER_SETTLED:
            record = (await self._record(statement.lane, statement.number, READ_COMMITMENT, node)).value
            if record is None:
                raise LedgerUnavailable(f"{node.name} contradicts itself on batch {statement.number}")
            if record.bets_root != statement.bets_root:
                raise number_taken(record)
            raise AlreadySettled(f"batch {record.number} of lane {record.lane} was settled in slot {record.slot}")
        raise self._refusal(statement, failure)

    def _refusal(self, statement: Statement, failure: Failure) -> SettlementRefused:
        if failure.program_error is ProgramError.VAULT_UNCOVERED and failure.position is not None:
            slot = statement.slots[failure.position]
            return VaultUncovered(
                failure.position, f"the vault of {slot.player} cannot cover its net of {slot.net} lamports"
            )
        if failure.program_error is ProgramError.HOUSE_UNCOVERED:
            return HouseUncovered(
                f"the house of lane {statement.lane} cannot cover {-statement.house_delta} lamports: send it SOL, at"
                f" {layout.house_address(self._program, statement.lane)}"
            )
        return SettlementRefused(f"program {self._program} refuses batch {statement.number}: {failure.text}")

    async def _check_provisioned(self, lane: int, shape: Shape) -> None:
        circuit, house = await self._rpc.accounts(
            [layout.circuit_address(self._program, shape.circuit_id), layout.house_address(self._program, lane)],
            READ_COMMITMENT,
        )
        if not self._is_ours(circuit):
            raise LedgerMisconfigured(
                f"circuit {shape.circuit_id} ({shape.name}) is not registered with program {self._program} on"
                f" {self._rpc.name}: {PROVISION_REMEDY}"
            )
        registered = self._decoded(
            layout.Circuit.decode, circuit, layout.circuit_address(self._program, shape.circuit_id)
        )
        if (registered.bets, registered.players) != (shape.bets, shape.players):
            raise LedgerMisconfigured(
                f"circuit {shape.circuit_id} is registered on {self._rpc.name} for {registered.bets} bets of"
                f" {registered.players} players, not as {shape.name}: use another program, or another release"
            )
        if not self._is_ours(house):
            raise self._no_house(lane)


def _is_same(refusal: SettlementRefused, other: SettlementRefused) -> bool:
    """Whether two nodes refuse the same, in whatever words of their own."""
    return type(refusal) is type(other) and _reason(refusal) == _reason(other)


def _reason(refusal: SettlementRefused) -> int | str | None:
    """What tells refusals of one type apart."""
    if isinstance(refusal, VaultUncovered):
        return refusal.position
    if isinstance(refusal, HouseUncovered | BatchNumberTaken):
        return None
    # The node's own code where it does not run the transaction, what the program or the runtime says where it does.
    return refusal.__cause__.code if isinstance(refusal.__cause__, RequestRefused) else str(refusal)
