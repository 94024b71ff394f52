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
    """Gives each player (base58 key) a vault on his lane that holds at least `wanted` lamports above rent, however many they are."""
    program, authority = composition.program_id(settings), load_keypair(settings.authority_keypair)
    price = settings.priority_fee_micro_lamports
    players: dict[int, list[str]] = {}
    for player in wanted:
        players.setdefault(lane_of(player, settings.lanes), []).append(player)
    async with Nodes.at(settings.rpc_urls) as rpc:
        chain = Provisioner(rpc, authority, priority_fee_micro_lamports=price)
        await chain.open_vaults(program, players)
        rent = await rpc.rent_minimum(layout.VAULT_BYTES)
        totals = {
            layout.vault_address(program, lane, Pubkey.from_string(player)): rent + wanted[player]
            for lane, of_lane in players.items()
            for player in of_lane
            if wanted[player]
        }
        await top_up(rpc, authority, totals, micro_lamports_per_unit=price)
