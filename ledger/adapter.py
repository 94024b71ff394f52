"""The chain behind the domain's port: reads the program's accounts, signs settlements, sends them and judges what became of them.

It must never send what its caller has not made durable first (so `sign` sends nothing), sign while judging, or say of an
attempt that it cannot land unless the finalized chain proves it: that would pay twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

import structlog
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey

from ledger import layout
from ledger.failures import Failure, Fault
from ledger.lookup_tables import SettlementTables
from ledger.program_errors import ProgramError
from ledger.reading import PROVISION_REMEDY, ProgramReader
from ledger.rpc import (
    INVALID_PARAMS,
    MAX_HISTORY_PER_REQUEST,
    READ_COMMITMENT,
    ConfirmedAt,
    EpochInfo,
    RequestRefused,
    RpcClient,
    SignatureStatus,
    Transaction,
)
from ledger.statuses import is_expired
from ledger.transactions import (
    MAX_COMPUTE_UNITS,
    SETTLE_POSITION,
    compute_unit_limit,
    encode,
    settle_instruction,
    settled_by,
    settlement_message,
    sign_message,
    unsigned,
)
from settlement.batches import (
    Landing,
    OnChainBatch,
    Proof,
    SignedAttempt,
    Standing,
    Statement,
    Verdict,
)
from settlement.errors import (
    AlreadySettled,
    BatchNumberTaken,
    HouseUncovered,
    JournalConflict,
    LedgerMisconfigured,
    LedgerUnavailable,
    SettlementRefused,
    VaultUncovered,
)
from settlement.shapes import Shape

MAX_HISTORY_PAGES: Final = 10
"""How far the history of a record's address is searched for a rival's transaction; anybody may mention an address."""

_NUMBER_SETTLED: Final = (ProgramError.BATCH_EXISTS, ProgramError.BATCH_NUMBER_TAKEN)
"""By these bets or by others: which, only the record at the configured commitment can say."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Sighting:
    """An attempt and what a node says of it, as of the node's slot."""

    attempt: SignedAttempt
    status: SignatureStatus | None
    slot: int

    @property
    def has_landed(self) -> bool:
        return self._is_final and self.status is not None and self.status.err is None

    def is_dead(self, finalized: EpochInfo) -> bool:
        """Whether it can have no effect any more, and has had none."""
        if self._is_final:
            return not self.has_landed
        return is_expired(self.status, self.slot, self.attempt.last_valid_block_height, finalized)

    @property
    def _is_final(self) -> bool:
        return self.status is not None and self.status.confirmation_status == "finalized"


