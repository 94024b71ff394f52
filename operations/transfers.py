"""Deposits and withdrawals: checked, signed, and made once (see `operations.once`)."""

from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

import composition
from ledger import instructions, layout
from ledger.cosigning import half_sign, read_withdrawal
from ledger.failures import Fault
from ledger.fates import dated_blockhash
from ledger.files import PublishedInDoubt, publish
from ledger.keys import load_keypair
from ledger.nodes import Nodes
from ledger.reading import ProgramReader
from ledger.rpc import RpcClient
from ledger.transfers import Flight, Listener, TransferRefused, trial
from operations import outbox
from operations.cover import check_available, check_payer, check_receiver, check_unsettled, owner_of
from operations.offers import Offer, OfferUnusable, read_offer
from operations.once import Expired, Once, land
from operations.outbox import Place
from settings import Settings
from settlement.batches import House, Vault
from settlement.bets import check_player, lane_of
from settlement.errors import CroupierError

BLOCKHASH_SECONDS: Final = "60 to 90 seconds"
"""How long 150 blocks take on a cluster."""


class Kind(StrEnum):
    """What a transfer is for; with lane and player it names the record of it."""

    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    BANKROLL = "bankroll"


class NoVault(CroupierError):
    """A player without a vault."""


class EarlierRunLanded(CroupierError):
    """What an earlier run had signed has landed: this run has made no second one."""


@dataclass(frozen=True)
class Chain:
    """What moving money needs of the ledger."""

    settings: Settings
    rpc: RpcClient
    reader: ProgramReader
    program: Pubkey
    config: layout.Config

    async def vault(self, lane: int, player: str) -> Vault:
        """Raises `NoVault`."""
        found = (await self.reader.vaults(lane, [player])).get(player)
        if found is None:
            raise NoVault(
                f"player {player} has no vault on lane {lane} of program {self.program}: run"
                f" `python starter.py open-vault {player}`"
            )
        return found

    def vault_address(self, lane: int, player: str) -> Pubkey:
        return layout.vault_address(self.program, lane, Pubkey.from_string(player))

    def own_authority(self) -> Keypair:
        """The key that the program obeys. Raises `LedgerMisconfigured` if this operator has another."""
        authority = load_keypair(self.settings.authority_keypair)
        self.reader.require_authority(self.config, authority.pubkey())
        return authority

    def once(self, place: Place, listener: Listener) -> Once:
        """Sends by way of that place."""
        commitment, price = self.settings.commitment.value, self.settings.priority_fee_micro_lamports
        return Once(self.rpc, place, commitment, price, listener)


@dataclass(frozen=True)
class Withdrawal:
    """One that has been checked and is to be signed. `what` says so to people."""

    chain: Chain
    once: Once
    what: str
    lane: int
    instruction: Instruction
    authority: Keypair


@asynccontextmanager
async def _chain(settings: Settings) -> AsyncGenerator[Chain]:
    async with Nodes.at(settings.rpc_urls) as rpc, composition.open_reader(settings) as reader:
        yield Chain(settings, rpc, reader, composition.program_id(settings), await reader.check())


async def deposit(settings: Settings, player: str, lamports: int, payer_file: Path | None, listener: Listener) -> None:
    """Moves lamports from the payer (default: the authority) into the player's vault."""
    check_player(player)
    payer = load_keypair(payer_file or settings.authority_keypair)
    lane = lane_of(player, settings.lanes)
    async with _chain(settings) as chain:
        vault = chain.vault_address(lane, player)
        what = f"deposit of {lamports:,} lamports for {player} from {payer.pubkey()} into vault {vault}"
        with outbox.reserved(outbox.FOLDER, f"{lane}-{player}-{Kind.DEPOSIT}") as place:
            once = chain.once(place, listener)
            await _settle_earlier(once, what)
            await chain.vault(lane, player)
            await check_payer(chain.rpc, payer.pubkey(), lamports)
            params = TransferParams(from_pubkey=payer.pubkey(), to_pubkey=vault, lamports=lamports)
            listener.say(f"{what} (lane {lane}); {payer.pubkey()} pays the fee too")
            await once.send(what, [transfer(params)], [payer])
        await _tell_balance("vault", chain.vault(lane, player), listener)


async def withdraw(
    settings: Settings, player: str, lamports: int, owner_file: Path, listener: Listener, *, despite_unsettled: bool
) -> None:
    """Moves lamports from a vault to its owner, with both keys on this machine."""
    owner = owner_of(player, owner_file)
    async with _withdrawing(settings, player, lamports, listener, despite_unsettled=despite_unsettled) as checked:
        # An authority that owns a vault signs once.
        signers = list({key.pubkey(): key for key in (checked.authority, owner)}.values())
        await checked.once.send(checked.what, [checked.instruction], signers)
        await _tell_balance("vault", checked.chain.vault(checked.lane, player), listener)


