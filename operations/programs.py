"""Deploys, upgrades, hands over and freezes the settlement program, and shows how it stands. Behind `starter.py program`.

The code is always this release's. What cannot be taken back is refused while it would make something impossible, and is
asked for once more (`Confirm`) before it is done. Everything looks first, so that it can be interrupted and repeated.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM

import composition
from ledger import layout
from ledger.deployed import deployed_program, require_deployed, require_upgrade_authority
from ledger.deployment import Deployer, Staged, deployment_lamports
from ledger.keys import load_keypair
from ledger.nodes import Nodes
from ledger.reading import PROVISION_REMEDY, ProgramReader
from ledger.rpc import READ_COMMITMENT, RpcClient
from ledger.upgrade_authority import UpgradeAuthority
from operations.circuits import foreign_circuits
from operations.provisioning import PROGRAM_FILE
from settings import InvalidSetting, Settings
from settlement.circuits import RegisteredCircuit
from settlement.errors import CroupierError, LedgerMisconfigured

Progress = Callable[[int, int], None]
"""Called with how many of the code's pieces of how many are on the chain."""

Confirm = Callable[[str, Pubkey], Awaitable[None]]
"""Called with what is about to be done and the program's address. Raises `NotConfirmed` unless a person means it."""


class NotConfirmed(CroupierError):
    """Nobody has confirmed what cannot be taken back. Nothing was done."""


class ProgramReport(BaseModel):
    """How a program stands. Hashes are SHA-256 in hexadecimal, addresses base58."""

    model_config = ConfigDict(frozen=True)

    program_id: str
    deployed: bool
    code_sha256: str | None
    release_sha256: str
    runs_release: bool
    deployed_slot: int | None
    upgrade_authority: str | None
    frozen: bool
    authority: str | None
    """That the config names; None before it is initialised."""
    circuits: tuple[RegisteredCircuit, ...]
    """Of this release's ids."""
    foreign_circuits: tuple[RegisteredCircuit, ...]
    """None of this release's: whoever made such a one's key can settle anything."""
    foreign_circuits_problem: str | None
    """Why the node does not tell which others there are."""
    deployment_lamports: int
    """What a first deployment of this release costs at most, by this node's rent."""


@dataclass(frozen=True)
class _Operator:
    """The keys at hand: `payer` is Croupier's authority, `upgrade_authority` the same unless a file was given."""

    rpc: RpcClient
    payer: Keypair
    upgrade_authority: Keypair
    priority_fee_micro_lamports: int

    def deployer(self) -> Deployer:
        return Deployer(
            self.rpc,
            self.payer,
            priority_fee_micro_lamports=self.priority_fee_micro_lamports,
            upgrade_authority=self.upgrade_authority,
        )

    def acting(self) -> UpgradeAuthority:
        return UpgradeAuthority(
            self.rpc,
            self.payer,
            self.upgrade_authority,
            priority_fee_micro_lamports=self.priority_fee_micro_lamports,
        )


async def release_code() -> bytes:
    """The ELF file that this release ships."""
    return await asyncio.to_thread(PROGRAM_FILE.read_bytes)


async def report(settings: Settings) -> ProgramReport:
    """Reads the chain without any key."""
    program_id, code = composition.program_id(settings), await release_code()
    async with Nodes.at(settings.rpc_urls) as rpc:
        program = await deployed_program(rpc, program_id)
        config = await _config(rpc, program_id)
        reader = ProgramReader(rpc, program_id, commitment=settings.commitment.value)
        registered = await reader.circuits()
        foreign, foreign_problem = await foreign_circuits(reader, registered)
        cost = await deployment_lamports(rpc, code, settings.priority_fee_micro_lamports)
    upgrade_authority = program.upgrade_authority if program else None
    return ProgramReport(
        program_id=str(program_id),
        deployed=program is not None,
        code_sha256=program.code_sha256 if program else None,
        release_sha256=hashlib.sha256(code).hexdigest(),
        runs_release=program is not None and program.runs(code),
        deployed_slot=program.slot if program else None,
        upgrade_authority=str(upgrade_authority) if upgrade_authority else None,
        frozen=program is not None and upgrade_authority is None,
        authority=str(config.authority) if config else None,
        circuits=tuple(circuit for circuit in registered.circuits if not circuit.is_foreign),
        foreign_circuits=tuple(foreign),
        foreign_circuits_problem=foreign_problem,
        deployment_lamports=cost,
    )


async def deploy(settings: Settings, progress: Progress) -> tuple[Pubkey, bool]:
    """The program's address, and whether it had to be deployed. The authority pays and becomes the upgrade authority."""
    program = load_keypair(settings.program_keypair)
    if settings.program_id is not None and composition.program_id(settings) != program.pubkey():
        raise InvalidSetting(
            f"CROUPIER_PROGRAM_ID is {settings.program_id}, but the key in CROUPIER_PROGRAM_KEYPAIR is that of"
            f" {program.pubkey()}: unset the one, or set the other to the file of its key"
        )
    async with _operator(settings, None) as operator:
        return program.pubkey(), await operator.deployer().ensure_program(program, await release_code(), progress)


async def upgrade(settings: Settings, upgrade_authority: Path | None, progress: Progress) -> bool:
    """Whether there was anything to do."""
    program_id = composition.program_id(settings)
    async with _operator(settings, upgrade_authority) as operator:
        return await operator.deployer().ensure_code(program_id, await release_code(), progress)


