"""The judge of a chaos run: reads the chain and what clients sent and were told, and decides. `python -m chaos.checker --help`.

It shares no code with what it judges: addresses, layouts, Poseidon, the bets root and the lanes are its own. It believes the node's
finalized state and the clients' files, nothing else; the journal only hints at which bets made up a batch. One request reads all of the
program's accounts at one moment: records cannot be written twice and lamports are counted, so how things came about is of no interest.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chaos.checking.bets import Bet, BetList, lane_of
from chaos.checking.chain import Chain, Record, read_chain
from chaos.checking.errors import CannotJudge
from chaos.checking.explaining import Explanation, Explanations
from chaos.checking.hints import batches_of
from chaos.checking.verdict import HOUSE, SHOWN, BalanceDifference, Verdict, shown

__all__ = ["CannotJudge", "Deposits", "Evidence", "Verdict", "check", "read_deposits"]

DISAGREED: Final = 1
CANNOT_JUDGE: Final = 2

Account = tuple[int, str]
"""Lane, and `HOUSE` or a player's key."""


class Deposits(BaseModel):
    """All lamports, rent included, of each lane's house and of each player's vault before the first bet."""

    model_config = ConfigDict(frozen=True)

    houses: dict[int, Annotated[int, Field(ge=0)]]
    players: dict[str, Annotated[int, Field(ge=0)]]


class Evidence(BaseModel):
    """What a run is judged by. `sent`, `acknowledged`: files of bets as JSON lines, or folders of `*.jsonl`."""

    model_config = ConfigDict(frozen=True)

    rpc_url: str
    program_id: str
    journal: Path
    sent: tuple[Path, ...]
    acknowledged: tuple[Path, ...]
    deposits: Deposits
    lanes: Annotated[int, Field(ge=1)]


def read_deposits(rpc_url: str, program_id: str, lanes: int) -> Deposits:
    """What houses and vaults hold now, finalized. Raises `CannotJudge`."""
    chain = read_chain(rpc_url, program_id)
    astray = [owner for lane, owner in chain.vaults if lane != lane_of(owner, lanes)]
    if chain.records or astray:
        what = (
            f"batch {chain.records[0].name} is settled already"
            if chain.records
            else f"{astray[0]} has a vault on a foreign lane"
        )
        raise CannotJudge(f"{what}: read the deposits before the first bet, with the number of lanes that is in use")
    return Deposits(
        houses={lane: house.lamports for lane, house in chain.houses.items()},
        players={owner: vault.lamports for (_, owner), vault in chain.vaults.items()},
    )


def check(evidence: Evidence) -> Verdict:
    """Decides. Reads only; some seconds of computing. Raises `CannotJudge` if something cannot be read."""
    sent, acknowledged = BetList.read(evidence.sent), BetList.read(evidence.acknowledged)
    chain = read_chain(evidence.rpc_url, evidence.program_id)
    explanations = Explanations(chain, partial(batches_of, evidence.journal), sent)

    records = sorted(chain.records, key=lambda record: (record.lane, record.number))
    explained = [(record, found) for record in records if (found := explanations.of(record)) is not None]
    unexplained = [record.name for record in records if explanations.of(record) is None]
    settled: dict[str, tuple[int, Bet]] = {}
    times: Counter[str] = Counter()
    never_sent: set[str] = set()
    for record, found in explained:
        for bet in found.bets:
            settled.setdefault(bet.bet_id, (record.lane, bet))
            times[bet.bet_id] += 1
            if bet not in sent:
                never_sent.add(bet.bet_id)
    contents = {bet.digest for _, found in explained for bet in found.bets}
    lost = [bet.bet_id for bet in acknowledged if bet.digest not in contents]
    twice = [bet_id for bet_id, count in times.items() if count > 1]
    misfits = [*_misfits_of_records(chain, explained), *_misfits_of_lanes(chain)]

    expected = _deposited(evidence.deposits, evidence.lanes)
    for lane, bet in settled.values():
        expected[lane, bet.player] += bet.delta
        expected[lane, HOUSE] -= bet.delta
    held = _held(chain)
    differences = [
        BalanceDifference(account=account, lane=lane, expected=expected[lane, account], found=held[lane, account])
        for lane, account in sorted({*expected, *held})
        if expected[lane, account] != held[lane, account]
    ]
    return Verdict(
        slot=chain.slot,
        batches=len(records),
        sent=len(sent),
        acknowledged=len(acknowledged),
        settled=len(settled),
        lost=len(lost),
        lost_ids=shown(lost),
        settled_twice=len(twice),
        settled_twice_ids=shown(twice),
        never_sent=len(never_sent),
        never_sent_ids=shown(never_sent),
        unexplained=len(unexplained),
        unexplained_batches=tuple(unexplained[:SHOWN]),
        misfit_count=len(misfits),
        misfits=tuple(misfits[:SHOWN]),
        balance_difference_count=len(differences),
        balance_differences=tuple(differences[:SHOWN]),
        lamports_expected=sum(expected.values()),
        lamports_found=sum(held.values()),
    )