async def hand_out(
    settings: Settings, player: str, lamports: int, file: Path, listener: Listener, *, despite_unsettled: bool
) -> None:
    """Signs a withdrawal with the authority's key alone, into a file for the owner to co-sign and send; waits for that."""
    async with _withdrawing(settings, player, lamports, listener, despite_unsettled=despite_unsettled) as checked:
        once = checked.once
        made = await once.draft([checked.instruction], checked.authority.pubkey())
        signature, raw = half_sign(made.message, checked.authority)
        # Kept first: as long as this one may land, no other is signed for this player.
        signed = await once.keep(checked.what, made, signature, None)
        offer = Offer(
            player=player,
            lane=checked.lane,
            transaction=raw,
            last_valid_block_height=made.last_valid_block_height,
            signed_after_slot=made.signed_after_slot,
        )
        try:
            publish(file, offer.model_dump_json(indent=1).encode())
        except PublishedInDoubt as error:
            # Somebody may have it and co-sign it, so the record stays: it ends with the blockhash.
            raise OfferUnusable(
                f"{file} cannot be written for good: {error.strerror}; it was there for a moment, so wait 90 seconds before"
                " another is handed out"
            ) from None
        except OSError as error:
            once.place.forget()
            raise OfferUnusable(f"{file} cannot be written: {error.strerror}; nothing was handed out") from None
        listener.say(f"{file}: signed by the authority, to be co-signed by {player}: {signature}")
        listener.say(
            f"it can land until block {made.last_valid_block_height:,}, some {BLOCKHASH_SECONDS} from now; the owner runs"
            f" `python starter.py co-sign {file.name} --keypair KEYFILE` by then. Waiting for that"
        )
        await once.finish(signed)


async def co_sign(settings: Settings, file: Path, owner_file: Path, listener: Listener) -> None:
    """Checks what an operator has handed out, signs it with the owner's key, sends it and waits."""
    offer = read_offer(file)
    owner = owner_of(offer.player, owner_file)
    async with _chain(settings) as chain:
        authority = chain.config.authority
        withdrawal = read_withdrawal(
            offer.transaction, program=chain.program, authority=authority, lane=offer.lane, owner=owner.pubkey()
        )
        vault = chain.vault_address(offer.lane, offer.player)
        listener.say(
            f"withdrawal of {withdrawal.lamports:,} lamports from vault {vault} (lane {offer.lane}) to {owner.pubkey()};"
            f" program {chain.program}; authority {authority} pays the fee"
        )
        raw = withdrawal.co_signed(owner)
        failure = await trial(chain.rpc, withdrawal.message)
        # Whether it was sent before, or has expired, only the statuses tell.
        if failure is not None and failure.fault not in (Fault.BLOCKHASH, Fault.PROCESSED):
            raise TransferRefused(f"{chain.rpc.name} refuses the withdrawal: {failure.text}; nothing was sent")
        # Whatever the file says, no blockhash of the past outlives the newest one, and one that the node takes is alive.
        last_valid = (await dated_blockhash(Nodes.of(chain.rpc), "processed")).last_valid_block_height
        if failure is not None and failure.fault is Fault.BLOCKHASH:
            last_valid = min(offer.last_valid_block_height, last_valid)
        flight = Flight(withdrawal.signature, raw, last_valid, offer.signed_after_slot)
        try:
            await land(chain.rpc, flight, settings.commitment.value, listener)
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
        authority = chain.own_authority()
        house_address = layout.house_address(chain.program, lane)
        what = f"withdrawal of {lamports:,} lamports from the house of lane {lane} ({house_address}) to {authority.pubkey()}"
        with outbox.reserved(outbox.FOLDER, f"{lane}-house-{Kind.BANKROLL}") as place:
            once = chain.once(place, listener)
            await _settle_earlier(once, what)
            house = await chain.reader.house(lane)
            check_available(f"house of lane {lane}", house.available, lamports)
            await check_unsettled(settings, lane, None, despite_unsettled=despite_unsettled)
            listener.say(f"{what}, which leaves it {house.available - lamports:,}")
            instruction = instructions.withdraw_bankroll(chain.program, authority.pubkey(), lane, lamports)
            await once.send(what, [instruction], [authority])
        await _tell_balance("house", chain.reader.house(lane), listener)


@asynccontextmanager
async def _withdrawing(
    settings: Settings, player: str, lamports: int, listener: Listener, *, despite_unsettled: bool
) -> AsyncGenerator[Withdrawal]:
    """The operator's side of a withdrawal: everything is checked, nothing signed."""
    check_player(player)
    lane, owner = lane_of(player, settings.lanes), Pubkey.from_string(player)
    async with _chain(settings) as chain:
        authority = chain.own_authority()
        what = f"withdrawal of {lamports:,} lamports by {player} from vault {chain.vault_address(lane, player)}"
        with outbox.reserved(outbox.FOLDER, f"{lane}-{player}-{Kind.WITHDRAWAL}") as place:
            once = chain.once(place, listener)
            await _settle_earlier(once, what)
            vault = await chain.vault(lane, player)
            check_available(f"vault of {player}", vault.available, lamports)
            await check_receiver(chain.rpc, owner, lamports)
            await check_unsettled(settings, lane, player, despite_unsettled=despite_unsettled)
            listener.say(
                f"{what} (lane {lane}), which leaves {vault.available - lamports:,}; authority {authority.pubkey()} pays"
                " the fee"
            )
            instruction = instructions.withdraw(chain.program, authority.pubkey(), lane, owner, lamports)
            yield Withdrawal(chain, once, what, lane, instruction, authority)


async def _settle_earlier(once: Once, what: str) -> None:
    """Raises `EarlierRunLanded` if an earlier run's transfer has landed, so that it is not paid twice."""
    if landed := await once.settle_earlier({what}):
        raise EarlierRunLanded(
            f"the transfer that an earlier run had signed has landed ({landed.signature}); no second one was made. It is a"
            f" {landed.what}; run it again to make another"
        )


async def _tell_balance(holder: str, reading: Awaitable[Vault | House], listener: Listener) -> None:
    """After the transfer: a node that fails now must not make it look as if that had failed."""
    try:
        listener.say(f"the {holder} holds {(await reading).available:,} lamports above rent")
    except CroupierError as error:
        listener.say(f"what the {holder} holds now cannot be read: {error}")
