"""What anybody may read of the program's accounts, without a key: circuits, houses, vaults, batch records and what a transaction moved.

It must never take another program's account for one of ours: before an account is made, anybody can send lamports to its address.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Final, Self, TypeGuard, TypeVar

from solders.pubkey import Pubkey

from ledger import layout
from ledger.clusters import is_local_ledger
from ledger.judging import measure
from ledger.nodes import QUORUM, Doubted, Nodes, joined
from ledger.rpc import (
    MAX_ACCOUNTS_PER_REQUEST,
    READ_COMMITMENT,
    Account,
    Commitment,
    ConfirmedAt,
    EpochInfo,
    RequestRefused,
    RpcClient,
    Seen,
)
from settlement.batches import House, Movement, OnChainBatch, Vault
from settlement.circuits import RegisteredCircuit, RegisteredCircuits
from settlement.errors import LedgerMisconfigured, LedgerUnavailable
from settlement.shapes import SHAPES
from settlement.verifying_keys import verifying_key_digest

PROVISION_REMEDY: Final = "run `python starter.py provision`"

_T = TypeVar("_T")


class ProgramReader:
    """The reading half of `settlement.ports.Ledger` . `commitment`: when a batch counts as settled."""

    def __init__(self, rpc: RpcClient, program: Pubkey, *, commitment: ConfirmedAt) -> None:
        self._rpc = rpc
        self._nodes = Nodes.of(rpc)
        self._program = program
        self._commitment: ConfirmedAt = commitment
        self._rent_minimums: dict[int, int] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections to the node."""
        await self._rpc.aclose()

    async def check(self) -> layout.Config:
        """Raises `LedgerUnavailable` or `LedgerMisconfigured` unless the program is there and initialised."""
        program, config = await self._rpc.accounts(
            [self._program, layout.config_address(self._program)], READ_COMMITMENT
        )
        if program is None or not program.executable:
            raise LedgerMisconfigured(
                f"program {self._program} is not deployed on {self._rpc.name}: {PROVISION_REMEDY},"
                " or set CROUPIER_PROGRAM_ID to one that is"
            )
        if not self._is_ours(config):
            raise LedgerMisconfigured(
                f"program {self._program} on {self._rpc.name} is not initialised: {PROVISION_REMEDY}"
            )
        return self._decoded(layout.Config.decode, config, layout.config_address(self._program))

    async def circuits(self) -> RegisteredCircuits:
        """See the port."""
        accounts = await self._rpc.accounts(
            [layout.circuit_address(self._program, shape.circuit_id) for shape in SHAPES], READ_COMMITMENT
        )
        return RegisteredCircuits(
            place=f"program {self._program} on {self._rpc.name}",
            local=await is_local_ledger(self._rpc),
            circuits=tuple(_registered(account) for account in accounts if self._is_ours(account)),
        )

    async def every_circuit(self) -> list[RegisteredCircuit]:
        """All that are registered, whatever their ids, in their order.

        Not every node lists accounts: raises `RequestRefused`, too, where it says no.
        """
        found = await self._rpc.program_accounts(
            self._program,
            size=layout.CIRCUIT_BYTES,
            memcmp={layout.KIND_OFFSET: bytes([layout.Kind.CIRCUIT])},
            commitment=READ_COMMITMENT,
        )
        return sorted((_registered(keyed.account) for keyed in found), key=lambda circuit: circuit.circuit_id)

    async def house(self, lane: int) -> House:
        """See the port. As the node shows it that has seen most: by one that lags, numbers would look free that are not."""
        address = layout.house_address(self._program, lane)
        seen, silent = await self._nodes.everywhere(lambda node: node.account(address, READ_COMMITMENT))
        if not seen:
            raise joined(silent.values())
        shown = [account.value for account in sorted(seen.values(), key=lambda account: account.slot)]
        houses = [self._decoded(layout.House.decode, account, address) for account in shown if self._is_ours(account)]
        latest = shown[-1]
        if not self._is_ours(latest):
            raise self._no_house(lane)
        return House(
            lane=lane,
            available=latest.lamports - await self._rent_minimum(layout.HOUSE_BYTES),
            vault_count=houses[-1].vault_count,
            highest_batch=max(house.highest_batch for house in houses),
        )

    async def vaults(self, lane: int, players: Sequence[str], *, by_quorum: bool = False) -> dict[str, Vault]:
        """See the port. A node's word counts only as of a slot at or above what is finalized by the measure of all."""
        minimum = await self._rent_minimum(layout.VAULT_BYTES)
        finalized_slot = await self._finalized_slot()
        found: dict[str, Vault] = {}
        for start in range(0, len(players), MAX_ACCOUNTS_PER_REQUEST):
            chunk = players[start : start + MAX_ACCOUNTS_PER_REQUEST]
            shown = await self._vaults_shown(lane, chunk, minimum, finalized_slot, QUORUM if by_quorum else 1)
            # Of several words on whether to refuse a bet the kindest: what it is wrong about, the next simulation tells.
            for vault in (vault for vaults in (shown if by_quorum else shown[-1:]) for vault in vaults.values()):
                if vault.player not in found or vault.available > found[vault.player].available:
                    found[vault.player] = vault
        return found

    async def _vaults_shown(
        self, lane: int, players: Sequence[str], minimum: int, finalized_slot: int, quorum: int
    ) -> list[dict[str, Vault]]:
        """What each fit node shows, the freshest last. Raises `LedgerUnavailable` if fewer than `quorum` (or all) are fit."""
        addresses = {player: self._vault(lane, player) for player in players}

        async def shown_by(node: RpcClient) -> tuple[int, dict[str, Vault]]:
            seen = await node.accounts_seen(list(addresses.values()), READ_COMMITMENT)
            if seen.slot < finalized_slot:
                raise Doubted(
                    f"{node.name} shows vaults as of slot {seen.slot}, behind finalized slot {finalized_slot}"
                )
            return seen.slot, {
                player: Vault(
                    player=player,
                    index=self._decoded(layout.Vault.decode, account, address).index,
                    available=account.lamports - minimum,
                )
                for (player, address), account in zip(addresses.items(), seen.value, strict=True)
                if self._is_ours(account)
            }

        shown, silent = await self._nodes.everywhere(shown_by)
        if not shown:
            raise joined(silent.values())
        required = min(quorum, len(self._nodes.nodes))
        if len(shown) < required:
            raise LedgerUnavailable(
                f"what the vaults of lane {lane} lack is said by {', '.join(node.name for node in shown)} alone, which"
                f" {required} nodes must say: {'; '.join(map(str, silent.values()))}"
            )
        return [vaults for _, vaults in sorted(shown.values(), key=lambda answer: answer[0])]

    async def batch_record(self, lane: int, number: int) -> OnChainBatch | None:
        """See the port."""
        return (await self._record(lane, number, self._commitment)).value

    async def batch_records(self, lane: int) -> list[OnChainBatch]:
        """See the port; in the order of their numbers."""
        found = await self._rpc.program_accounts(
            self._program,
            size=layout.BATCH_BYTES,
            memcmp={
                layout.KIND_OFFSET: bytes([layout.Kind.BATCH]),
                layout.LANE_OFFSET: lane.to_bytes(2, "little"),
            },
            commitment="finalized",
        )
        return sorted(
            (self._on_chain(keyed.account, keyed.pubkey) for keyed in found), key=lambda record: record.number
        )

    async def movement(self, signature: str, lane: int, players: Sequence[str]) -> Movement | None:
        """See the port. A player whose vault the transaction does not name has moved nothing."""
        try:
            transaction = await self._rpc.transaction(signature, "finalized")
        except RequestRefused:
            # What is no signature at all names no transaction either.
            return None
        if transaction is None or transaction.meta is None:
            return None
        meta = transaction.meta
        change = {
            key: after - before
            for key, before, after in zip(transaction.account_keys, meta.pre_balances, meta.post_balances, strict=True)
        }
        return Movement(
            succeeded=meta.err is None,
            slot=transaction.slot,
            house_delta=change.get(str(layout.house_address(self._program, lane)), 0),
            net_by_player={player: change.get(str(self._vault(lane, player)), 0) for player in players},
        )

    async def _finalized_slot(self) -> int:
        """What a node's word on cover must be as of, so that several nodes' can be weighed against each other."""
        if len(self._nodes.nodes) == 1:
            return 0
        return measure([info.absolute_slot for info in await self._finalized()])

    async def _finalized(self) -> list[EpochInfo]:
        """What each node that answers calls final."""
        finalized, silent = await self._nodes.everywhere(lambda node: node.epoch_info("finalized"))
        if not finalized:
            raise joined(silent.values())
        return list(finalized.values())

    def _no_house(self, lane: int) -> LedgerMisconfigured:
        return LedgerMisconfigured(
            f"lane {lane} has no house with program {self._program} on {self._rpc.name}: {PROVISION_REMEDY}"
        )

    async def _record(
        self, lane: int, number: int, commitment: Commitment, node: RpcClient | None = None
    ) -> Seen[OnChainBatch | None]:
        address = layout.batch_address(self._program, lane, number)
        seen = await (node or self._rpc).account(address, commitment)
        record = self._on_chain(seen.value, address) if self._is_ours(seen.value) else None
        return Seen[OnChainBatch | None](context=seen.context, value=record)

    async def _rent_minimum(self, size: int) -> int:
        if size not in self._rent_minimums:
            self._rent_minimums[size] = await self._rpc.rent_minimum(size)
        return self._rent_minimums[size]

    def _vault(self, lane: int, player: str) -> Pubkey:
        return layout.vault_address(self._program, lane, Pubkey.from_string(player))

    def _is_ours(self, account: Account | None) -> TypeGuard[Account]:
        # Before an account is made, anybody can send lamports to its address.
        return account is not None and account.owner == self._program

    def _on_chain(self, account: Account, address: Pubkey) -> OnChainBatch:
        return OnChainBatch(**asdict(self._decoded(layout.BatchRecord.decode, account, address)))

    def _decoded(self, decode: Callable[[bytes], _T], account: Account, address: Pubkey) -> _T:
        try:
            return decode(account.data)
        except layout.MalformedAccount as malformed:
            raise LedgerMisconfigured(
                f"account {address} of program {self._program} on {self._rpc.name} cannot be read ({malformed}): another"
                " release of the program has written it, or the node errs. Look at `python starter.py program show`, and"
                " set CROUPIER_PROGRAM_ID to a program of this release, or use the release that it is of"
            ) from None

    def require_authority(self, config: layout.Config, key: Pubkey) -> None:
        """Raises `LedgerMisconfigured` unless the program obeys `key`."""
        if config.authority != key:
            raise LedgerMisconfigured(
                f"program {self._program} on {self._rpc.name} obeys authority {config.authority}, not {key}: set"
                " CROUPIER_AUTHORITY_KEYPAIR to the file of that key"
            )


def _registered(account: Account) -> RegisteredCircuit:
    circuit = layout.Circuit.decode(account.data)
    return RegisteredCircuit(
        circuit_id=circuit.circuit_id,
        bets=circuit.bets,
        players=circuit.players,
        sha256=verifying_key_digest(circuit.verifying_key),
    )