class SolanaLedger(ProgramReader):
    """`settlement.ports.Ledger` on one RPC node. `commitment`: when a batch counts as settled."""

    def __init__(
        self,
        rpc: RpcClient,
        program: Pubkey,
        authority: Keypair,
        *,
        commitment: ConfirmedAt,
        priority_fee_micro_lamports: int,
    ) -> None:
        super().__init__(rpc, program, commitment=commitment)
        self._authority = authority
        self._authority_key = authority.pubkey()  # derived anew at every call
        self._micro_lamports_per_unit = priority_fee_micro_lamports
        self._tables = SettlementTables(rpc, program, self._authority_key, READ_COMMITMENT)

    async def check(self) -> layout.Config:
        """Raises `LedgerUnavailable` or `LedgerMisconfigured` unless the program is there, initialised, and obeys this key."""
        config = await super().check()
        self.require_authority(config, self._authority_key)
        return config

    async def sign(self, statement: Statement, proof: Proof, attempt: int) -> SignedAttempt:
        """See the port."""
        settle = settle_instruction(statement, proof, self._program, self._authority_key)
        fitting = await self._tables.fitting(settle, statement.lane)
        tables = fitting.tables
        blockhash = await self._rpc.latest_blockhash(READ_COMMITMENT)

        def message(unit_limit: int) -> MessageV0:
            return settlement_message(
                settle,
                self._authority_key,
                blockhash.blockhash,
                tables,
                unit_limit=unit_limit,
                micro_lamports_per_unit=self._micro_lamports_per_unit,
            )

        try:
            simulation = await self._rpc.simulate(encode(unsigned(message(MAX_COMPUTE_UNITS))), READ_COMMITMENT)
        except RequestRefused as refusal:
            if tables and refusal.code == INVALID_PARAMS:
                self._tables.forget(statement.lane)
                said = f"{self._rpc.name} does not resolve the lookup tables of lane {statement.lane}: {refusal}"
                # They were deactivated since they were read. Of tables read just now it might be said for ever.
                raise (SettlementRefused(said) if fitting.is_fresh else LedgerUnavailable(said)) from None
            raise SettlementRefused(str(refusal)) from None
        if simulation.err is not None:
            await self._raise_refusal(statement, Failure.of(simulation.err, [SETTLE_POSITION]))
        if simulation.units_consumed is None:
            raise LedgerUnavailable(f"{self._rpc.name} does not say how many compute units a simulation has used")
        signature, raw = sign_message(message(compute_unit_limit(simulation.units_consumed)), [self._authority])
        return SignedAttempt(
            attempt=attempt,
            number=statement.number,
            bets_root=statement.bets_root,
            signature=signature,
            raw=raw,
            last_valid_block_height=blockhash.last_valid_block_height,
        )

    async def broadcast(self, attempt: SignedAttempt) -> None:
        """See the port."""
        try:
            await self._rpc.send(attempt.raw)
        except RequestRefused as refusal:
            # One node's word does not cancel what may have reached others: the judge has the last.
            _log.warning("broadcast refused", signature=attempt.signature, node=self._rpc.name, refusal=str(refusal))

    async def judge(self, statement: Statement, attempts: Sequence[SignedAttempt]) -> Verdict:
        """See the port. The order of the reads matters: each must be at least as fresh as those before it.

        A finalized failure is raised only if it is the newest attempt's and that attempt was for this very statement; others
        count as dead, for the caller has dealt with them. Besides the port's errors: `JournalConflict` if one of the attempts
        has settled this number with other bets than the statement's.
        """
        finalized = await self._rpc.epoch_info("finalized")
        sightings = await self._sightings(attempts)
        record = await self._record(statement.lane, statement.number, self._commitment)
        live = [sighting for sighting in sightings if not sighting.is_dead(finalized)]
        if record.value is not None and record.value.bets_root == statement.bets_root:
            return Verdict(standing=Standing.SETTLED, landing=await self._landing(record.value, sightings))
        if record.value is not None:
            _require_foreign(record.value, attempts)
        if record.slot < finalized.absolute_slot:
            raise LedgerUnavailable(
                f"{self._rpc.name} answers as of slot {record.slot}, behind slot {finalized.absolute_slot}"
                " that it called finalized before"
            )
        if landed := next((sighting for sighting in live if sighting.has_landed), None):
            raise LedgerUnavailable(
                f"{self._rpc.name} says that attempt {landed.attempt.signature} has landed, but shows no record of"
                f" batch {statement.number} of lane {statement.lane} with its bets root"
            )
        if record.value is not None:
            return await self._judge_taken_number(statement, record.value, live)
        if live:
            return Verdict(standing=Standing.PENDING)
        self._raise_failure_of_newest(statement, sightings)
        return Verdict(standing=Standing.NONE_LIVE)

    async def _judge_taken_number(
        self, statement: Statement, record: OnChainBatch, live: Sequence[_Sighting]
    ) -> Verdict:
        """The record has another root, so no attempt for this number can land as long as the record stays."""
        if any(sighting.attempt.number != statement.number for sighting in live):
            return Verdict(standing=Standing.PENDING)
        if self._commitment != "finalized":
            final = (await self._record(statement.lane, statement.number, "finalized")).value
            if final is None or final.bets_root != record.bets_root:
                return Verdict(standing=Standing.PENDING)
        raise _number_taken(record)

    async def _sightings(self, attempts: Sequence[SignedAttempt]) -> list[_Sighting]:
        if not attempts:
            return []
        statuses = await self._rpc.signature_statuses([attempt.signature for attempt in attempts])
        return [
            _Sighting(attempt, status.value, status.slot) for attempt, status in zip(attempts, statuses, strict=True)
        ]

    def _raise_failure_of_newest(self, statement: Statement, sightings: Sequence[_Sighting]) -> None:
        """Raises what the program has said of the newest attempt, if that concerns this statement and it alone."""
        newest = max(sightings, key=lambda sighting: sighting.attempt.attempt, default=None)
        if newest is None or newest.status is None or newest.status.err is None:
            return
        failure = Failure.of(newest.status.err, [SETTLE_POSITION])
        concerns_settlement = failure.fault is Fault.SETTLEMENT and failure.program_error not in _NUMBER_SETTLED
        if concerns_settlement and settled_by(newest.attempt) == (statement.number, statement.bets_root):
            raise self._refusal(statement, failure)

    async def _landing(self, record: OnChainBatch, sightings: Sequence[_Sighting]) -> Landing:
        """Only one transaction of a fork can have made the record: one of the attempts, or a rival's."""
        signature = next(
            (
                sighting.attempt.signature
                for sighting in sightings
                if sighting.attempt.number == record.number
                and sighting.status is not None
                and sighting.status.err is None
                and sighting.status.slot == record.slot
            ),
            None,
        )
        if signature is not None:
            transaction = await self._rpc.transaction(signature, self._commitment)
        else:
            signature, transaction = await self._rival(record)
        meta = transaction.meta if transaction else None
        return Landing(
            signature=signature,
            slot=record.slot,
            compute_units=meta.compute_units_consumed if meta else None,
            fee_lamports=meta.fee if meta else None,
        )

    async def _rival(self, record: OnChainBatch) -> tuple[str, Transaction | None]:
        """The transaction that made the record, from the history of the record's address.

        Anybody may name that address in a transaction; only the authority's can both succeed and call the program.
        """
        address = layout.batch_address(self._program, record.lane, record.number)
        candidates: list[str] = []
        before: str | None = None
        for _ in range(MAX_HISTORY_PAGES):
            page = await self._rpc.signatures_for(address, self._commitment, before)
            candidates += [info.signature for info in page if info.err is None and info.slot == record.slot]
            if len(page) < MAX_HISTORY_PER_REQUEST or page[-1].slot < record.slot:
                break
            before = page[-1].signature
        if len(candidates) == 1:
            return candidates[0], await self._rpc.transaction(candidates[0], self._commitment)
        for signature in candidates:
            transaction = await self._rpc.transaction(signature, self._commitment)
            if transaction is not None and str(self._program) in transaction.programs:
                return signature, transaction
        raise LedgerUnavailable(
            f"batch {record.number} of lane {record.lane} is settled, but {self._rpc.name} does not know by which"
            f" transaction: a node is needed that keeps the history of slot {record.slot}"
        )

    async def _raise_refusal(self, statement: Statement, failure: Failure) -> NoReturn:
        """Raises what a failed simulation means, having looked at the chain where its code leaves that open."""
        if failure.fault in (Fault.BLOCKHASH, Fault.PROCESSED):
            raise LedgerUnavailable(f"{self._rpc.name} does not accept the blockhash that it has given: {failure.text}")
        if failure.fault is Fault.PAYER:
            raise LedgerMisconfigured(
                f"authority {self._authority_key} cannot pay for a settlement on {self._rpc.name}: send it SOL"
                f" ({failure.text})"
            )
        if failure.fault is Fault.PROVISIONING:
            await self.check()
            await self._check_provisioned(statement.lane, statement.shape)
        if failure.program_error in _NUMBER_SETTLED:
            record = (await self._record(statement.lane, statement.number, READ_COMMITMENT)).value
            if record is None:
                raise LedgerUnavailable(f"{self._rpc.name} contradicts itself on batch {statement.number}")
            if record.bets_root != statement.bets_root:
                raise _number_taken(record)
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


def _require_foreign(record: OnChainBatch, attempts: Sequence[SignedAttempt]) -> None:
    """Raises `JournalConflict` if one of the batch's own attempts made a record that is not the statement's."""
    own = next((a for a in attempts if settled_by(a) == (record.number, record.bets_root)), None)
    if own is not None:
        # No refusal, which a caller may answer with another number: that would pay these bets twice.
        raise JournalConflict(
            f"attempt {own.signature} of this batch has settled number {record.number} of lane {record.lane} with other"
            f" bets than are to be settled now (root {record.bets_root:064x}): compare journal and chain by hand"
        )


def _number_taken(record: OnChainBatch) -> BatchNumberTaken:
    return BatchNumberTaken(
        f"batch number {record.number} of lane {record.lane} was taken in slot {record.slot} by a batch with root"
        f" {record.bets_root:064x}"
    )
