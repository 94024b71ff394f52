"""The prover adapter: true statements give proofs that anybody can verify, false ones a clear refusal, and nothing ends the worker."""

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import groth16py
import pytest

from prover import groth16 as adapter
from prover.groth16 import Groth16Prover
from prover.keys import LoadedKeys, load_verifying_key
from settlement import commitment
from settlement.batches import Statement
from settlement.circuits import CircuitKey
from settlement.commitment import Slot
from settlement.errors import KeyRefused, ProofRejected, ProvingKeyMissing
from settlement.shapes import DEFAULT_SHAPES, SHAPES, Shape
from tests.prover.copying import put_copy

MEETING_TIMEOUT_SECONDS = 20.0
StatementOf = Callable[..., Statement]


def with_public_input_anew(statement: Statement) -> Statement:
    """The statement with root and public input computed from its parts: consistent, true or not."""
    root = commitment.bets_root(statement.entries, statement.ids_digest, statement.shape)
    return statement.model_copy(
        update={
            "bets_root": root,
            "public_input": commitment.public_input(
                commitment.identity(statement.lane, statement.number, len(statement.entries)),
                root,
                [Slot(vault_index=slot.vault_index, net=slot.net) for slot in statement.slots],
                statement.shape,
            ),
        }
    )


def with_slot(statement: Statement, position: int, **changes: int) -> Statement:
    slots = list(statement.slots)
    slots[position] = slots[position].model_copy(update=changes)
    return statement.model_copy(update={"slots": tuple(slots)})


def with_entry(statement: Statement, position: int, **changes: int) -> Statement:
    entries = list(statement.entries)
    entries[position] = entries[position].model_copy(update=changes)
    return statement.model_copy(update={"entries": tuple(entries)})


@pytest.mark.parametrize("shape", DEFAULT_SHAPES, ids=lambda shape: shape.name)
async def test_a_proof_verifies_under_the_key_that_the_chain_is_told(
    prover: Groth16Prover, keys_dir: Path, statement_of: StatementOf, shape: Shape
) -> None:
    statement = statement_of(shape.bets, shape.players)
    proof = await prover.prove(statement)
    key = groth16py.VerifyingKey.from_snarkjs(load_verifying_key(keys_dir, statement.shape).text)
    assert groth16py.Verifier(key).verify(bytes.fromhex(proof.proof), [statement.public_input])
    assert proof.circuit_id == statement.shape.circuit_id
    assert proof.public_input == statement.public_input
    assert proof.milliseconds > 0


FALSE_STATEMENTS: dict[str, tuple[Callable[[Statement], Statement], str]] = {
    "a net one higher": (
        lambda s: with_public_input_anew(with_slot(s, 0, net=s.slots[0].net + 1)),
        "net of slot 0",
    ),
    "an amount moved between players": (
        lambda s: with_public_input_anew(with_slot(with_slot(s, 0, net=s.slots[0].net - 7), 3, net=s.slots[3].net + 7)),
        "net of slot 0",
    ),
    "another stake": (
        lambda s: with_public_input_anew(with_entry(s, 2, stake=s.entries[2].stake + 1)),
        "its bets sum to",
    ),
    "the outcome swapped": (
        lambda s: with_public_input_anew(with_entry(s, 2, outcome=1 - s.entries[2].outcome)),
        "its bets sum to",
    ),
    "another ids digest": (lambda s: s.model_copy(update={"ids_digest": s.ids_digest + 1}), "bets root"),
    "another bets root": (lambda s: s.model_copy(update={"bets_root": s.bets_root + 1}), "bets root"),
    "another vault": (lambda s: with_slot(s, 1, vault_index=s.slots[1].vault_index - 1), "public input"),
    "another number": (lambda s: s.model_copy(update={"number": s.number ^ 1}), "public input"),
    "another lane": (lambda s: s.model_copy(update={"lane": s.lane ^ 1}), "public input"),
    "another public input": (lambda s: s.model_copy(update={"public_input": s.public_input ^ 1}), "public input"),
    "a stake beyond 63 bits": (lambda s: with_entry(s, 0, stake=2**63), "stake of bet 0"),
    "a guess of 2": (lambda s: with_entry(s, 0, guess=2), "must be 0 or 1"),
    "a slot that nobody has": (lambda s: with_entry(s, 0, slot=len(s.slots)), "is in slot"),
    "a vault index of 0": (lambda s: with_slot(s, 0, vault_index=0), "vault index of slot 0"),
    "a vault index beyond 32 bits": (lambda s: with_slot(s, 0, vault_index=2**32), "vault index of slot 0"),
    "no bets": (lambda s: s.model_copy(update={"entries": ()}), "0 bets"),
    "more bets than the shape holds": (lambda s: s.model_copy(update={"entries": s.entries * 2}), "24 bets"),
    "more players than the shape holds": (lambda s: s.model_copy(update={"slots": s.slots * 2}), "12 players"),
    "a number beyond 64 bits": (lambda s: s.model_copy(update={"number": 2**64}), "numbers from 0"),
}


