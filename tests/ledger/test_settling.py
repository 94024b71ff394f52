"""Settling on a real local ledger with the real program."""

import asyncio
import base64
from collections.abc import Awaitable, Callable

import pytest
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import Message

from ledger.adapter import SolanaLedger
from ledger.fees import PriceBounds
from ledger.layout import batch_address
from ledger.transactions import (
    MAX_COMPUTE_UNITS,
    MAX_TRANSACTION_BYTES,
    settle_instruction,
    settled_by,
    sign_message,
)
from settlement.batches import SignedAttempt, Standing, Statement, statement_for
from settlement.errors import (
    AlreadySettled,
    BatchNumberTaken,
    HouseUncovered,
    LedgerMisconfigured,
    LedgerUnavailable,
    SettlementRefused,
    VaultUncovered,
)
from settlement.ports import Ledger
from settlement.shapes import SHAPES, Shape
from tests.ledger.support import (
    HOUSE_BALANCE,
    PRIORITY_FEE,
    SOL,
    VAULT_BALANCE,
    Table,
    World,
    bets_with,
    new_players,
    settled,
)

NETS = [1_000, -3_000]
FULL_BATCH_UNITS = 200_000
"""What a full batch of any shape may take at most."""


async def settle(world: World, statement: Statement) -> SignedAttempt:
    ledger = world.ledger()
    attempt = await ledger.sign(statement, world.prover.prove(statement), 1)
    await ledger.broadcast(attempt)
    assert (await settled(ledger, statement, [attempt])).standing is Standing.SETTLED
    return attempt


async def test_a_settlement_lands_and_is_judged_settled_with_its_facts(world: World, table: Table) -> None:
    statement = await table.statement(NETS)
    ledger = world.ledger()
    attempt = await ledger.sign(statement, world.prover.prove(statement), 1)
    assert (await ledger.judge(statement, [attempt])).standing is Standing.PENDING
    await ledger.broadcast(attempt)
    verdict = await settled(ledger, statement, [attempt])
    assert verdict.standing is Standing.SETTLED
    assert verdict.landing is not None
    record = await ledger.batch_record(table.lane, 1)
    assert record is not None
    assert (record.bets_root, record.house_delta, record.bet_count) == (statement.bets_root, 2_000, 2)
    assert (verdict.landing.signature, verdict.landing.slot) == (attempt.signature, record.slot)
    assert verdict.landing.compute_units is not None
    assert 50_000 < verdict.landing.compute_units < MAX_COMPUTE_UNITS
    assert verdict.landing.fee_lamports is not None
    assert verdict.landing.fee_lamports > 5_000


async def test_what_moved_is_what_the_statement_says(world: World, table: Table) -> None:
    before = await table.balances()
    statement = await table.statement(NETS)
    attempt = await settle(world, statement)
    assert [after - held for held, after in zip(before, await table.balances(), strict=True)] == [2_000, *NETS]
    [stranger] = new_players(1)
    movement = await world.ledger().movement(attempt.signature, table.lane, [*table.players, stranger])
    assert movement is not None
    assert movement.succeeded
    assert movement.house_delta == statement.house_delta == 2_000
    assert movement.net_by_player == dict(zip([*table.players, stranger], [*NETS, 0], strict=True))
    assert await world.ledger().movement("1" * 64, table.lane, table.players) is None


async def test_cover_and_counts_are_read_from_the_chain(world: World, table: Table) -> None:
    ledger = world.ledger()
    await settle(world, await table.statement(NETS, number=5))
    house = await ledger.house(table.lane)
    assert (house.available, house.vault_count, house.highest_batch) == (HOUSE_BALANCE + 2_000, 2, 5)
    vaults = await ledger.vaults(table.lane, [*table.players, *new_players(1)])
    assert [(vault.index, vault.available) for vault in vaults.values()] == [
        (1, VAULT_BALANCE + 1_000),
        (2, VAULT_BALANCE - 3_000),
    ]


