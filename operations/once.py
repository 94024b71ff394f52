"""Makes a transfer once: what an earlier run has signed for the same purpose is looked into before anything is signed anew.

It must never send bytes that are not in the outbox, or sign while the fate of earlier ones is open.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from ledger.rpc import ConfirmedAt, RpcClient
from ledger.transactions import sign_message
from ledger.transfers import Draft, Fate, Flight, HistoryForgotten, Listener, TransferRefused, draft, outcome
from operations.outbox import HighWater, OutboxUnusable, Place, SignedTransfer
from settlement.errors import CroupierError, LedgerUnavailable


class Expired(CroupierError):
    """A transfer that can never land any more, and has not."""


@dataclass(frozen=True)
class Landed:
    """A transfer of an earlier run that has landed."""

    what: str
    signature: str
    slot: int


@dataclass(frozen=True)
class Once:
    """Sends transfers by way of one place of the outbox. `commitment`: when one counts as landed.

    `high_water`: raised to where each has landed, for whoever goes by balances once its record is gone.
    """

    rpc: RpcClient
    place: Place
    commitment: ConfirmedAt
    micro_lamports_per_unit: int
    listener: Listener
    high_water: HighWater | None = None

    async def settle_earlier(self, wanted: Collection[str]) -> Landed | None:
        """What an earlier run has signed, if it has landed; if it never can, its record is gone.

        `wanted`: what is to be made now. Anything else is not sent again, though it may land all the same.
        """
        found = self.place.read()
        if found is None:
            return None
        cluster = await self.rpc.genesis_hash()
        if found.cluster != cluster:
            raise TransferRefused(
                f"{self.place.file} is of a transfer on the cluster with genesis hash {found.cluster}; {self.rpc.name} is"
                f" {cluster}: set CROUPIER_RPC_URL to that one to find out what became of it, or use another CROUPIER_VAR"
                " (a local ledger that is gone takes its transfers with it: then remove the file)"
            )
        done = "signed" if found.raw is not None else "handed out"
        self.listener.say(f"an earlier run has {done} a {found.what}: asking what became of it")
        raw = found.raw if found.what in wanted else None
        try:
            slot = await self.finish(found.model_copy(update={"raw": raw}))
        except (Expired, TransferRefused) as ended:
            self.listener.say(f"the earlier one: {ended}")
            return None
        return Landed(found.what, found.signature, slot)

    async def draft(self, instructions: Sequence[Instruction], payer: Pubkey) -> Draft:
        """What is to be signed, tried out."""
        return await draft(self.rpc, instructions, payer, micro_lamports_per_unit=self.micro_lamports_per_unit)

    async def keep(self, what: str, made: Draft, signature: str, raw: str | None) -> SignedTransfer:
        """The signed draft, once it is durable. `raw`: None where another sends it."""
        signed = SignedTransfer(
            what=what,
            cluster=await self.rpc.genesis_hash(),
            signature=signature,
            raw=raw,
            last_valid_block_height=made.last_valid_block_height,
            signed_after_slot=made.signed_after_slot,
        )
        self.place.keep(signed)
        return signed

    async def send(self, what: str, instructions: Sequence[Instruction], signers: Sequence[Keypair]) -> None:
        """Signs, keeps, sends and waits; the first of `signers` pays. Raises `Expired`, `TransferRefused`."""
        made = await self.draft(instructions, signers[0].pubkey())
        signed = await self.keep(what, made, *sign_message(made.message, signers))
        self.listener.say(
            f"signed {signed.signature}; if this command is stopped now, run it again to learn what became of it"
        )
        await self.finish(signed)

    async def finish(self, signed: SignedTransfer) -> int:
        """Waits for what became of it, and forgets it when that is known; the slot in which it has landed.

        Raises `Expired`, `TransferRefused`, or `OutboxUnusable` if it has landed and its slot cannot be kept: so is its record.
        """
        flight = Flight(signed.signature, signed.raw, signed.last_valid_block_height, signed.signed_after_slot)
        try:
            slot = await land(self.rpc, flight, self.commitment, self.listener)
        except HistoryForgotten as error:
            raise HistoryForgotten(f"{error}; if it is known, remove {self.place.file}") from None
        except LedgerUnavailable as error:
            raise LedgerUnavailable(
                f"{error}. The {signed.what} is signed and may have landed or still land: run it again to learn which (kept"
                f" in {self.place.file})"
            ) from None
        except (Expired, TransferRefused):
            self._forget()
            raise
        if self.high_water is not None:
            self.high_water.raise_to(slot)
        self._forget("done; ")
        return slot

    def _forget(self, prefix: str = "") -> None:
        try:
            self.place.forget()
        except OutboxUnusable as kept:
            # The transfer has ended as it has: this must not make it look otherwise.
            self.listener.say(f"{prefix}{kept}")


async def land(rpc: RpcClient, flight: Flight, commitment: ConfirmedAt, listener: Listener) -> int:
    """Waits until it has landed, and answers in which slot. Raises `TransferRefused`, `Expired`."""
    end = await outcome(rpc, flight, commitment, listener)
    if end.fate is Fate.EXPIRED:
        raise Expired(f"{flight.signature} has expired without landing: no lamport moved; run it again")
    if end.fate is Fate.FAILED:
        raise TransferRefused(f"{flight.signature} has failed in slot {end.slot}: {end.text}; only its fee was paid")
    assert end.slot is not None
    listener.say(f"{commitment} in slot {end.slot}: {flight.signature}")
    return end.slot