async def stage(settings: Settings, progress: Progress) -> tuple[Pubkey, Staged]:
    """The buffer for the upgrade authority, and what became of it. Needs no key of the upgrade authority."""
    program_id, code = composition.program_id(settings), await release_code()
    async with _operator(settings, None) as operator:
        deployer = operator.deployer()
        return deployer.buffer_address(code), await deployer.stage(program_id, code, progress)


async def reclaim(settings: Settings, upgrade_authority: Path | None, buffer: Pubkey | None) -> int:
    """Lamports that came back out of a buffer; by default the one that this release's code is written into."""
    code = await release_code()
    async with _operator(settings, upgrade_authority) as operator:
        deployer = operator.deployer()
        return await deployer.reclaim(buffer or deployer.buffer_address(code))


async def hand_over(
    settings: Settings, upgrade_authority: Path | None, new: Pubkey, new_key: Path | None, confirm: Confirm
) -> bool:
    """Gives the program to another upgrade authority; answers whether there was anything to do."""
    program_id = composition.program_id(settings)
    if new in (program_id, layout.programdata_address(program_id), layout.UPGRADEABLE_LOADER, SYSTEM_PROGRAM):
        raise NotConfirmed(
            f"{new} can never sign, so that nobody could upgrade: give the address of a key or a multisig"
        )
    new_signing = load_keypair(new_key) if new_key else None
    if new_signing is not None and new_signing.pubkey() != new:
        raise NotConfirmed(f"key file {new_key} holds the key of {new_signing.pubkey()}, not of {new}")
    async with _operator(settings, upgrade_authority) as operator:
        program = await require_deployed(operator.rpc, program_id)
        if program.upgrade_authority == new:
            await operator.acting().wait_until_final(program_id, new)
            return False
        require_upgrade_authority(program, operator.upgrade_authority.pubkey(), operator.rpc.name)
        await _require_config(operator.rpc, program_id)
        account = (await operator.rpc.account(new, READ_COMMITMENT)).value
        if account is not None and account.owner != SYSTEM_PROGRAM:
            owned = f" {new} is an account of program {account.owner}: make sure that this can sign for it (docs/program.md)."
        else:
            owned = ""
        await confirm(
            f"{new} will be able to replace the program's code, and with it to take all SOL that it holds;"
            f" {operator.upgrade_authority.pubkey()} no longer will, and cannot take this back.{owned}",
            program_id,
        )
        await operator.acting().hand_over(program_id, new, new_signing)
        return True


async def freeze(settings: Settings, upgrade_authority: Path | None, confirm: Confirm) -> bool:
    """Ends all upgrades for ever; answers whether there was anything to do.

    Refused if other code than this release's would be kept, before the config is initialised (only an upgrade authority
    can do that), and unless the key of the authority that the config names is at hand: no later code could replace it.
    """
    program_id, code = composition.program_id(settings), await release_code()
    async with _operator(settings, upgrade_authority) as operator:
        program = await require_deployed(operator.rpc, program_id)
        if program.upgrade_authority is None:
            await operator.acting().wait_until_final(program_id, None)
            return False
        require_upgrade_authority(program, operator.upgrade_authority.pubkey(), operator.rpc.name)
        if not program.runs(code):
            raise LedgerMisconfigured(
                f"program {program_id} on {operator.rpc.name} has code sha256:{program.code_sha256}, not this release's"
                f" sha256:{hashlib.sha256(code).hexdigest()}: run `python starter.py program upgrade` first, or freeze"
                " with the release that it runs"
            )
        config = await _require_config(operator.rpc, program_id)
        if config.authority != operator.payer.pubkey():
            raise LedgerMisconfigured(
                f"program {program_id} on {operator.rpc.name} obeys authority {config.authority}, not"
                f" {operator.payer.pubkey()}, and frozen it always will: set CROUPIER_AUTHORITY_KEYPAIR to the file of that"
                " key"
            )
        await confirm(
            f"Nobody will ever be able to change the code sha256:{program.code_sha256}, to mend an error in it, or to"
            f" replace the authority {config.authority}, without which no vault can be emptied.",
            program_id,
        )
        await operator.acting().freeze(program_id, code)
        return True


@asynccontextmanager
async def _operator(settings: Settings, upgrade_authority: Path | None) -> AsyncGenerator[_Operator]:
    payer = load_keypair(settings.authority_keypair)
    authority = load_keypair(upgrade_authority) if upgrade_authority else payer
    async with Nodes.at(settings.rpc_urls) as rpc:
        yield _Operator(rpc, payer, authority, settings.priority_fee_micro_lamports)


async def _config(rpc: RpcClient, program_id: Pubkey) -> layout.Config | None:
    account = (await rpc.account(layout.config_address(program_id), READ_COMMITMENT)).value
    return layout.Config.decode(account.data) if account and account.owner == program_id else None


async def _require_config(rpc: RpcClient, program_id: Pubkey) -> layout.Config:
    """Only the upgrade authority can initialise a program: one that is not yet must not lose its."""
    config = await _config(rpc, program_id)
    if config is None:
        raise LedgerMisconfigured(
            f"program {program_id} on {rpc.name} is not initialised, which only its present upgrade authority can do:"
            f" {PROVISION_REMEDY} first"
        )
    return config
