"""Opens players' vaults and tops them up from the authority's account. Safe to repeat: only what lacks is done."""

from collections.abc import Mapping

from solders.pubkey import Pubkey

import composition
from ledger import layout
from ledger.adapter import SolanaLedger
from ledger.keys import load_keypair
from ledger.provisioning import Provisioner
from ledger.rpc import RpcClient
from settings import Settings
from settlement.bets import lane_of


async def fund_vaults(settings: Settings, ledger: SolanaLedger, wanted: Mapping[str, int]) -> None:
    """Gives each player (base58 key) a vault on his lane that holds at least `wanted` lamports above rent."""
    program, authority = composition.program_id(settings), load_keypair(settings.authority_keypair)
    async with RpcClient(str(settings.rpc_url)) as rpc:
        chain = Provisioner(rpc, authority, priority_fee_micro_lamports=settings.priority_fee_micro_lamports)
        for lane in range(settings.lanes):
            players = [player for player in wanted if lane_of(player, settings.lanes) == lane]
            await chain.ensure_vaults(program, lane, players, settings.shapes)
            await chain.transfer(
                {
                    layout.vault_address(program, lane, Pubkey.from_string(player)): wanted[player] - vault.available
                    for player, vault in (await ledger.vaults(lane, players)).items()
                    if vault.available < wanted[player]
                }
            )