@pytest.mark.parametrize("name", FALSE_STATEMENTS)
async def test_a_false_statement_is_refused_with_what_is_false(
    prover: Groth16Prover, statement_of: StatementOf, name: str
) -> None:
    falsify, message = FALSE_STATEMENTS[name]
    with pytest.raises(ProofRejected, match=message):
        await prover.prove(falsify(statement_of(12, 6)))


def _accept(_statement: Statement) -> None:
    return None


@pytest.mark.parametrize("name", ["a net one higher", "the outcome swapped", "another vault", "a stake beyond 63 bits"])
async def test_no_unverified_proof_leaves_even_if_the_check_in_words_were_blind(
    prover: Groth16Prover, statement_of: StatementOf, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(adapter, "check_statement", _accept)
    with pytest.raises(ProofRejected, match="does not verify"):
        await prover.prove(FALSE_STATEMENTS[name][0](statement_of(12, 6)))


async def test_input_that_the_circuit_cannot_take_is_a_refusal(
    prover: Groth16Prover, statement_of: StatementOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "check_statement", _accept)
    with pytest.raises(ProofRejected, match="circuit refuses"):
        await prover.prove(FALSE_STATEMENTS["more bets than the shape holds"][0](statement_of(12, 6)))


class PanicException(BaseException):
    """What PyO3 makes of a Rust panic: no `Exception`."""


async def test_a_rust_panic_is_a_refusal_and_the_prover_lives_on(
    prover: Groth16Prover, statement_of: StatementOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def panic(_proving_key: groth16py.ProvingKey, _witness: str) -> bytes:
        raise PanicException("index out of bounds")

    statement = statement_of(3, 2)
    with monkeypatch.context() as patch:
        patch.setattr(groth16py, "prove_wtns", panic)
        with pytest.raises(ProofRejected, match="index out of bounds"):
            await prover.prove(statement)
    assert (await prover.prove(statement)).public_input == statement.public_input


async def test_proofs_run_beside_the_event_loop_as_many_at_once_as_allowed_and_no_more(
    keys_dir: Path, statement_of: StatementOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_prove = groth16py.prove_wtns
    pair = threading.Barrier(2, timeout=MEETING_TIMEOUT_SECONDS)
    lock, running, most = threading.Lock(), 0, 0
    threads: set[int] = set()

    def observed(proving_key: groth16py.ProvingKey, witness: str) -> bytes:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            threads.add(threading.get_ident())
        pair.wait()
        proof = real_prove(proving_key, witness)
        with lock:
            running -= 1
        return proof

    monkeypatch.setattr(groth16py, "prove_wtns", observed)
    prover = Groth16Prover(keys_dir, SHAPES[:1], threads=2)
    try:
        await asyncio.gather(*(prover.prove(statement_of(2, 2, seed)) for seed in range(4)))
    finally:
        prover.close()
    assert most == 2
    assert threading.get_ident() not in threads


async def test_keys_are_loaded_once_however_many_proofs_want_them_first(
    keys_dir: Path, statement_of: StatementOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Shape] = []
    real_load = adapter.load_keys

    def observed(directory: Path, shape: Shape) -> LoadedKeys:
        loaded.append(shape)
        return real_load(directory, shape)

    monkeypatch.setattr(adapter, "load_keys", observed)
    prover = Groth16Prover(keys_dir, SHAPES, threads=2)
    try:
        await asyncio.gather(*(prover.prove(statement_of(2, 2, seed)) for seed in range(2)))
    finally:
        prover.close()
    assert loaded == [SHAPES[0]]


def missing(shape: Shape) -> str:
    return rf"no usable key for shape {shape.name}.*starter.py circuit make {shape.name}"


async def test_a_shape_without_a_key_is_named(statement_of: StatementOf, tmp_path: Path) -> None:
    keyless = Groth16Prover(tmp_path)
    try:
        with pytest.raises(ProvingKeyMissing, match=missing(SHAPES[0])):
            await keyless.load()
        for shape in SHAPES[:2]:
            with pytest.raises(ProvingKeyMissing, match=missing(shape)):
                await keyless.prove(statement_of(shape.bets, 2))
    finally:
        keyless.close()


async def test_the_key_of_a_shape_that_is_no_longer_in_use_is_looked_for_when_a_batch_needs_it(
    keys_dir: Path, statement_of: StatementOf
) -> None:
    other = Groth16Prover(keys_dir, SHAPES[1:2])
    try:
        assert (await other.prove(statement_of(2, 2))).circuit_id == SHAPES[0].circuit_id
        assert [key.shape for key in other.keys] == [SHAPES[0]]
    finally:
        other.close()


async def test_a_verifying_key_that_the_library_does_not_take_is_named(keys_dir: Path, tmp_path: Path) -> None:
    key = json.loads(load_verifying_key(keys_dir, SHAPES[0]).text)
    key["curve"] = "bls12381"
    put_copy(tmp_path, SHAPES[0], of=keys_dir, verifying_key=json.dumps(key))
    prover = Groth16Prover(tmp_path, SHAPES[:1])
    try:
        with pytest.raises(ProvingKeyMissing, match=rf"verifying key of shape {SHAPES[0].name} in .* cannot be used"):
            await prover.load()
    finally:
        prover.close()


async def test_a_key_that_may_not_be_used_is_refused_whenever_it_is_loaded(
    keys_dir: Path, statement_of: StatementOf
) -> None:
    async def require(keys: Sequence[CircuitKey]) -> None:
        if keys:
            assert tuple(key.shape for key in keys) == SHAPES[:1]
            raise KeyRefused("not this one")

    early, late = Groth16Prover(keys_dir, SHAPES[:1]), Groth16Prover(keys_dir, SHAPES[1:2])
    try:
        await early.load()
        with pytest.raises(KeyRefused, match="not this one"):
            await early.require(require)
        await late.require(require)
        for _ in range(2):
            with pytest.raises(KeyRefused, match="not this one"):
                await late.prove(statement_of(2, 2))
    finally:
        early.close()
        late.close()


async def test_a_key_that_was_refused_is_looked_at_again_when_the_next_batch_needs_it(
    keys_dir: Path, statement_of: StatementOf
) -> None:
    registered: list[CircuitKey] = []

    async def require(keys: Sequence[CircuitKey]) -> None:
        if not set(keys) <= set(registered):
            raise KeyRefused("not registered")

    prover = Groth16Prover(keys_dir, [])
    try:
        await prover.require(require)
        with pytest.raises(KeyRefused, match="not registered"):
            await prover.prove(statement_of(2, 2))
        registered.append(load_verifying_key(keys_dir, SHAPES[0]))
        assert (await prover.prove(statement_of(2, 2))).circuit_id == SHAPES[0].circuit_id
        registered.clear()
        await prover.prove(statement_of(2, 2))
    finally:
        prover.close()
