"""An unmodified `AsyncClient` works against the local ledger."""

from solana.rpc.commitment import Confirmed, Finalized, Processed
from solana.rpc.jsonrpc import JsonRpcRequest
from solana.rpc.models import DataSliceOpts, MemcmpOpts, TxOpts
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction
from solders.transaction_status import TransactionConfirmationStatus

from tests.localnet.support import FEE, SOL, Cluster, pay, wire


async def test_node_and_chain_methods_parse(cluster: Cluster) -> None:
    client = cluster.client
    assert await client.is_connected()
    assert (await client.get_version()).value.solana_core
    assert (await cluster.result("getVersion"))["croupier-localnet"], "a member that this client passes over"
    assert (await client.get_genesis_hash()).value == (await client.get_genesis_hash()).value
    processed, confirmed, finalized = [
        (await client.get_slot(level)).value for level in (Processed, Confirmed, Finalized)
    ]
    assert processed > confirmed > finalized > 0
    epoch = (await client.get_epoch_info(Finalized)).value
    assert epoch.block_height <= epoch.absolute_slot
    assert (await client.get_block_height(Confirmed)).value > 0
    assert (await client.get_transaction_count(Processed)).value >= 0
    latest = (await client.get_latest_blockhash(Confirmed)).value
    assert latest.last_valid_block_height > (await client.get_block_height(Processed)).value
    assert await cluster.result("isBlockhashValid", str(latest.blockhash), {"commitment": "confirmed"})
    assert (await client.get_minimum_balance_for_rent_exemption(0)).value == 890_880


async def test_a_transfer_by_the_typed_client_is_found_everywhere(cluster: Cluster) -> None:
    client = cluster.client
    payer, recipient = await cluster.funded(), Keypair().pubkey()
    blockhash = await cluster.blockhash()
    message = MessageV0.try_compile(
        payer.pubkey(),
        [transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=recipient, lamports=SOL))],
        [],
        blockhash,
    )
    transaction = VersionedTransaction(message, [payer])
    assert (await client.get_fee_for_message(message, Confirmed)).value == FEE
    simulated = (await client.simulate_transaction(transaction, sig_verify=True, commitment=Confirmed)).value
    assert simulated.err is None
    assert simulated.units_consumed == 150
    sent = await client.send_transaction(transaction, TxOpts(preflight_commitment=Confirmed))
    assert sent.value == transaction.signatures[0]
    await client.confirm_transaction(sent.value, Confirmed, sleep_seconds=0.01)

    status = (await client.get_signature_statuses([sent.value], search_transaction_history=True)).value[0]
    assert status is not None
    assert status.err is None
    assert status.confirmation_status != TransactionConfirmationStatus.Processed
    landed = (
        await client.get_transaction(sent.value, "json", commitment=Confirmed, max_supported_transaction_version=0)
    ).value
    assert landed is not None
    assert landed.slot == status.slot
    meta = landed.transaction.meta
    assert meta is not None
    assert (meta.err, meta.fee, meta.compute_units_consumed) == (None, FEE, 150)
    assert meta.log_messages == [
        f"Program {SYSTEM_PROGRAM} invoke [1]",
        f"Program {SYSTEM_PROGRAM} success",
    ]
    assert (meta.pre_balances[:2], meta.post_balances[:2]) == ([10 * SOL, 0], [9 * SOL - FEE, SOL])
    encoded = (
        await client.get_transaction(sent.value, "base64", commitment=Confirmed, max_supported_transaction_version=0)
    ).value
    assert encoded is not None
    assert encoded.transaction.transaction == transaction

    account = (await client.get_account_info(recipient, Confirmed)).value
    assert account is not None
    assert (account.lamports, account.owner, account.data) == (SOL, SYSTEM_PROGRAM, b"")
    several = (await client.get_multiple_accounts([recipient, Keypair().pubkey()], Confirmed)).value
    assert [entry.lamports if entry else None for entry in several] == [SOL, None]
    history = (await client.get_signatures_for_address(recipient, commitment=Confirmed)).value
    assert [entry.signature for entry in history] == [sent.value]
    found = (await client.get_recent_prioritization_fees([payer.pubkey()])).value
    assert found


async def test_program_accounts_are_filtered(cluster: Cluster) -> None:
    owner_of_sysvars = await cluster.result(
        "getProgramAccounts",
        "Sysvar1111111111111111111111111111111111111",
        {"encoding": "base64", "filters": [{"dataSize": 40}], "withContext": True, "commitment": "processed"},
    )
    assert [entry["pubkey"] for entry in owner_of_sysvars["value"]] == ["SysvarC1ock11111111111111111111111111111111"]
    payer = await cluster.funded(3 * SOL + 7)
    accounts = (
        await cluster.client.get_program_accounts(
            SYSTEM_PROGRAM,
            Confirmed,
            "base64",
            DataSliceOpts(offset=0, length=0),
            [0],
        )
    ).value
    assert {entry.pubkey: entry.account.lamports for entry in accounts}[payer.pubkey()] == 3 * SOL + 7
    none = (
        await cluster.client.get_program_accounts(
            SYSTEM_PROGRAM, Confirmed, "base64", None, [MemcmpOpts(offset=0, bytes="3Mc6vR")]
        )
    ).value
    assert payer.pubkey() not in {entry.pubkey for entry in none}


async def test_the_sound_send_path_returns_the_signature(cluster: Cluster) -> None:
    payer = await cluster.funded()
    transaction = pay(payer, Keypair().pubkey(), SOL, await cluster.blockhash())
    request = JsonRpcRequest(
        method="sendTransaction",
        params=[
            wire(transaction),
            {"encoding": "base64", "skipPreflight": True, "maxRetries": 0},
        ],
    )
    assert await cluster.client.send_rpc_request(request, str) == str(transaction.signatures[0])


async def test_airdrops_of_the_same_amount_all_arrive(cluster: Cluster) -> None:
    recipient = Keypair().pubkey()
    signatures = {(await cluster.client.request_airdrop(recipient, SOL)).value for _ in range(3)}
    assert len(signatures) == 3
    assert await cluster.balance(recipient) == 3 * SOL
