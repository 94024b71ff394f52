"""Holds the number of lanes that is set against the one that a deployment was set up with.

A player's lane follows from his key and from that number: with another, his bets would go where he has no vault.
"""

from solders.pubkey import Pubkey

from ledger import layout
from ledger.rpc import MAX_ACCOUNTS_PER_REQUEST, READ_COMMITMENT, RpcClient
from settlement.errors import LedgerMisconfigured
from settlement.limits import MAX_LANE


async def require_lanes(rpc: RpcClient, program: Pubkey, lanes: int) -> None:
    """Raises `LedgerMisconfigured` with the remedy if there were more lanes before, or fewer and players have vaults there.

    The highest lane that has a house tells how many there were: its house is opened first.
    """
    house_beyond, highest_house = await _houses(rpc, program, range(lanes, lanes - 2, -1))
    if house_beyond is not None:
        raise _differs(rpc, program, lanes, await _lanes_from(rpc, program, lanes + 1))
    if highest_house is not None:
        return
    houses = await _houses(rpc, program, range(lanes - 1))
    if any(house is not None and house.vault_count for house in houses):
        raise _differs(rpc, program, lanes, max(lane for lane, house in enumerate(houses) if house is not None) + 1)


async def _lanes_from(rpc: RpcClient, program: Pubkey, at_least: int) -> int:
    """How many lanes there are if there are so many."""
    for start in range(at_least, MAX_LANE + 1, MAX_ACCOUNTS_PER_REQUEST):
        page = range(start, min(start + MAX_ACCOUNTS_PER_REQUEST, MAX_LANE + 1))
        open_lanes = [lane for lane, house in zip(page, await _houses(rpc, program, page), strict=True) if house]
        at_least = max([at_least, *(lane + 1 for lane in open_lanes)])
        if len(open_lanes) < len(page):
            break
    return at_least


async def _houses(rpc: RpcClient, program: Pubkey, lanes: range) -> list[layout.House | None]:
    """The lanes' houses, where they have one; there is no lane beyond `MAX_LANE`."""
    real = [lane for lane in lanes if lane <= MAX_LANE]
    addresses = [layout.house_address(program, lane) for lane in real]
    accounts = dict(zip(real, await rpc.accounts(addresses, READ_COMMITMENT), strict=True))
    return [
        layout.House.decode(account.data) if (account := accounts.get(lane)) and account.owner == program else None
        for lane in lanes
    ]


def _differs(rpc: RpcClient, program: Pubkey, lanes: int, found: int) -> LedgerMisconfigured:
    return LedgerMisconfigured(
        f"program {program} on {rpc.name} was set up with {found} lanes, and CROUPIER_LANES is {lanes}: set it to {found}."
        " It must never change while there are vaults, since players' lanes follow from it; for another number of lanes"
        " deploy under another program key"
    )
