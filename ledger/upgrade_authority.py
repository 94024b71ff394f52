"""Passes on the right to upgrade a program, or ends it for ever. What is done counts only once it is final."""

from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from ledger import loader
from ledger.deployed import require_deployed, require_upgrade_authority, wait_for_program
from ledger.landing import Job, Lander
from ledger.rpc import RpcClient
from settlement.errors import LedgerMisconfigured


class UpgradeAuthority:
    """Acts with the upgrade authority's key; `payer` pays the fees.

    Every method looks first, so that it can be interrupted and run again: giving to whoever has it already does nothing.
    They raise `LedgerUnavailable`, or `LedgerMisconfigured` with the remedy.
    """

    def __init__(self, rpc: RpcClient, payer: Keypair, authority: Keypair, *, priority_fee_micro_lamports: int) -> None:
        self._rpc = rpc
        self._payer = payer.pubkey()
        self._authority = authority
        self._lander = Lander(rpc, payer, priority_fee_micro_lamports=priority_fee_micro_lamports)

    async def hand_over(self, program: Pubkey, new: Pubkey, new_key: Keypair | None) -> None:
        """Makes `new` the upgrade authority. `new_key`, if its key is at hand, signs too, so that it is known to be one."""
        authority = self._authority.pubkey()
        if new_key is None:
            change = loader.set_upgrade_authority(program, authority=authority, new=new)
        else:
            assert new_key.pubkey() == new
            change = loader.set_upgrade_authority_checked(program, authority=authority, new=new)
        await self._set(program, new, change, "handing the program over", [new_key] if new_key else [])

    async def freeze(self, program: Pubkey, code: bytes) -> None:
        """Ends all upgrades. Raises `LedgerMisconfigured` unless the program runs `code`; waits until that is final."""
        found = await require_deployed(self._rpc, program)
        if not found.runs(code):
            raise LedgerMisconfigured(
                f"program {program} on {self._rpc.name} does not run this release's code, and frozen it would never:"
                " run `python starter.py program upgrade` first"
            )
        # Code that a fork could still take back would be frozen out.
        await wait_for_program(
            self._rpc, program, "to be final", lambda final: final.runs(code), commitment="finalized"
        )
        change = loader.set_upgrade_authority(program, authority=self._authority.pubkey(), new=None)
        await self._set(program, None, change, "freezing the program", [])

    async def _set(
        self, program: Pubkey, new: Pubkey | None, change: Instruction, purpose: str, co_signers: list[Keypair]
    ) -> None:
        found = await require_deployed(self._rpc, program)
        if found.upgrade_authority != new:
            require_upgrade_authority(found, self._authority.pubkey(), self._rpc.name)
            signers = [key for key in (self._authority, *co_signers) if key.pubkey() != self._payer]
            await self._lander.land([Job(purpose, [change], signers)])
        await self.wait_until_final(program, new)

    async def wait_until_final(self, program: Pubkey, holder: Pubkey | None) -> None:
        """Returns once no fork can take the right to upgrade from `holder` again; None: frozen."""
        await wait_for_program(
            self._rpc,
            program,
            "to change hands finally",
            lambda final: final.upgrade_authority == holder,
            commitment="finalized",
        )
