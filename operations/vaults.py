"""Opens players' vaults and tops them up from the authority's account. Safe to repeat: only what lacks is done, and paid once."""

from collections.abc import Mapping

from solders.pubkey import Pubkey

import composition
from ledger import layout
from ledger.keys import load_keypair
from ledger.nodes import Nodes
from ledger.provisioning import Provisioner
from operations.top_ups import top_up
from settings import Settings
from settlement.bets import lane_of


async def fund_vaults(settings: Settings, wanted: Mapping[str, int]) -> None:
    """Gives each player (base58 key) a vault on his lane that holds at least `wanted` lamports above rent."""
    program, authority = composition.program_id(settings), load_keypair(settings.authority_keypair)
    price = settings.priority_fee_micro_lamports
    async with Nodes.at(settings.rpc_urls) as rpc:
        chain = Provisioner(rpc, authority, priority_fee_micro_lamports=price)
        for lane in range(settings.lanes):
            players = [player for player in wanted if lane_of(player, settings.lanes) == lane]
            await chain.ensure_vaults(program, lane, players, settings.shapes)
        rent = await rpc.rent_minimum(layout.VAULT_BYTES)
        totals = {
            layout.vault_address(program, lane_of(player, settings.lanes), Pubkey.from_string(player)): rent + lamports
            for player, lamports in wanted.items()
            if lamports
        }
        await top_up(rpc, authority, totals, micro_lamports_per_unit=price)
