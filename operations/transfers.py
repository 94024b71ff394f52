"""Deposits and withdrawals, each made once: what an earlier run has signed is looked into before anything is signed anew.

It must never send bytes that are not in the outbox, or sign while the fate of earlier ones is open.
"""

from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

import composition
from ledger import instructions, layout
from ledger.cosigning import half_sign, read_withdrawal
from ledger.failures import Fault
from ledger.files import publish
from ledger.keys import load_keypair
from ledger.reading import READ_COMMITMENT, ProgramReader
from ledger.rpc import RpcClient
from ledger.transactions import sign_message
from ledger.transfers import (
    Draft,
    Fate,
    Flight,
    HistoryForgotten,
    Listener,
    PayerUncovered,
    TransferRefused,
    draft,
    outcome,
    trial,
)
from operations.outbox import Count, Place, SignedTransfer, reserved
from settings import VAR, Settings
from settlement.batches import House, Vault
from settlement.bets import PlayerKey, check_player, lane_of
from settlement.errors import CroupierError, LedgerUnavailable

FOLDER: Final = VAR / "transfers"
NAMED_BATCHES: Final = 5
"""So many unsettled batches are named."""
MAX_OFFER_BYTES: Final = 16_384
BLOCKHASH_SECONDS: Final = "60 to 90 seconds"
"""How long 150 blocks take on a cluster."""


class Kind(StrEnum):
    """What a transfer is for; with lane and player it names the record of it."""

    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    BANKROLL = "bankroll"


class NoVault(CroupierError):
    """A player without a vault."""


class WrongKey(CroupierError):
    """A key file that holds somebody else's key."""


class WithdrawalUncovered(CroupierError):
    """More was asked for than there is above the rent minimum, or than the receiver's account can hold."""


class BatchesUnsettled(CroupierError):
    """Batches that are not final may need the money."""


class EarlierRunLanded(CroupierError):
    """What an earlier run had signed has landed: this run has done nothing."""


class Expired(CroupierError):
    """A transfer that can never land any more, and has not."""


class OfferUnusable(CroupierError):
    """The file that was handed out cannot be read, written or used any more."""


class Offer(BaseModel):
    """A withdrawal as handed out to the vault's owner: signed by the authority, worth nothing without the owner's signature."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    player: PlayerKey
    lane: Count
    transaction: str
    last_valid_block_height: Count
    signed_after_slot: Count


@dataclass(frozen=True)
class Chain:
    """What moving money needs of the ledger."""

    settings: Settings
    rpc: RpcClient
    reader: ProgramReader
    program: Pubkey
    authority: Pubkey

    async def vault(self, lane: int, player: str) -> Vault:
        """Raises `NoVault`."""
        found = (await self.reader.vaults(lane, [player])).get(player)
        if found is None:
            raise NoVault(
                f"player {player} has no vault on lane {lane} of program {self.program}: run"
                f" `python starter.py open-vault {player}`"
            )
        return found

    async def draft(self, instruction: Instruction, payer: Pubkey) -> Draft:
        price = self.settings.priority_fee_micro_lamports
        return await draft(self.rpc, instruction, payer, micro_lamports_per_unit=price)

    async def land(self, flight: Flight, listener: Listener) -> None:
        """Waits until it has landed, at the configured commitment. Raises `TransferRefused` or `Expired`."""
        end = await outcome(self.rpc, flight, self.settings.commitment.value, listener)
        if end.fate is Fate.EXPIRED:
            raise Expired(f"{flight.signature} has expired without landing: no lamport moved; run it again")
        if end.fate is Fate.FAILED:
            raise TransferRefused(
                f"{flight.signature} has failed in slot {end.slot}: {end.text}; only its fee was paid"
            )
        listener.say(f"{self.settings.commitment.value} in slot {end.slot}: {flight.signature}")


@dataclass(frozen=True)
class Withdrawal:
    """One that has been checked and is to be signed. `what` says so to people."""

    chain: Chain
    place: Place
    what: str
    lane: int
    instruction: Instruction
    authority: Keypair


@asynccontextmanager
async def _chain(settings: Settings) -> AsyncGenerator[Chain]:
    async with RpcClient(str(settings.rpc_url)) as rpc, composition.open_reader(settings) as reader:
        config = await reader.check()
        yield Chain(settings, rpc, reader, composition.program_id(settings), config.authority)


async def deposit(settings: Settings, player: str, lamports: int, payer_file: Path | None, listener: Listener) -> None:
    """Moves lamports from the payer (default: the authority) into the player's vault."""
    check_player(player)
    payer = load_keypair(payer_file or settings.authority_keypair)
    lane = lane_of(player, settings.lanes)
    async with _chain(settings) as chain:
        vault = layout.vault_address(chain.program, lane, Pubkey.from_string(player))
        what = f"deposit of {lamports:,} lamports for {player}"
        with reserved(FOLDER, f"{lane}-{player}-{Kind.DEPOSIT}") as place:
            await _settle_earlier(chain, place, lamports, listener)
            await chain.vault(lane, player)
            await _check_payer(chain, payer.pubkey(), lamports)
            params = TransferParams(from_pubkey=payer.pubkey(), to_pubkey=vault, lamports=lamports)
            listener.say(f"{what}: from {payer.pubkey()}, who pays the fee too, into vault {vault} (lane {lane})")
            await _send_once(chain, place, what, lamports, transfer(params), [payer], listener)
        await _tell_balance("vault", chain.vault(lane, player), listener)


