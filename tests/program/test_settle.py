"""Settling: money moves as the proven batch says, once, or not at all."""

from dataclasses import replace

import pytest
from solders.account import Account
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.litesvm import LiteSVM
from solders.message import Message
from solders.pubkey import Pubkey
from solders.rent import Rent
from solders.solders import FeatureSet
from solders.transaction import Transaction

from ledger import layout
from ledger.program_errors import ProgramError
from ledger.transactions import MAX_COMPUTE_UNITS
from settlement.poseidon import FIELD_MODULUS
from settlement.shapes import SHAPES, Shape
from tests.program.chain import (
    HOUSE_BALANCE,
    LANE,
    LARGE,
    OTHER_LANE,
    SOL,
    VAULT_BALANCE,
    AnyProver,
    Batch,
    Chain,
    deploy,
    open_for_business,
    program_code,
    registration,
    with_data,
)

COMPUTE_UNITS_MAX = 200_000
"""For a full batch."""
TRANSACTION_BYTES_MAX = 1232
MAX_PLAYERS_WITHOUT_TABLES = 16
ROOT_AT, PROOF_AT = 11, 43


def full(shape: Shape) -> Batch:
    """As many bets and players as there is room for."""
    return Batch(shape=shape, bet_count=shape.bets, nets=[(-1) ** i * (1_000 + 37 * i) for i in range(shape.players)])


FULL = full(LARGE)


def money(chain: Chain, batch: Batch) -> list[int]:
    """Lamports of the house and of each vault of the batch."""
    vaults = [chain.vault(i, batch.lane) for i, _ in zip(batch.positions, batch.nets, strict=False)]
    return [chain.lamports(chain.house(batch.lane)), *(chain.lamports(vault) for vault in vaults)]


def assert_settles(chain: Chain, batch: Batch) -> int:
    """Settles and checks that lamports moved exactly as the nets say. Returns the compute units used."""
    before = money(chain, batch)
    units = chain.settle(batch).compute_units_consumed()
    after = money(chain, batch)
    assert [b - a for a, b in zip(before, after, strict=True)] == [-sum(batch.nets), *batch.nets]
    assert sum(before) == sum(after)
    return units


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("nets", [[5_000], [-5_000], [0], [-1_000, 3_000], [7, 0, -9, -(10**8)]])
def test_a_proven_batch_moves_its_nets(chain: Chain, shape: Shape, nets: list[int]) -> None:
    batch = Batch(shape=shape, nets=nets)
    assert_settles(chain, batch)
    record = chain.account(chain.record(batch))
    assert record.owner == chain.program_id
    assert record.lamports == chain.svm.minimum_balance_for_rent_exemption(layout.BATCH_BYTES)
    assert layout.BatchRecord.decode(bytes(record.data)) == layout.BatchRecord(
        lane=LANE,
        number=1,
        circuit_id=shape.circuit_id,
        bet_count=5,
        player_count=len(nets),
        house_delta=-sum(nets),
        slot=chain.svm.get_clock().slot,
        bets_root=0x1234,
    )


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_full_batch_stays_within_the_compute_bound(full_chain: Chain, shape: Shape) -> None:
    """Whatever bump the record's address takes, each of which costs 1500 units."""
    units = max(assert_settles(full_chain, replace(full(shape), number=number)) for number in range(1, 5))
    print(f"full {shape.name} settle: {units} compute units")
    assert units <= COMPUTE_UNITS_MAX <= MAX_COMPUTE_UNITS


def test_as_many_players_as_the_program_has_room_for_are_settled_and_told_apart(future: Chain) -> None:
    """Mainnet's transactions lock 64 accounts so far, so that none names more than 56 vaults; the program can do more."""
    open_for_business(future, vaults=layout.MAX_PLAYERS_PER_CIRCUIT)
    shape = Shape(circuit_id=99, bets=1, players=layout.MAX_PLAYERS_PER_CIRCUIT)
    future.send([registration(future, shape)], future.authority)
    batch = Batch(shape=shape, bet_count=1, nets=[-1_000] * shape.players)
    assert assert_settles(future, batch) <= COMPUTE_UNITS_MAX
    overdrawn = replace(batch, number=2, nets=[-1_000] * (shape.players - 1) + [-VAULT_BALANCE])
    future.refuses(ProgramError.VAULT_UNCOVERED + shape.players - 1, future.settlement(overdrawn))


def test_a_batch_of_sixteen_players_fits_a_legacy_transaction(full_chain: Chain) -> None:
    settlement = full_chain.settlement(replace(FULL, nets=FULL.nets[:MAX_PLAYERS_WITHOUT_TABLES]))
    batch = [set_compute_unit_limit(COMPUTE_UNITS_MAX), set_compute_unit_price(1_000), settlement]
    authority = full_chain.authority
    blockhash = full_chain.svm.latest_blockhash()
    transaction = Transaction([authority], Message(batch, authority.pubkey()), blockhash)
    print(f"{LARGE.name} settle of {MAX_PLAYERS_WITHOUT_TABLES} players: {len(bytes(transaction))} bytes")
    assert len(bytes(transaction)) <= TRANSACTION_BYTES_MAX
    full_chain.send(batch, authority)


