"""Settling: money moves as the proven batch says, once, or not at all."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from solders.account import Account
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import Message
from solders.pubkey import Pubkey
from solders.solders import FeatureSet
from solders.transaction import Transaction

from ledger import instructions, layout
from ledger.program_errors import ProgramError
from settlement.poseidon import FIELD_MODULUS
from settlement.shapes import SHAPES, Shape
from tests.program.chain import (
    HOUSE_BALANCE,
    LANE,
    LARGE,
    OTHER_LANE,
    SMALL,
    SOL,
    VAULT_BALANCE,
    AnyProver,
    Batch,
    Chain,
    deploy,
    open_for_business,
    program_code,
    registration,
    with_account,
    with_data,
)

COMPUTE_UNITS_MAX = 200_000
TRANSACTION_BYTES_MAX = 1232
FULL = Batch(shape=LARGE, bet_count=64, nets=[(-1) ** i * (1_000 + 37 * i) for i in range(16)])
BET_COUNT_AT, ROOT_AT, PROOF_AT, DELTAS_AT = 9, 11, 43, 171


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


def test_a_full_batch_of_the_largest_shape_stays_within_the_compute_bound(full_chain: Chain) -> None:
    units = assert_settles(full_chain, FULL)
    print(f"full {LARGE.name} settle: {units} compute units")
    assert units <= COMPUTE_UNITS_MAX


def test_a_full_batch_of_the_largest_shape_fits_a_legacy_transaction(full_chain: Chain) -> None:
    batch = [set_compute_unit_limit(COMPUTE_UNITS_MAX), set_compute_unit_price(1_000), full_chain.settlement(FULL)]
    authority = full_chain.authority
    blockhash = full_chain.svm.latest_blockhash()
    transaction = Transaction([authority], Message(batch, authority.pubkey()), blockhash)
    print(f"full {LARGE.name} settle: {len(bytes(transaction))} bytes")
    assert len(bytes(transaction)) <= TRANSACTION_BYTES_MAX
    full_chain.send(batch, authority)


def test_it_runs_with_every_feature_that_mainnet_has_yet_to_activate(prover: AnyProver) -> None:
    svm = LiteSVM.default().with_feature_set(FeatureSet.all_enabled()).with_builtins().with_lamports(10**9 * SOL)
    svm = svm.with_sysvars().with_default_programs().with_sigverify(True)
    chain = deploy(program_code(), prover, svm)
    open_for_business(chain, vaults=16)
    assert_settles(chain, FULL)


@pytest.mark.parametrize("players", [1, 3, 7, 22, 32, 48, 64])
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


def test_another_vault_than_the_proven_one_is_refused(chain: Chain) -> None:
    chain.refuses(ProgramError.PROOF_REJECTED, with_account(chain.settlement(Batch()), 7, chain.vault(2)))


@pytest.mark.parametrize(
    ("root", "error"), [(0x1234, ProgramError.BATCH_EXISTS), (0x1235, ProgramError.BATCH_NUMBER_TAKEN)]
)
@pytest.mark.parametrize("nets", [[-1_000, 3_000], [-VAULT_BALANCE, 3_000]])
def test_a_batch_is_settled_once(chain: Chain, root: int, error: ProgramError, nets: list[int]) -> None:
    """Whatever the second's root, and though the first has left nothing to cover the second."""
    assert_settles(chain, Batch(nets=nets))
    chain.refuses(error, chain.settlement(Batch(nets=nets, bets_root=root)))


@pytest.mark.parametrize("sent", [1, 890_880, SOL])
def test_lamports_sent_ahead_to_the_record_do_not_block_a_batch(chain: Chain, sent: int) -> None:
    batch = Batch()
    chain.svm.set_account(chain.record(batch), Account(sent, b"", Pubkey.default(), False, 0))
    assert_settles(chain, batch)
    chain.refuses(ProgramError.BATCH_EXISTS, chain.settlement(batch))
    minimum = chain.svm.minimum_balance_for_rent_exemption(layout.BATCH_BYTES)
    assert chain.lamports(chain.record(batch)) == max(sent, minimum)


@pytest.mark.parametrize(
    "proven",
    [
        replace(Batch(), number=2),
        replace(Batch(), lane=OTHER_LANE),
        replace(Batch(), bet_count=6),
        replace(Batch(), bets_root=0x1235),
        replace(Batch(), nets=[3_000, -1_000]),
        replace(Batch(), nets=[-1_000, 3_001]),
        replace(Batch(), nets=[-1_001, 3_001]),
        replace(Batch(), nets=[-1_000, 3_000, 0]),
        replace(Batch(), nets=[-1_000]),
        replace(Batch(), shape=LARGE),
    ],
    ids=lambda batch: repr(batch),
)
def test_a_proof_of_another_statement_is_refused(chain: Chain, proven: Batch) -> None:
    proof = chain.prover.prove(proven.statement())
    chain.refuses(ProgramError.PROOF_REJECTED, chain.settlement(Batch(), proof))


@pytest.mark.parametrize("at", [BET_COUNT_AT, ROOT_AT + 31, ROOT_AT + 1, DELTAS_AT, DELTAS_AT + 8])
def test_one_bit_off_in_what_the_proof_binds_is_refused(chain: Chain, at: int) -> None:
    settlement = chain.settlement(Batch())
    data = bytearray(settlement.data)
    data[at] ^= 1
    chain.refuses(ProgramError.PROOF_REJECTED, with_data(settlement, bytes(data)))


