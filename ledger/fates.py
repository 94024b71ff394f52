"""What has become of transactions that move money outside settlements, by the word of all nodes: all that lets one be signed again.

It must never call one dead on a single node's word where several are configured: that would pay twice. The rules are those of
`ledger.judging`: finality of all nodes is read first, then what they know; who does not know a transaction proves that it cannot land
only by his own finalized height, as of a slot that no node is beyond, with his history reaching back far enough, and while no other
node shows it; two must prove it. That one has landed is believed of one node.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ledger.judging import last_valid_height, measure
from ledger.nodes import QUORUM, Nodes, joined
from ledger.rpc import Commitment, EpochInfo, RequestRefused, RpcClient, Seen, SignatureStatus
from ledger.statuses import has_failed, is_expired
from settlement.errors import CroupierError, LedgerMisconfigured, LedgerUnavailable

_LEVELS: Final = (None, "processed", "confirmed", "finalized")


class Signed(Protocol):
    """A transaction that was signed. `signed_after_slot`: a finalized slot that is older than any in which it can land."""

    @property
    def signature(self) -> str: ...
    @property
    def last_valid_block_height(self) -> int: ...
    @property
    def signed_after_slot(self) -> int: ...


@dataclass(frozen=True)
class Dated:
    """A recent blockhash, and between which slot and which height what is signed with it may land."""

    blockhash: str
    last_valid_block_height: int
    signed_after_slot: int


@dataclass(frozen=True)
class Finding:
    """What the nodes say of one transaction.

    `status`: the furthest that a node shows; of one that lags only what is final. `is_dead`: it has failed for good, or can never land.
    `doubt`: why it is not said to be dead, though a node says so. `is_forgotten`: all nodes are heard, and history is all they lack.
    """

    status: SignatureStatus | None
    is_dead: bool
    doubt: str | None = None
    is_forgotten: bool = False


async def dated_blockhash(nodes: Nodes, commitment: Commitment) -> Dated:
    """A node's blockhash. Until when it is good is not believed of that node alone: too low, and what is alive would be called dead."""

    async def dated(node: RpcClient) -> Dated:
        named = await node.latest_blockhash(commitment)
        # Only after it: how far above what is final it may be is known then. Nothing is signed with it yet.
        finalized, silent = await nodes.everywhere(lambda node: node.epoch_info("finalized"))
        if not finalized:
            raise joined(silent.values())
        last_valid = named.last_valid_block_height
        if len(nodes.nodes) > 1:
            last_valid = last_valid_height(last_valid, [info.block_height for info in finalized.values()])
        return Dated(named.blockhash, last_valid, measure([info.absolute_slot for info in finalized.values()]))

    return await nodes.on_one(dated)


async def find(nodes: Nodes, transactions: Sequence[Signed]) -> tuple[int, list[Finding]]:
    """The finalized height by the measure of all nodes, and what they say of `transactions`, in that order.

    Raises what the nodes do if none answers.
    """
    # The order matters: the statuses must be at least as fresh as what is called final.
    finalized, silent = await nodes.everywhere(lambda node: node.epoch_info("finalized"))
    signatures = [transaction.signature for transaction in transactions]
    statuses, silent_on_statuses = await nodes.everywhere(
        lambda node: node.signature_statuses(signatures), among=finalized
    )
    silent |= silent_on_statuses
    if not statuses:
        raise joined(silent.values())
    common = measure([finalized[node].absolute_slot for node in statuses])
    hearing = _Hearing(nodes, {node: finalized[node] for node in statuses}, silent, common)
    findings = [
        await hearing.find(transaction, {node: seen[at] for node, seen in statuses.items()})
        for at, transaction in enumerate(transactions)
    ]
    return measure([finalized[node].block_height for node in statuses]), findings


class _Hearing:
    """What the nodes have called final, and how far back their histories go. `common`: the slot that answers must reach."""

    def __init__(
        self,
        nodes: Nodes,
        finalized: Mapping[RpcClient, EpochInfo],
        silent: Mapping[RpcClient, CroupierError],
        common: int,
    ) -> None:
        self._finalized = finalized
        self._silence = [str(error) for error in silent.values()]
        self._common = common
        self._count = len(nodes.nodes)
        self._required = min(QUORUM, self._count)
        self._kept_from: dict[RpcClient, int | CroupierError] = {}

    async def find(self, transaction: Signed, seen: Mapping[RpcClient, Seen[SignatureStatus | None]]) -> Finding:
        shown = {
            node: answer.value
            for node, answer in seen.items()
            if answer.value is not None
            and (answer.value.confirmation_status == "finalized" or answer.slot >= self._measure(node))
        }
        furthest = max(shown.values(), key=_progress, default=None)
        agreeing: list[RpcClient] = []
        is_said = False
        forgetful: list[str] = []
        reasons = list(self._silence)
        for node, answer in seen.items():
            if not has_failed(answer.value) and not is_expired(
                answer.value,
                answer.slot,
                transaction.last_valid_block_height,
                self._finalized[node].model_copy(update={"absolute_slot": self._measure(node)}),
            ):
                reasons.append(f"{node.name} does not say so yet")
                continue
            is_said = True
            if has_failed(answer.value):
                agreeing.append(node)
            elif (teller := self._teller(node, shown)) is not None:
                reasons.append(f"{node.name} does not know it, but {teller.name} does")
            elif isinstance(kept_from := await self._history(node), CroupierError):
                reasons.append(f"{node.name} does not say how far back its history goes: {kept_from}")
            elif kept_from > transaction.signed_after_slot:
                forgetful.append(
                    f"{node.name} has forgotten the blocks before slot {kept_from:,} and cannot tell what became of"
                    f" {transaction.signature}, signed about slot {transaction.signed_after_slot:,}"
                )
            else:
                agreeing.append(node)
        if len(agreeing) >= self._required:
            return Finding(furthest, is_dead=True)
        if not is_said:
            return Finding(furthest, is_dead=False)
        doubt = "; ".join([*forgetful, *reasons])
        if self._required > 1:
            names = ", ".join(node.name for node in agreeing) or "none"
            doubt = f"{self._required} nodes must say that {transaction.signature} can never land, and {names} does: {doubt}"
        is_forgotten = bool(forgetful) and len(agreeing) + len(forgetful) == self._count
        return Finding(furthest, is_dead=False, doubt=doubt, is_forgotten=is_forgotten)

    def _measure(self, node: RpcClient) -> int:
        # Its own word it must bear out in any case.
        return max(self._common, self._finalized[node].absolute_slot)

    def _teller(self, node: RpcClient, shown: Mapping[RpcClient, SignatureStatus]) -> RpcClient | None:
        """Who shows what the node does not know, unless its own finality tells that this was undone."""
        return next(
            (
                teller
                for teller, status in shown.items()
                if status.confirmation_status == "finalized" or status.slot > self._finalized[node].absolute_slot
            ),
            None,
        )

    async def _history(self, node: RpcClient) -> int | CroupierError:
        """The oldest slot it keeps. One that has forgotten in which a transaction may have landed proves nothing by not knowing it."""
        if node not in self._kept_from:
            try:
                self._kept_from[node] = await node.first_available_block()
            except (LedgerUnavailable, LedgerMisconfigured, RequestRefused) as error:
                self._kept_from[node] = error
        return self._kept_from[node]


def _progress(status: SignatureStatus) -> tuple[int, bool]:
    return _LEVELS.index(status.confirmation_status), status.err is None