async def test_records_of_a_lane_are_listed_by_number_and_without_other_lanes(
    world: World, open_table: Callable[[int], Awaitable[Table]]
) -> None:
    table, other = await open_table(2), await open_table(1)
    await asyncio.gather(
        settle(world, await table.statement(NETS, number=2)),
        settle(world, await table.statement(NETS, number=1)),
        settle(world, await other.statement([7], number=1)),
    )
    assert [record.number for record in await world.ledger().batch_records(table.lane)] == [1, 2]
    assert await world.ledger().batch_record(table.lane, 3) is None


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
async def test_the_largest_batch_of_a_shape_fits_one_transaction_and_the_bound_on_units(
    world: World, open_table: Callable[..., Awaitable[Table]], shape: Shape
) -> None:
    table = await open_table(shape.players, SHAPES)
    vaults = await world.ledger().vaults(table.lane, table.players)
    of_bets = [table.players[at % shape.players] for at in range(shape.bets)]
    bets = bets_with(of_bets, [(-1) ** (at // 3) * 1_000 * (at + 1) for at in range(shape.bets)])
    statement = statement_for(table.lane, 1, bets, {player: vault.index for player, vault in vaults.items()})
    assert statement.shape == shape
    before = await table.balances()
    attempt = await settle(world, statement)
    assert len(base64.b64decode(attempt.raw)) <= MAX_TRANSACTION_BYTES
    landed = await world.rpc.transaction(attempt.signature, "confirmed")
    assert landed is not None
    assert landed.meta is not None
    assert landed.meta.compute_units_consumed is not None
    assert landed.meta.compute_units_consumed <= FULL_BATCH_UNITS
    movement = await world.ledger().movement(attempt.signature, table.lane, table.players)
    assert movement is not None
    assert [movement.house_delta, *movement.net_by_player.values()] == [
        after - held for held, after in zip(before, await table.balances(), strict=True)
    ]
    assert movement.net_by_player == {slot.player: slot.net for slot in statement.slots}


async def test_an_attempt_from_before_lookup_tables_is_still_judged(world: World, table: Table) -> None:
    statement, ledger = await table.statement(NETS), world.ledger()
    signed = await ledger.sign(statement, world.prover.prove(statement), 1)
    blockhash = await world.rpc.latest_blockhash("confirmed")
    settlement = settle_instruction(statement, world.prover.prove(statement), world.program, world.authority.pubkey())
    message = Message.new_with_blockhash(
        [set_compute_unit_limit(MAX_COMPUTE_UNITS), set_compute_unit_price(0), settlement],
        world.authority.pubkey(),
        Hash.from_string(blockhash.blockhash),
    )
    signature, raw = sign_message(message, [world.authority])
    attempt = signed.model_copy(update={"signature": signature, "raw": raw})
    assert settled_by(attempt) == settled_by(signed) == (statement.number, statement.bets_root)
    await ledger.broadcast(attempt)
    verdict = await settled(ledger, statement, [attempt])
    assert verdict.landing is not None
    assert verdict.landing.signature == signature


async def test_an_attempt_sent_again_and_again_moves_money_once(world: World, table: Table) -> None:
    before = await table.balances()
    statement = await table.statement(NETS)
    attempt = await settle(world, statement)
    for _ in range(5):
        await world.ledger().broadcast(attempt)
    await settle(world, await table.statement([1, -1], number=2))  # so that what was sent again has had its time
    assert [after - held for held, after in zip(before, await table.balances(), strict=True)] == [2_000, 1_001, -3_001]


async def test_rival_attempts_move_money_once_and_all_are_judged_settled(world: World, table: Table) -> None:
    before = await table.balances()
    statement = await table.statement(NETS)
    ledger = world.ledger()
    attempts = [await ledger.sign(statement, world.prover.prove(statement), at) for at in range(3)]
    await asyncio.gather(*(ledger.broadcast(attempt) for attempt in attempts))
    verdict = await settled(ledger, statement, attempts)
    assert verdict.landing is not None
    assert verdict.landing.signature in {attempt.signature for attempt in attempts}
    loser = next(attempt for attempt in attempts if attempt.signature != verdict.landing.signature)
    assert await ledger.judge(statement, [loser]) == verdict
    assert [after - held for held, after in zip(before, await table.balances(), strict=True)] == [2_000, *NETS]


async def test_a_settled_batch_is_not_signed_again(world: World, table: Table) -> None:
    statement = await table.statement(NETS)
    await settle(world, statement)
    with pytest.raises(AlreadySettled):
        await world.ledger().sign(statement, world.prover.prove(statement), 2)


async def test_a_number_that_other_bets_have_taken_is_reported_when_signing_and_when_judging(
    world: World, table: Table
) -> None:
    ledger = world.ledger()
    mine, theirs = await table.statement(NETS, salt="mine"), await table.statement(NETS, salt="theirs")
    attempt = await ledger.sign(mine, world.prover.prove(mine), 1)
    await settle(world, theirs)
    await ledger.broadcast(attempt)
    with pytest.raises(BatchNumberTaken):
        await settled(ledger, mine, [attempt])
    with pytest.raises(BatchNumberTaken):
        await ledger.sign(mine, world.prover.prove(mine), 2)


async def test_an_attempt_that_was_never_sent_is_pending_until_it_has_provably_expired(
    world: World, table: Table
) -> None:
    statement = await table.statement(NETS)
    ledger = world.ledger()
    attempt = await ledger.sign(statement, world.prover.prove(statement), 1)
    verdict = await settled(ledger, statement, [attempt])
    assert verdict.standing is Standing.NONE_LIVE
    assert (await world.rpc.epoch_info("finalized")).block_height > attempt.last_valid_block_height
    await ledger.broadcast(attempt)
    assert (await ledger.judge(statement, [attempt])).standing is Standing.NONE_LIVE
    assert (await table.balances())[1] == (await table.balances())[2]


async def test_a_loss_beyond_a_vaults_balance_is_refused_by_position_and_costs_nothing(
    world: World, table: Table
) -> None:
    statement = await table.statement([1_000, -VAULT_BALANCE - 1])
    with pytest.raises(VaultUncovered, match=table.players[1]) as refused:
        await world.ledger().sign(statement, world.prover.prove(statement), 1)
    assert refused.value.position == 1


async def test_a_win_beyond_the_houses_balance_is_refused(world: World, table: Table) -> None:
    statement = await table.statement([HOUSE_BALANCE + 2, -1])
    with pytest.raises(HouseUncovered, match=str(table.house)):
        await world.ledger().sign(statement, world.prover.prove(statement), 1)


async def test_a_refusal_that_only_the_chain_could_see_is_judged_once_it_is_final(world: World, table: Table) -> None:
    """Both losses are covered when they are signed, but not one after the other."""
    ledger = world.ledger()
    first, second = [await table.statement([1, -VAULT_BALANCE], number=at) for at in (1, 2)]
    attempt = await ledger.sign(second, world.prover.prove(second), 1)
    await settle(world, first)
    await ledger.broadcast(attempt)
    with pytest.raises(VaultUncovered) as refused:
        await settled(ledger, second, [attempt])
    assert refused.value.position == 1


async def test_a_proof_of_something_else_is_refused_by_name(world: World, table: Table) -> None:
    statement, other = await table.statement(NETS), await table.statement(NETS, number=2)
    proof = world.prover.prove(other).model_copy(update={"public_input": statement.public_input})
    with pytest.raises(SettlementRefused, match="PROOF_REJECTED"):
        await world.ledger().sign(statement, proof, 1)


async def test_a_key_that_is_not_the_authority_is_named_with_the_one_that_is(world: World, table: Table) -> None:
    intruder = Keypair()
    await world.provisioner.airdrop(intruder.pubkey(), SOL)
    ledger = world.ledger(authority=intruder)
    statement = await table.statement(NETS)
    with pytest.raises(LedgerMisconfigured, match=str(world.authority.pubkey())):
        await ledger.check()
    with pytest.raises(LedgerMisconfigured, match=str(world.authority.pubkey())):
        await ledger.sign(statement, world.prover.prove(statement), 1)


async def test_an_authority_without_lamports_is_told_to_be_funded(world: World, table: Table) -> None:
    pauper = Keypair()
    statement = await table.statement(NETS)
    with pytest.raises(LedgerMisconfigured, match=f"{pauper.pubkey()}.*send it SOL"):
        await world.ledger(authority=pauper).sign(statement, world.prover.prove(statement), 1)


async def test_a_program_that_is_not_there_is_named_with_the_remedy(world: World, table: Table) -> None:
    nowhere = Keypair().pubkey()
    ledger = SolanaLedger(
        world.rpc, nowhere, world.authority, commitment="finalized", price=PriceBounds(PRIORITY_FEE, PRIORITY_FEE)
    )
    statement = await table.statement(NETS)
    expected = rf"program {nowhere} is not deployed on {world.node.url}: run `python starter.py provision`"
    with pytest.raises(LedgerMisconfigured, match=expected):
        await ledger.check()
    with pytest.raises(LedgerMisconfigured, match=expected):
        await ledger.sign(statement, world.prover.prove(statement), 1)


async def test_a_healthy_ledger_passes_the_check_and_fulfils_the_port(world: World) -> None:
    ledger = world.ledger()
    await ledger.check()
    port: Ledger = ledger
    assert port is ledger


async def test_a_lane_without_a_house_is_misconfigured(world: World) -> None:
    lane = 65_535
    players = new_players(1)
    statement = statement_for(lane, 1, bets_with(players, [1]), {players[0]: 1})
    with pytest.raises(LedgerMisconfigured, match="no house"):
        await world.ledger().house(lane)
    with pytest.raises(LedgerMisconfigured, match="no house"):
        await world.ledger().sign(statement, world.prover.prove(statement), 1)
    assert await world.ledger().vaults(lane, players) == {}


async def test_a_circuit_that_is_not_registered_is_misconfigured(world: World, table: Table) -> None:
    unknown = SHAPES[0].model_copy(update={"circuit_id": 99})
    statement = (await table.statement(NETS)).model_copy(update={"shape": unknown})
    with pytest.raises(LedgerMisconfigured, match=r"circuit 99 .* is not registered"):
        await world.ledger().sign(statement, world.prover.prove(statement), 1)


async def test_lamports_sent_to_a_records_address_beforehand_settle_nothing_and_hinder_nothing(
    world: World, table: Table
) -> None:
    await world.provisioner.transfer({batch_address(world.program, table.lane, 1): 1_000_000})
    statement = await table.statement(NETS)
    assert (await world.ledger().judge(statement, [])).standing is Standing.NONE_LIVE
    await settle(world, statement)


async def test_a_ledger_killed_between_signing_and_sending_settles_after_its_restart(
    world: World, table: Table
) -> None:
    before = await table.balances()
    statement = await table.statement(NETS)
    ledger = world.ledger()
    attempt = await ledger.sign(statement, world.prover.prove(statement), 1)
    await world.node.kill()
    with pytest.raises(LedgerUnavailable, match=world.node.url):
        await ledger.broadcast(attempt)
    with pytest.raises(LedgerUnavailable, match=world.node.url):
        await ledger.judge(statement, [attempt])
    await world.node.start()
    await ledger.broadcast(attempt)
    assert (await settled(ledger, statement, [attempt])).standing is Standing.SETTLED
    assert [after - held for held, after in zip(before, await table.balances(), strict=True)] == [2_000, *NETS]