async def withdraw(
    settings: Settings, player: str, lamports: int, owner_file: Path, listener: Listener, *, despite_unsettled: bool
) -> None:
    """Moves lamports from a vault to its owner, with both keys on this machine."""
    owner = _owner(owner_file, player)
    async with _withdrawing(settings, player, lamports, listener, despite_unsettled=despite_unsettled) as checked:
        # An authority that owns a vault signs once.
        signers = list({key.pubkey(): key for key in (checked.authority, owner)}.values())
        chain, instruction = checked.chain, checked.instruction
        await _send_once(chain, checked.place, checked.what, lamports, instruction, signers, listener)
        await _tell_balance("vault", chain.vault(checked.lane, player), listener)


async def hand_out(
    settings: Settings, player: str, lamports: int, file: Path, listener: Listener, *, despite_unsettled: bool
) -> None:
    """Signs a withdrawal with the authority's key alone, into a file for the owner to co-sign and send; waits for that."""
    async with _withdrawing(settings, player, lamports, listener, despite_unsettled=despite_unsettled) as checked:
        chain, place, authority = checked.chain, checked.place, checked.authority
        cluster = await chain.rpc.genesis_hash()
        made = await chain.draft(checked.instruction, authority.pubkey())
        signature, raw = half_sign(made.message, authority)
        # Kept first: as long as this one may land, no other is signed for this player.
        signed = _record(cluster, checked.what, lamports, made, signature, None)
        place.keep(signed)
        offer = Offer(
            player=player,
            lane=checked.lane,
            transaction=raw,
            last_valid_block_height=made.last_valid_block_height,
            signed_after_slot=made.signed_after_slot,
        )
        try:
            publish(file, offer.model_dump_json(indent=1).encode())
        except OSError as error:
            place.forget()
            raise OfferUnusable(f"{file} cannot be written: {error.strerror}; nothing was handed out") from None
        listener.say(f"{file}: signed by the authority, to be co-signed by {player}: {signature}")
        listener.say(
            f"it can land until block {made.last_valid_block_height:,}, some {BLOCKHASH_SECONDS} from now; the owner runs"
            f" `python starter.py co-sign {file.name} --keypair KEYFILE` by then. Waiting for that"
        )
        await _finish(chain, place, signed, listener)


async def co_sign(settings: Settings, file: Path, owner_file: Path, listener: Listener) -> None:
    """Checks what an operator has handed out, signs it with the owner's key, sends it and waits."""
    offer = _read_offer(file)
    owner = _owner(owner_file, offer.player)
    async with _chain(settings) as chain:
        withdrawal = read_withdrawal(
            offer.transaction,
            program=chain.program,
            authority=chain.authority,
            lane=offer.lane,
            owner=owner.pubkey(),
        )
        vault = layout.vault_address(chain.program, offer.lane, owner.pubkey())
        listener.say(
            f"withdrawal of {withdrawal.lamports:,} lamports from vault {vault} (lane {offer.lane}) to {owner.pubkey()};"
            f" program {chain.program}; authority {chain.authority} pays the fee"
        )
        raw = withdrawal.co_signed(owner)
        failure = await trial(chain.rpc, withdrawal.message)
        # Whether it was sent before, or has expired, only the statuses tell.
        if failure is not None and failure.fault not in (Fault.BLOCKHASH, Fault.PROCESSED):
            raise TransferRefused(f"{chain.rpc.name} refuses the withdrawal: {failure.text}; nothing was sent")
        # Whatever the file says, no blockhash of the past outlives the newest one.
        newest = await chain.rpc.latest_blockhash("processed")
        last_valid = min(offer.last_valid_block_height, newest.last_valid_block_height)
        flight = Flight(withdrawal.signature, raw, last_valid, offer.signed_after_slot)
        try:
            await chain.land(flight, listener)
        except Expired:
            raise OfferUnusable(
                f"{file} has expired without landing, no lamport moved: ask the operator for another (one lives for some"
                f" {BLOCKHASH_SECONDS})"
            ) from None