def _deposited(deposits: Deposits, lanes: int) -> Counter[Account]:
    houses = {(lane, HOUSE): lamports for lane, lamports in deposits.houses.items()}
    try:
        players = {(lane_of(player, lanes), player): lamports for player, lamports in deposits.players.items()}
    except ValueError:
        raise CannotJudge("the deposits name a player that is no key: give 32 bytes in base58") from None
    return Counter({**houses, **players})


def _held(chain: Chain) -> Counter[Account]:
    houses = {(lane, HOUSE): house.lamports for lane, house in chain.houses.items()}
    players = {account: vault.lamports for account, vault in chain.vaults.items()}
    return Counter({**houses, **players})


def _misfits_of_records(chain: Chain, explained: list[tuple[Record, Explanation]]) -> Iterator[str]:
    """What records say otherwise than their bets."""
    for record, (bets, capacity) in explained:
        players = len({bet.player for bet in bets})
        house_delta = -sum(bet.delta for bet in bets)
        circuit = chain.circuits.get(record.circuit_id)
        if record.bet_count != len(bets):
            yield f"record {record.name} counts {record.bet_count} bets, its root {len(bets)}"
        if record.player_count != players:
            yield f"record {record.name} counts {record.player_count} players, its root {players}"
        if record.house_delta != house_delta:
            yield f"record {record.name} gives the house {record.house_delta} lamports, its bets {house_delta}"
        if circuit is None or circuit.bets != capacity or circuit.players < players:
            yield f"record {record.name} names circuit {record.circuit_id}, which does not give its root"
        if record.slot > chain.slot:
            yield f"record {record.name} is of slot {record.slot}, which is not final"


def _misfits_of_lanes(chain: Chain) -> Iterator[str]:
    """What houses say otherwise than records and vaults, and accounts that the program cannot have written."""
    for lane, house in chain.houses.items():
        highest = max((record.number for record in chain.records if record.lane == lane), default=0)
        if house.highest_batch != highest:
            yield f"house {lane} names batch {house.highest_batch} as its highest, the highest record is {highest}"
        indices = sorted(vault.vault_index for (of_lane, _), vault in chain.vaults.items() if of_lane == lane)
        if indices != list(range(1, house.vault_count + 1)):
            yield f"house {lane} counts {house.vault_count} vaults, {len(indices)} are there, or their indices do not follow"
    for record in chain.records:
        if record.lane not in chain.houses:
            yield f"record {record.name} is of a lane without a house"
    for address in chain.strangers:
        yield f"account {address} is none that the program can have written there"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    rpc_url: Annotated[str, typer.Option(help="The node; what it shows as finalized is judged.")],
    program_id: Annotated[str, typer.Option(help="Address of the settlement program.")],
    journal: Annotated[
        Path, typer.Option(help="The journal's SQLite file: hints at which bets made up a batch, is not believed.")
    ],
    sent: Annotated[
        list[Path], typer.Option(help="Bets that clients sent: JSON lines, or a folder of *.jsonl. May be repeated.")
    ],
    acknowledged: Annotated[list[Path], typer.Option(help="Bets that were acknowledged to them, likewise.")],
    deposits: Annotated[
        Path,
        typer.Option(
            help='Lamports before the first bet: {"houses": {"0": …}, "players": {"<key>": …}}, rent included.'
        ),
    ],
    lanes: Annotated[int, typer.Option(min=1, help="Number of lanes.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the verdict to this file as JSON.")] = None,
) -> None:
    """Decide from the chain whether every acknowledged bet is settled exactly once, to the lamport.

    Exit status: 0 it is, 1 it is not, 2 something cannot be read.
    """
    try:
        evidence = Evidence(
            rpc_url=rpc_url,
            program_id=program_id,
            journal=journal,
            sent=tuple(sent),
            acknowledged=tuple(acknowledged),
            deposits=_deposits_in(deposits),
            lanes=lanes,
        )
        verdict = check(evidence)
        if json_file is not None:
            _write(json_file, verdict)
    except CannotJudge as error:
        typer.echo(f"cannot judge: {error}", err=True)
        raise typer.Exit(CANNOT_JUDGE) from None
    typer.echo(
        f"{verdict.sent} bets sent, {verdict.acknowledged} acknowledged, {verdict.settled} settled in {verdict.batches} batches;"
        f" {verdict.lost} lost, {verdict.settled_twice} settled twice, {verdict.never_sent} never sent;"
        f" as of finalized slot {verdict.slot}"
    )
    for finding in verdict.findings():
        typer.echo(f"- {finding}")
    typer.echo("agreed, to the lamport" if verdict.agreed else "NOT agreed")
    if not verdict.agreed:
        raise typer.Exit(DISAGREED)


def _deposits_in(file: Path) -> Deposits:
    try:
        return Deposits.model_validate_json(file.read_bytes())
    except OSError as error:
        raise CannotJudge(f"{file}: {error.strerror}: name the file of the deposits") from None
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise CannotJudge(f"{file}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None


def _write(file: Path, verdict: Verdict) -> None:
    try:
        file.write_text(verdict.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise CannotJudge(f"{file}: {error.strerror}: name a file that can be written") from None


if __name__ == "__main__":
    app()