@pytest.fixture
def future(prover: AnyProver) -> Chain:
    """A chain with every feature that mainnet has yet to activate."""
    svm = LiteSVM.default().with_feature_set(FeatureSet.all_enabled()).with_builtins().with_lamports(10**9 * SOL)
    return deploy(program_code(), prover, svm.with_sysvars().with_default_programs().with_sigverify(True))


def test_it_runs_with_every_feature_that_mainnet_has_yet_to_activate(future: Chain) -> None:
    open_for_business(future, vaults=LARGE.players)
    assert_settles(future, FULL)


@pytest.mark.parametrize("players", [1, 2, 3, 4, 7, 22, 32, 48, 64])
def test_circuits_of_any_capacity_hash_as_the_domain_does(chain: Chain, players: int) -> None:
    shape = Shape(circuit_id=100 + players, bets=256, players=players)
    chain.send([registration(chain, shape)], chain.authority)
    nets = [-1_000, 400, 0, 77][: min(players, 4)]
    assert_settles(chain, Batch(shape=shape, nets=nets, number=2**64 - 1, bet_count=256))


def test_batches_land_in_any_order_and_the_highest_is_kept(chain: Chain) -> None:
    for number, highest in [(7, 7), (3, 7), (0, 7), (2**40, 2**40), (8, 2**40)]:
        assert_settles(chain, Batch(number=number))
        assert layout.House.decode(chain.data(chain.house())).highest_batch == highest


def test_lanes_number_their_batches_by_themselves(chain: Chain) -> None:
    assert_settles(chain, Batch(number=5))
    assert_settles(chain, Batch(number=5, lane=OTHER_LANE))


def test_vaults_of_a_batch_may_leave_gaps(chain: Chain) -> None:
    assert_settles(chain, Batch(nets=[-4, 4], positions=[0, 2]))


@pytest.mark.parametrize("sent", [1, 890_880, SOL])
def test_lamports_sent_ahead_to_the_record_do_not_block_a_batch(chain: Chain, sent: int) -> None:
    batch = Batch()
    chain.svm.set_account(chain.record(batch), Account(sent, b"", Pubkey.default(), False, 0))
    assert_settles(chain, batch)
    chain.refuses(ProgramError.BATCH_EXISTS, chain.settlement(batch))
    minimum = chain.svm.minimum_balance_for_rent_exemption(layout.BATCH_BYTES)
    assert chain.lamports(chain.record(batch)) == max(sent, minimum)


def test_a_bets_root_beyond_the_field_is_refused(chain: Chain) -> None:
    assert_settles(chain, Batch(bets_root=FIELD_MODULUS - 1, number=2))
    settlement = chain.settlement(Batch(bets_root=0))
    for root in (FIELD_MODULUS, FIELD_MODULUS + 1, 2**256 - 1):
        data = bytearray(settlement.data)
        data[ROOT_AT:PROOF_AT] = root.to_bytes(32, "big")
        chain.refuses(ProgramError.BETS_ROOT_RANGE, with_data(settlement, bytes(data)))


@pytest.mark.parametrize("position", [0, 1, 3])
def test_an_uncovered_vault_is_named_by_its_position(chain: Chain, position: int) -> None:
    nets = [0, 0, 0, 0]
    nets[position] = -VAULT_BALANCE - 1
    chain.refuses(ProgramError.VAULT_UNCOVERED + position, chain.settlement(Batch(nets=nets)))
    nets[position] += 1
    assert_settles(chain, Batch(nets=nets))


def test_the_house_pays_to_its_rent_minimum_and_no_further(chain: Chain) -> None:
    chain.refuses(ProgramError.HOUSE_UNCOVERED, chain.settlement(Batch(nets=[0, HOUSE_BALANCE + 1])))
    assert_settles(chain, Batch(nets=[0, HOUSE_BALANCE]))


def test_when_rent_rises_what_holds_too_little_is_named_until_it_is_topped_up(chain: Chain) -> None:
    """The runtime would not let such an account win either; the program says which it is."""
    assert_settles(chain, Batch(nets=[0, -VAULT_BALANCE]))
    rent = chain.svm.get_rent()
    chain.svm.set_rent(Rent(rent.lamports_per_byte * 2, rent.exemption_threshold))
    win = Batch(number=2, nets=[5, 5])
    chain.refuses(ProgramError.VAULT_UNCOVERED + 1, chain.settlement(win))
    chain.svm.airdrop(chain.vault(1), chain.svm.minimum_balance_for_rent_exemption(layout.VAULT_BYTES))
    assert_settles(chain, win)


def test_losses_of_a_batch_cover_its_wins(chain: Chain) -> None:
    assert_settles(chain, Batch(nets=[0, HOUSE_BALANCE]))
    assert_settles(chain, Batch(number=2, nets=[VAULT_BALANCE, -VAULT_BALANCE]))
