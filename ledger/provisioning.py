"""What an operator sets up on a ledger before the first batch: config, circuits, houses, vaults, lookup tables, money.

Every `ensure_…` looks first and does only what is missing, so any of them can be interrupted and run again. It must never
change what is there already: what differs from what is wanted is an error that shows both. Nothing here is for settlements.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from ledger import instructions, layout
from ledger.clusters import PUBLIC_CLUSTERS
from ledger.landing import Job, Lander, Polling
from ledger.lookup_tables import needing_tables
from ledger.many import each_done
from ledger.rpc import READ_COMMITMENT, Account, RequestRefused, RpcClient
from ledger.statuses import has_landed, is_expired
from ledger.table_filling import TableFiller
from settlement.errors import LedgerMisconfigured, LedgerUnavailable
from settlement.shapes import SHAPES, Shape
from settlement.verifying_keys import verifying_key_digest

LANES_AT_ONCE: Final = 4
"""On which vaults are opened at the same time."""
VAULTS_PER_TRANSACTION: Final = 12
"""A transaction has no room for more."""
VAULTS_PER_LOOK: Final = 25 * VAULTS_PER_TRANSACTION
"""So many are opened on a lane between two looks at which circuits are registered."""
TRANSFERS_PER_TRANSACTION: Final = 20
"""A transaction has no room for more."""

LaneProgress = Callable[[int, int], None]
"""Called with how many lanes of how many are done."""

_T = TypeVar("_T")


class Provisioner:
    """Sets up one ledger with the authority's key, which pays and rules the program.

    Every method raises `LedgerUnavailable`, or `LedgerMisconfigured` with the remedy.
    """

    def __init__(self, rpc: RpcClient, authority: Keypair, *, priority_fee_micro_lamports: int) -> None:
        self._rpc = rpc
        self._authority_key = authority.pubkey()
        self._lander = Lander(rpc, authority, priority_fee_micro_lamports=priority_fee_micro_lamports)
        self._slots_taken: set[int] = set()

    async def ensure_config(self, program: Pubkey) -> bool:
        """Initialises the program with this authority; answers whether it had to."""
        account = await self._account(layout.config_address(program))
        if account is None or account.owner != program:
            key = self._authority_key
            await self._lander.land(
                [Job("initialising the program", [instructions.initialise(program, key, key, key)])]
            )
            return True
        found = layout.Config.decode(account.data).authority
        if found != self._authority_key:
            raise LedgerMisconfigured(
                f"program {program} on {self._rpc.name} obeys authority {found}, not {self._authority_key}: use the file"
                " of that key, or deploy under another program key"
            )
        return False

    async def ensure_circuit(self, program: Pubkey, shape: Shape, verifying_key: bytes) -> bool:
        """Registers a verifying key (`encode_verifying_key`) for a shape; answers whether it had to."""
        account = await self._account(layout.circuit_address(program, shape.circuit_id))
        if account is None or account.owner != program:
            register = instructions.register_circuit(
                program,
                self._authority_key,
                shape.circuit_id,
                bets=shape.bets,
                players=shape.players,
                verifying_key=verifying_key,
            )
            await self._lander.land([Job(f"registering circuit {shape.circuit_id}", [register])])
            return True
        found = layout.Circuit.decode(account.data)
        if (found.bets, found.players, found.verifying_key) != (shape.bets, shape.players, verifying_key):
            raise LedgerMisconfigured(
                f"circuit {shape.circuit_id} of program {program} on {self._rpc.name} is {found.bets}x{found.players} with"
                f" verifying key {verifying_key_digest(found.verifying_key)}, not {shape.name} with"
                f" {verifying_key_digest(verifying_key)}: use the key files that belong to it (CROUPIER_CIRCUIT_KEYS), or deploy"
                " under another program key; the embedded stack starts afresh after `make clean`"
            )
        return False

    async def ensure_houses(self, program: Pubkey, lanes: int) -> int:
        """Opens the houses of lanes 0…`lanes`-1 that are not open; answers how many."""
        addresses = [layout.house_address(program, lane) for lane in range(lanes)]
        missing = await self._missing(program, addresses)
        opening = [
            Job(f"opening the house of lane {lane}", [instructions.open_house(program, self._authority_key, lane)])
            for lane in missing
        ]
        # The last by itself before the others: it tells how many lanes there are (`ledger.lanes`), also if this is interrupted.
        await self._lander.land(opening[-1:])
        await self._lander.land(opening[:-1])
        return len(missing)

    async def ensure_vaults(
        self, program: Pubkey, lane: int, players: Sequence[str], shapes: Sequence[Shape] = ()
    ) -> int:
        """Opens the vaults that `players` (base58 keys) lack on the lane; answers how many.

        If batches are proven in `shapes` that need lookup tables, the vaults are in them before they are opened: whoever has a vault
        can be settled with.
        """
        owners = [Pubkey.from_string(player) for player in dict.fromkeys(players)]
        vaults = [layout.vault_address(program, lane, owner) for owner in owners]
        missing = await self._missing(program, vaults)
        if owners:
            await self.ensure_tables(program, lane, shapes, [vaults[at] for at in missing])
        opening = [instructions.open_vault(program, self._authority_key, lane, owners[at]) for at in missing]
        await self._lander.land([Job("opening vaults", chunk) for chunk in _chunks(opening, VAULTS_PER_TRANSACTION)])
        return len(missing)

    async def ensure_vaults_on_lanes(
        self, program: Pubkey, players: Mapping[int, Sequence[str]], shapes: Sequence[Shape] = ()
    ) -> int:
        """As `ensure_vaults`, for players by lane."""
        opening = [self.ensure_vaults(program, lane, of_lane, shapes) for lane, of_lane in sorted(players.items())]
        return sum(await each_done(opening, LANES_AT_ONCE))

    async def ensure_tables(
        self, program: Pubkey, lane: int, shapes: Sequence[Shape], opening: Sequence[Pubkey] = ()
    ) -> int:
        """Puts the vaults of an open lane, and those `opening`, into lookup tables if `shapes` need them; answers how many entries
        were added.
        """
        if not (needing := needing_tables(shapes)):
            return 0
        return await TableFiller(self._rpc, self._lander, self._authority_key, program, lane, self._slots_taken).fill(
            needing, opening
        )

    async def ensure_room(self, program: Pubkey, lanes: int, shapes: Sequence[Shape], progress: LaneProgress) -> None:
        """Puts the vaults of lanes 0…`lanes`-1, which are open, into the lookup tables that `shapes` need beside the registered ones.

        To be called before `shapes` are registered, so that none is without room, and again afterwards: whoever opens vaults goes by
        what is registered (`open_vaults`), and may have opened some in between.
        """
        registered = await self.registered_shapes(program)
        wanted = [shape for shape in SHAPES if shape in shapes or shape in registered]
        for lane in range(lanes):
            progress(lane, lanes)
            await self.ensure_tables(program, lane, wanted)
        progress(lanes, lanes)

    async def open_vaults(self, program: Pubkey, players: Mapping[int, Sequence[str]]) -> None:
        """As `ensure_vaults`, for players by lane and for the shapes that are registered, also if some are registered meanwhile."""
        opening = [self._open_vaults(program, lane, of_lane) for lane, of_lane in sorted(players.items())]
        await each_done(opening, LANES_AT_ONCE)

    async def _open_vaults(self, program: Pubkey, lane: int, players: Sequence[str]) -> None:
        # By the chain's word, not by what is set here: whoever settles may have set another.
        shapes = await self.registered_shapes(program)
        for some in _chunks(players, VAULTS_PER_LOOK):
            await self.ensure_vaults(program, lane, some, shapes)
            # Circuits that were registered meanwhile may need tables in which these vaults are not.
            while (registered := await self.registered_shapes(program)) != shapes:
                shapes = registered
                await self.ensure_tables(program, lane, shapes)

    async def registered_shapes(self, program: Pubkey) -> tuple[Shape, ...]:
        """Those whose circuits the program has: batches of no others can be settled, whatever anybody has set."""
        circuits = [layout.circuit_address(program, shape.circuit_id) for shape in SHAPES]
        missing = await self._missing(program, circuits)
        return tuple(shape for at, shape in enumerate(SHAPES) if at not in missing)

    async def transfer(self, lamports: Mapping[Pubkey, int]) -> None:
        """Sends lamports from the authority to addresses on a ledger of one's own, as benchmarks and tests do.

        It is forgotten when the process ends: if it is interrupted, some may have arrived or still arrive. What an operator pays
        out goes by way of the outbox (`operations.top_ups`).
        """
        transfers = [
            transfer(TransferParams(from_pubkey=self._authority_key, to_pubkey=address, lamports=amount))
            for address, amount in lamports.items()
        ]
        await self._lander.land([Job("sending SOL", chunk) for chunk in _chunks(transfers, TRANSFERS_PER_TRANSACTION)])

    async def balances(self, addresses: Sequence[Pubkey]) -> list[int]:
        """Lamports at each address, rent minimum included."""
        accounts = await self._rpc.accounts(addresses, READ_COMMITMENT)
        return [account.lamports if account else 0 for account in accounts]

    async def airdrop(self, address: Pubkey, lamports: int) -> None:
        """Draws lamports from a local ledger's faucet. `LedgerMisconfigured` on any ledger that has none."""
        cluster = PUBLIC_CLUSTERS.get(await self._rpc.genesis_hash())
        if cluster is not None:
            raise LedgerMisconfigured(
                f"{self._rpc.name} is {cluster}, which has no faucet for Croupier: send {lamports} lamports to {address}"
            )
        try:
            signature = await self._rpc.request_airdrop(address, lamports)
        except RequestRefused as refusal:
            raise LedgerMisconfigured(f"{refusal}. Send {lamports} lamports to {address} yourself") from None
        # Which blockhash the faucet took is not told, but it cannot be newer than the newest one now.
        newest = await self._rpc.latest_blockhash("processed")
        polling = Polling(self._rpc.name, f"an airdrop of {lamports} lamports to {address}")
        while True:
            finalized = await self._rpc.epoch_info("finalized")
            [status] = await self._rpc.signature_statuses([signature])
            if has_landed(status.value, READ_COMMITMENT):
                return
            if is_expired(status.value, status.slot, newest.last_valid_block_height, finalized):
                raise LedgerUnavailable(f"{self._rpc.name} has lost the airdrop {signature}: ask again")
            await polling.wait()

    async def _account(self, address: Pubkey) -> Account | None:
        return (await self._rpc.account(address, READ_COMMITMENT)).value

    async def _missing(self, program: Pubkey, addresses: Sequence[Pubkey]) -> list[int]:
        """Positions of the addresses where the program has no account."""
        accounts = await self._rpc.accounts(addresses, READ_COMMITMENT)
        return [at for at, account in enumerate(accounts) if account is None or account.owner != program]


def _chunks(items: Sequence[_T], size: int) -> list[Sequence[_T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