async def withdraw_bankroll(
    settings: Settings, lane: int, lamports: int, listener: Listener, *, despite_unsettled: bool
) -> None:
    """Moves lamports from a lane's house to the authority."""
    async with _chain(settings) as chain:
        authority = _authority(chain)
        what = f"withdrawal of {lamports:,} lamports from the house of lane {lane}"
        with reserved(FOLDER, f"{lane}-house-{Kind.BANKROLL}") as place:
            await _settle_earlier(chain, place, lamports, listener)
            house = await chain.reader.house(lane)
            if house.available < lamports:
                raise WithdrawalUncovered(
                    f"the house of lane {lane} has {house.available:,} lamports above rent, not {lamports:,}: withdraw less"
                )
            await _check_unsettled(settings, lane, None, despite_unsettled=despite_unsettled)
            listener.say(f"{what} to {authority.pubkey()}, which leaves it {house.available - lamports:,}")
            instruction = instructions.withdraw_bankroll(chain.program, authority.pubkey(), lane, lamports)
            await _send_once(chain, place, what, lamports, instruction, [authority], listener)
        await _tell_balance("house", chain.reader.house(lane), listener)


@asynccontextmanager
async def _withdrawing(
    settings: Settings, player: str, lamports: int, listener: Listener, *, despite_unsettled: bool
) -> AsyncGenerator[Withdrawal]:
    """The operator's side of a withdrawal: everything is checked, nothing signed."""
    check_player(player)
    lane, owner = lane_of(player, settings.lanes), Pubkey.from_string(player)
    what = f"withdrawal of {lamports:,} lamports by {player}"
    async with _chain(settings) as chain:
        authority = _authority(chain)
        with reserved(FOLDER, f"{lane}-{player}-{Kind.WITHDRAWAL}") as place:
            await _settle_earlier(chain, place, lamports, listener)
            vault = await chain.vault(lane, player)
            if vault.available < lamports:
                raise WithdrawalUncovered(
                    f"the vault of {player} has {vault.available:,} lamports above rent, not {lamports:,}: withdraw less"
                )
            await _check_receiver(chain, owner, lamports)
            await _check_unsettled(settings, lane, player, despite_unsettled=despite_unsettled)
            listener.say(
                f"{what} from lane {lane}, which leaves {vault.available - lamports:,}; the authority pays the fee"
            )
            instruction = instructions.withdraw(chain.program, authority.pubkey(), lane, owner, lamports)
            yield Withdrawal(chain, place, what, lane, instruction, authority)


async def _settle_earlier(chain: Chain, place: Place, lamports: int, listener: Listener) -> None:
    """Finds out what became of what an earlier run has signed. Raises `EarlierRunLanded`, so that it is not paid twice."""
    found = place.read()
    if found is None:
        return
    cluster = await chain.rpc.genesis_hash()
    if found.cluster != cluster:
        raise TransferRefused(
            f"{place.file} is of a transfer on the cluster with genesis hash {found.cluster}; {chain.rpc.name} is"
            f" {cluster}: set CROUPIER_RPC_URL to that one to find out what became of it, or use another CROUPIER_VAR"
        )
    sent = found.raw is not None
    listener.say(f"an earlier run has {'signed' if sent else 'handed out'} a {found.what}: asking what became of it")
    # Nobody asks for another amount any more; it may land all the same.
    raw = found.raw if found.lamports == lamports else None
    try:
        await _finish(chain, place, found.model_copy(update={"raw": raw}), listener)
    except (Expired, TransferRefused) as ended:
        listener.say(f"the earlier one: {ended}")
        return
    raise EarlierRunLanded(
        f"the {found.what} was made by an earlier run ({found.signature}); this one has done nothing: run it again to"
        " make another"
    )


async def _send_once(
    chain: Chain,
    place: Place,
    what: str,
    lamports: int,
    instruction: Instruction,
    signers: Sequence[Keypair],
    listener: Listener,
) -> None:
    made = await chain.draft(instruction, signers[0].pubkey())
    cluster = await chain.rpc.genesis_hash()
    signature, raw = sign_message(made.message, signers)
    signed = _record(cluster, what, lamports, made, signature, raw)
    place.keep(signed)
    listener.say(f"signed {signature}; if this command is stopped now, run it again to learn what became of it")
    await _finish(chain, place, signed, listener)