def test_a_mutated_proof_is_refused(chain: Chain) -> None:
    settlement = chain.settlement(Batch())
    codes: set[int | None] = set()
    for bit in range(0, 128 * 8, 41):
        data = bytearray(settlement.data)
        data[PROOF_AT + bit // 8] ^= 1 << bit % 8
        codes.add(chain.refusal(with_data(settlement, bytes(data))))
    assert codes == {ProgramError.PROOF_ENCODING, ProgramError.PROOF_REJECTED}


@pytest.mark.parametrize(
    ("proof", "error"),
    [
        (bytes(128), ProgramError.PROOF_ENCODING),
        (b"\xff" * 128, ProgramError.PROOF_ENCODING),
        (b"\x40" + bytes(127), ProgramError.PROOF_ENCODING),
        (b"\x80" + bytes(127), ProgramError.PROOF_REJECTED),  # every point at infinity, once A is negated
    ],
)
def test_a_degenerate_proof_is_refused(chain: Chain, proof: bytes, error: ProgramError) -> None:
    chain.refuses(error, chain.settlement(Batch(), proof))


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


def test_losses_of_a_batch_cover_its_wins(chain: Chain) -> None:
    assert_settles(chain, Batch(nets=[0, HOUSE_BALANCE]))
    assert_settles(chain, Batch(number=2, nets=[VAULT_BALANCE, -VAULT_BALANCE]))


MAX, MIN = 2**63 - 1, -(2**63)


@pytest.mark.parametrize("nets", [[MIN], [MAX, MAX], [MIN, MIN], [MAX, 1], [MIN, 0, -1], [MAX, MAX, MIN, MIN]])
def test_sums_beyond_64_bits_are_refused(chain: Chain, nets: Sequence[int]) -> None:
    settlement = chain.settlement(Batch(nets=[0] * len(nets)))
    data = bytes(settlement.data)[:DELTAS_AT] + b"".join(net.to_bytes(8, "little", signed=True) for net in nets)
    chain.refuses(ProgramError.AMOUNT_OVERFLOW, with_data(settlement, data))


@pytest.mark.parametrize(("nets", "error"), [([MIN, 1], 0x100), ([MAX], 0x52), ([MAX, MIN + 1], 0x101)])
def test_amounts_at_the_edge_of_64_bits_are_judged_by_cover(chain: Chain, nets: list[int], error: int) -> None:
    chain.refuses(error, chain.settlement(Batch(nets=nets), bytes(128)))


def test_vaults_must_be_distinct_and_in_order(chain: Chain) -> None:
    settlement = chain.settlement(Batch())
    first, second = chain.vault(0), chain.vault(1)
    swapped = with_account(with_account(settlement, 6, second), 7, first)
    chain.refuses(ProgramError.VAULT_ORDER, swapped)
    chain.refuses(ProgramError.DUPLICATE_ACCOUNT, with_account(settlement, 7, first))


def test_a_copy_of_a_vaults_index_does_not_pass_for_another_vault(chain: Chain) -> None:
    twin = Pubkey.new_unique()
    account = chain.account(chain.vault(0))
    chain.svm.set_account(twin, Account(account.lamports, bytes(account.data), account.owner, False, 0))
    chain.refuses(ProgramError.VAULT_ORDER, with_account(chain.settlement(Batch()), 7, twin))


def test_a_vault_of_another_lane_is_refused(chain: Chain) -> None:
    settlement = chain.settlement(Batch())
    chain.refuses(ProgramError.VAULT_LANE, with_account(settlement, 7, chain.vault(1, OTHER_LANE)))
    other_house = with_account(settlement, 3, chain.house(OTHER_LANE))
    chain.refuses(ProgramError.VAULT_LANE, other_house)


def test_no_house_stands_in_for_a_vault(chain: Chain) -> None:
    settlement = chain.settlement(Batch())
    chain.refuses(ProgramError.DUPLICATE_ACCOUNT, with_account(settlement, 7, chain.house()))
    chain.refuses(ProgramError.ACCOUNT_KIND, with_account(settlement, 7, chain.house(OTHER_LANE)))


def test_the_batch_is_bound_to_its_circuits_capacity(full_chain: Chain) -> None:
    too_many = replace(FULL, shape=SMALL, nets=FULL.nets[:9], bet_count=16)
    proof = bytes(128)
    full_chain.refuses(ProgramError.PLAYER_COUNT, full_chain.settlement(too_many, proof))
    for bet_count in (0, 17, 65_535):
        full_chain.refuses(
            ProgramError.BET_COUNT, full_chain.settlement(Batch(shape=SMALL, bet_count=bet_count), proof)
        )


def test_a_batch_without_vaults_is_refused(chain: Chain) -> None:
    settlement = chain.settlement(Batch())
    empty = instructions.Instruction(
        chain.program_id, bytes(settlement.data)[:DELTAS_AT], list(settlement.accounts)[:6]
    )
    chain.refuses(ProgramError.ACCOUNT_COUNT, empty)


def test_another_authority_settles_nothing(chain: Chain) -> None:
    stranger = Keypair()
    chain.svm.airdrop(stranger.pubkey(), 10 * SOL)
    settlement = with_account(chain.settlement(Batch()), 0, stranger.pubkey())
    chain.refuses(ProgramError.WRONG_AUTHORITY, settlement, pays=stranger)


def test_an_authority_without_the_records_rent_is_told_so(chain: Chain) -> None:
    sponsor = Keypair()
    chain.svm.airdrop(sponsor.pubkey(), SOL)
    chain.svm.set_account(chain.authority.pubkey(), Account(900_000, b"", Pubkey.default(), False, 0))
    chain.refuses(ProgramError.PAYER_UNCOVERED, chain.settlement(Batch()), chain.authority, pays=sponsor)
