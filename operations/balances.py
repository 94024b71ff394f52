"""Who holds what, read from the chain and nowhere else."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table
from solders.pubkey import Pubkey

from ledger import layout
from ledger.reading import ProgramReader
from settlement.bets import lane_of


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class HouseBalance(_Frozen):
    """A lane's house. `available`: lamports above rent."""

    lane: int
    address: str
    available: int


class VaultBalance(_Frozen):
    """A player's vault on his lane, or where it would stand: `index` and `available` (as above) are None if there is none."""

    player: str
    lane: int
    address: str
    index: int | None
    available: int | None


class Balances(_Frozen):
    """What `balances --json` prints. `more`: there are other players with bets, who must be named to be shown."""

    houses: tuple[HouseBalance, ...]
    vaults: tuple[VaultBalance, ...]
    more: bool


async def read_balances(
    reader: ProgramReader, program: Pubkey, lanes: int, players: Sequence[str], *, more: bool = False
) -> Balances:
    """The houses of all lanes and the vaults of `players` (base58 keys), in their order within each lane, each once.

    `more`: these are not all that might have been asked for.
    """
    houses: list[HouseBalance] = []
    vaults: list[VaultBalance] = []
    for lane in range(lanes):
        house = await reader.house(lane)
        address = layout.house_address(program, lane)
        houses.append(HouseBalance(lane=lane, address=str(address), available=house.available))
        in_lane = [player for player in dict.fromkeys(players) if lane_of(player, lanes) == lane]
        found = await reader.vaults(lane, in_lane)
        for player in in_lane:
            vault = found.get(player)
            vaults.append(
                VaultBalance(
                    player=player,
                    lane=lane,
                    address=str(layout.vault_address(program, lane, Pubkey.from_string(player))),
                    index=vault.index if vault else None,
                    available=vault.available if vault else None,
                )
            )
    return Balances(houses=tuple(houses), vaults=tuple(vaults), more=more)


def show_balances(console: Console, balances: Balances) -> None:
    """As a table."""
    table = Table(title="Balances on chain, in lamports above rent", title_justify="left")
    table.add_column("account", no_wrap=True)
    table.add_column("lane", justify="right")
    table.add_column("lamports", justify="right")
    table.add_column("vault", justify="right")
    table.add_column("address", no_wrap=True)
    for house in balances.houses:
        table.add_row("house", str(house.lane), f"{house.available:,}", "", house.address)
    for vault in balances.vaults:
        lamports = "no vault" if vault.available is None else f"{vault.available:,}"
        table.add_row(vault.player, str(vault.lane), lamports, str(vault.index or ""), vault.address)
    console.print(table)
    if balances.more:
        console.print("… and more: name them")