async def _finish(chain: Chain, place: Place, signed: SignedTransfer, listener: Listener) -> None:
    """Waits for what became of it, and forgets it when that is known. Raises `Expired`, `TransferRefused`."""
    flight = Flight(signed.signature, signed.raw, signed.last_valid_block_height, signed.signed_after_slot)
    try:
        await chain.land(flight, listener)
    except HistoryForgotten as error:
        raise HistoryForgotten(f"{error}; if it is known, remove {place.file}") from None
    except LedgerUnavailable as error:
        raise LedgerUnavailable(
            f"{error}. The {signed.what} is signed and may have landed or still land: run it again to learn which (kept"
            f" in {place.file})"
        ) from None
    except (Expired, TransferRefused):
        place.forget()
        raise
    place.forget()


def _record(cluster: str, what: str, lamports: int, made: Draft, signature: str, raw: str | None) -> SignedTransfer:
    return SignedTransfer(
        what=what,
        lamports=lamports,
        cluster=cluster,
        signature=signature,
        raw=raw,
        last_valid_block_height=made.last_valid_block_height,
        signed_after_slot=made.signed_after_slot,
    )


async def _tell_balance(holder: str, reading: Awaitable[Vault | House], listener: Listener) -> None:
    """After the transfer: a node that fails now must not make it look as if that had failed."""
    try:
        listener.say(f"the {holder} holds {(await reading).available:,} lamports above rent")
    except CroupierError as error:
        listener.say(f"what the {holder} holds now cannot be read: {error}")


async def _check_payer(chain: Chain, payer: Pubkey, lamports: int) -> None:
    account = (await chain.rpc.account(payer, READ_COMMITMENT)).value
    held = account.lamports if account else 0
    if held <= lamports:
        raise PayerUncovered(
            f"{payer} holds {held:,} lamports, which do not cover {lamports:,} and the fee: send it SOL, or let another key"
            " pay (--from)"
        )


async def _check_receiver(chain: Chain, owner: Pubkey, lamports: int) -> None:
    """The runtime lets no account hold less than its rent minimum."""
    account = (await chain.rpc.account(owner, READ_COMMITMENT)).value
    held, minimum = account.lamports if account else 0, await chain.rpc.rent_minimum(0)
    if held + lamports < minimum:
        raise WithdrawalUncovered(
            f"{owner} holds {held:,} lamports and would hold less than the {minimum:,} that an account must: withdraw at"
            f" least {minimum - held:,}"
        )


async def _check_unsettled(settings: Settings, lane: int, player: str | None, *, despite_unsettled: bool) -> None:
    """Raises `BatchesUnsettled` while bets (of one player, if named) are claimed in batches of the lane that are not final."""
    if despite_unsettled:
        return
    async with composition.open_journal(settings) as journal:
        batches = await journal.unsettled_batches(lane, player, NAMED_BATCHES + 1)
    if batches:
        named = ", ".join(batch.batch_id for batch in batches[:NAMED_BATCHES])
        more = " and others" if len(batches) > NAMED_BATCHES else ""
        whose = f"bets of {player}" if player else "bets"
        raise BatchesUnsettled(
            f"{whose} are in batches that are not final and may need the money: {named}{more}. Wait until"
            f" `python starter.py status` shows them Confirmed, or say --despite-unsettled"
        )


def _authority(chain: Chain) -> Keypair:
    authority = load_keypair(chain.settings.authority_keypair)
    if authority.pubkey() != chain.authority:
        raise WrongKey(
            f"program {chain.program} obeys authority {chain.authority}, not {authority.pubkey()}: set"
            " CROUPIER_AUTHORITY_KEYPAIR to the file of that key"
        )
    return authority


def _owner(file: Path, player: str) -> Keypair:
    check_player(player)
    owner = load_keypair(file)
    if str(owner.pubkey()) != player:
        raise WrongKey(f"key file {file} is of {owner.pubkey()}, not of {player}: name the file of the vault's owner")
    return owner


def _read_offer(file: Path) -> Offer:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_OFFER_BYTES + 1)
    except OSError as error:
        raise OfferUnusable(f"{file} cannot be read: {error.strerror}") from None
    try:
        return Offer.model_validate_json(content)
    except ValidationError:
        raise OfferUnusable(f"{file} is not what `withdraw --out` writes: ask the operator for another") from None
