"""A local ledger with the program, its key files, and commands that move money on it."""

import asyncio
import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from ledger import layout
from ledger.provisioning import Provisioner
from ledger.rpc import RpcClient
from localnet.server import Running
from settings import Commitment, Settings
from tests.e2e.machine import Finished, run

SOL: Final = 1_000_000_000
LANE: Final = 0
VAULT_BALANCE: Final = SOL
PLAYERS_AT_ONCE: Final = 16
"""Made together, which takes no longer than one."""
HOUSE_BALANCE: Final = 5 * SOL


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)

    def show(self, line: str) -> None:
        del line


@dataclass(frozen=True)
class Player:
    """A player and his key file."""

    keypair: Keypair
    file: Path

    @property
    def key(self) -> str:
        return str(self.keypair.pubkey())


@dataclass
class Bank:
    """One provisioned ledger. `var`: the state directory of commands."""

    var: Path
    node: Running
    rpc: RpcClient
    provisioner: Provisioner
    program: Pubkey
    authority: Keypair
    _keys: int = field(default=0)
    _players: list[Player] = field(default_factory=list[Player])

    @property
    def url(self) -> str:
        return self.node.url

    @property
    def authority_file(self) -> Path:
        return self.var / "authority.json"

    @property
    def house(self) -> Pubkey:
        return layout.house_address(self.program, LANE)

    @property
    def variables(self) -> dict[str, str]:
        return {
            "CROUPIER_VAR": str(self.var),
            "CROUPIER_RPC_URL": self.url,
            "CROUPIER_PROGRAM_ID": str(self.program),
            "CROUPIER_AUTHORITY_KEYPAIR": str(self.authority_file),
            "CROUPIER_JOURNAL_URL": f"sqlite:///{self.var / 'journal.db'}",
            "CROUPIER_COMMITMENT": "confirmed",
        }

    @property
    def settings(self) -> Settings:
        """As commands have them by `variables`."""
        return Settings(
            rpc_url=self.url,  # pyright: ignore[reportArgumentType]
            program_id=str(self.program),
            authority_keypair=self.authority_file,
            journal_url=f"sqlite:///{self.var / 'journal.db'}",
            commitment=Commitment.CONFIRMED,
        )

    @property
    def records(self) -> list[Path]:
        """What the outbox holds."""
        return sorted((self.var / "transfers").glob("*.json"))

    def stranger(self, keypair: Keypair | None = None) -> Player:
        """Somebody with a key file and nothing else."""
        self._keys += 1
        player = Player(keypair or Keypair(), self.var / f"key-{self._keys}.json")
        player.file.write_text(json.dumps(list(bytes(player.keypair))))
        player.file.chmod(0o600)
        return player

    async def player(self) -> Player:
        """Somebody with a vault and money, in it and outside, whom no other test has."""
        if not self._players:
            self._players = [self.stranger() for _ in range(PLAYERS_AT_ONCE)]
            await self.provisioner.ensure_vaults(self.program, LANE, [player.key for player in self._players])
            await self.provisioner.transfer(
                {self.vault(player): VAULT_BALANCE for player in self._players}
                | {player.keypair.pubkey(): SOL for player in self._players}
            )
        return self._players.pop()

    @contextmanager
    def fast(self) -> Generator[None]:
        """Blockhashes expire within a second or two."""
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(self.node.ledger, "_slot_seconds", 0.004)
            yield

    async def passes(self, height: int) -> None:
        """Returns when that block is final and others are on it."""
        async with asyncio.timeout(20):
            while True:
                if (await self.rpc.epoch_info("finalized")).block_height > height:
                    return
                await asyncio.sleep(0.02)

    def vault(self, player: Player) -> Pubkey:
        return layout.vault_address(self.program, LANE, player.keypair.pubkey())

    async def holds(self, *addresses: Pubkey) -> list[int]:
        return await self.provisioner.balances(addresses)

    async def starter(self, *arguments: str | Path | int, **variables: str) -> Finished:
        """`starter.py` as a process."""
        return await run([sys.executable, "starter.py", *map(str, arguments)], {**self.variables, **variables})
