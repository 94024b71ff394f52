"""Circuit keys for an operator: which there are and what the chain has, made for development, imported, exported, registered."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict
from solders.pubkey import Pubkey

import composition
from ledger.clusters import is_local_ledger
from ledger.keys import load_keypair
from ledger.nodes import Nodes
from ledger.provisioning import LaneProgress, Provisioner
from ledger.reading import ProgramReader
from ledger.rpc import RpcClient
from prover.keys import VerifyingKey, check_keys, load_verifying_key, origin_in
from prover.making import KeyStage, make_development_keys
from settings import InvalidSetting, Settings
from settlement.circuits import (
    CircuitKey,
    KeyOrigin,
    RegisteredCircuit,
    RegisteredCircuits,
    forgeable_refused,
    require_unforgeable,
)
from settlement.errors import CroupierError, ProvingKeyMissing
from settlement.shapes import SHAPES, Shape

OnChain = Literal["unknown", "not registered", "registered", "this key", "another key"]


class CircuitView(BaseModel):
    """One shape. `key`: what is here, None with `key_problem` if that is no whole key; `registered`: the key on chain, if any."""

    model_config = ConfigDict(frozen=True)

    shape: Shape
    in_use: bool
    key: CircuitKey | None
    key_problem: str | None
    on_chain: OnChain
    registered: str | None


class CircuitsView(BaseModel):
    """All shapes. `place`: whose circuits were read; `ledger_problem`: why none were.

    `foreign`: what is registered and none of this release's; `foreign_problem`: why that could not be found out.
    """

    model_config = ConfigDict(frozen=True)

    circuits: tuple[CircuitView, ...]
    place: str | None
    ledger_problem: str | None
    foreign: tuple[RegisteredCircuit, ...]
    foreign_problem: str | None


async def look_at_circuits(settings: Settings) -> CircuitsView:
    """Every shape as it stands here and on chain. Needs no key but those that it shows, and no ledger."""
    registered, problem = None, None
    foreign, foreign_problem = list[RegisteredCircuit](), None
    try:
        async with composition.open_reader(settings) as reader:
            registered = await reader.circuits()
            foreign, foreign_problem = await foreign_circuits(reader, registered)
    except (InvalidSetting, CroupierError) as error:
        problem = str(error)

    def view(shape: Shape) -> CircuitView:
        key, key_problem = None, None
        try:
            if origin_in(settings.circuit_keys, shape) is None:
                key_problem = "none"
            else:
                key = check_keys(settings.circuit_keys, shape)
        except ProvingKeyMissing as error:
            key_problem = str(error)
        found = registered.of(shape) if registered is not None else None
        on_chain: OnChain
        if registered is None:
            on_chain = "unknown"
        elif found is None:
            on_chain = "not registered"
        elif key is None:
            on_chain = "registered"
        else:
            on_chain = "this key" if found.holds(key) else "another key"
        return CircuitView(
            shape=shape,
            in_use=shape in settings.shapes,
            key=key,
            key_problem=key_problem,
            on_chain=on_chain,
            registered=found.sha256 if found is not None else None,
        )

    return CircuitsView(
        circuits=tuple(await asyncio.to_thread(lambda: [view(shape) for shape in SHAPES])),
        place=registered.place if registered is not None else None,
        ledger_problem=problem,
        foreign=tuple(foreign),
        foreign_problem=foreign_problem,
    )


async def foreign_circuits(
    reader: ProgramReader, registered: RegisteredCircuits
) -> tuple[list[RegisteredCircuit], str | None]:
    """The circuits that are on chain and none of this release's; or why the node does not tell. `registered`: the others."""
    try:
        found = await reader.every_circuit()
    except CroupierError as error:
        return [], str(error)
    if not set(registered.circuits) <= set(found):
        return [], f"{registered.place}: the node leaves out circuits that are there"
    return [circuit for circuit in found if circuit.is_foreign], None


async def usable_keys(
    settings: Settings, rpc: RpcClient, progress: Callable[[Shape, KeyStage], None]
) -> list[VerifyingKey]:
    """The keys of the shapes in use, made for development where there are none and that is allowed on this ledger.

    Raises `KeyRefused` where it is not, or `ProvingKeyMissing`.
    """
    place, local = rpc.name, await is_local_ledger(rpc)
    keys_dir, accept = settings.circuit_keys, settings.accept_forgeable_development_keys
    without = [shape.name for shape in settings.shapes if origin_in(keys_dir, shape) is not KeyOrigin.CEREMONY]
    if without and not local and not accept:
        # Before any is made: a key that may not be used would only be in the way.
        raise forgeable_refused(without, place)
    await asyncio.to_thread(make_development_keys, keys_dir, settings.shapes, progress)
    keys = [load_verifying_key(keys_dir, shape) for shape in settings.shapes]
    require_unforgeable(keys, place=place, local=local, accept_forgeable=accept)
    return keys


async def register_circuits(
    settings: Settings, shapes: Sequence[Shape], progress: Callable[[Shape], None]
) -> list[tuple[VerifyingKey, bool]]:
    """Registers the keys of `shapes` with the program; answers which they are, and whether they had to be. Safe to repeat.

    Raises `KeyRefused` for a development key where it must not be used, `LedgerMisconfigured` with both digests where the chain
    has another key or as `register_keys`, `ProvingKeyMissing`.
    """
    # Read once: what is checked is what is sent, whatever becomes of the files.
    keys = [await asyncio.to_thread(check_keys, settings.circuit_keys, shape) for shape in shapes]
    async with composition.open_ledger(settings), Nodes.at(settings.rpc_urls) as rpc:
        require_unforgeable(
            keys,
            place=rpc.name,
            local=await is_local_ledger(rpc),
            accept_forgeable=settings.accept_forgeable_development_keys,
        )
        chain = Provisioner(
            rpc,
            load_keypair(settings.authority_keypair),
            priority_fee_micro_lamports=settings.priority_fee_micro_lamports,
        )
        program = composition.program_id(settings)
        return await register_keys(chain, program, settings.lanes, keys, _unheard, progress)


async def register_keys(
    chain: Provisioner,
    program: Pubkey,
    lanes: int,
    keys: Sequence[VerifyingKey],
    filling: LaneProgress,
    registering: Callable[[Shape], None],
) -> list[tuple[VerifyingKey, bool]]:
    """Registers `keys` where all vaults of all lanes stand in the lookup tables that batches in their shapes need.

    Answers which they are, and whether they had to be registered. Raises `LedgerMisconfigured`, before any is registered, if there is no
    room: batches would be cut that fit into no transaction.
    """
    shapes = [key.shape for key in keys]
    await chain.ensure_room(program, lanes, shapes, filling)
    registered: list[tuple[VerifyingKey, bool]] = []
    for key in keys:
        registering(key.shape)
        registered.append((key, await chain.ensure_circuit(program, key.shape, key.encoded)))
    if any(added for _, added in registered):
        # Vaults may have been opened meanwhile by somebody to whom these were not registered yet.
        await chain.ensure_room(program, lanes, shapes, _unheard)
    return registered


def _unheard(_done: int, _of: int) -> None:
    return


def write_key(content: bytes, file: Path) -> None:
    """Raises `InvalidSetting` if it cannot be written."""
    try:
        file.write_bytes(content)
    except OSError as error:
        raise InvalidSetting(f"{file} cannot be written: {error.strerror}") from None
