"""Several RPC nodes of one cluster as one client: reads fail over, what is sent goes to all, and who must not be believed is named.

It must never take the nodes of two clusters for one, retry an answer that a node has given (only what went unanswered is asked of
the next), or combine answers of several nodes into one: who needs several answers that fit together asks by `on_one`, and who
weighs the nodes against each other asks by `everywhere`.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self, TypeVar

import structlog
from solders.pubkey import Pubkey

from ledger.rpc import (
    HISTORY_NOT_AVAILABLE,
    Account,
    Commitment,
    ConfirmedAt,
    RequestRefused,
    RpcClient,
    Seen,
    SignatureStatus,
    Transaction,
)
from settlement.errors import CroupierError, LedgerMisconfigured, LedgerUnavailable

QUORUM: Final = 2
"""So many nodes must agree on what lets a batch be signed or numbered anew, where so many are configured."""

FAILED_NODE_SECONDS: Final = 5.0
"""For so long at least a node that gave no answer is asked last, and not asked to judge."""
FAILED_NODE_FACTOR: Final = 2
"""And for so many times as long as it was waited for in vain: one that hangs costs at most a third of the time."""
GRACE_SECONDS: Final = 2.0
"""Once enough nodes for what is asked have answered, the others have so long: they can decide without one that hangs.

As long as a quorum is not there, a slow node is waited for: without its word nothing might be decided ever.
"""

_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


class Doubted(LedgerUnavailable):
    """A node has answered, but so that a second one must say the same: the next is asked."""


class Defect(StrEnum):
    """Why a node's word is not taken. Logged once when it begins and once when it ends."""

    UNREACHABLE = "unreachable"
    BEHIND = "behind"
    AHEAD = "ahead of every other node"
    WITHOUT_HISTORY = "without history"
    DENIES = "denies what another node shows"
    OUTVOTED = "shows a record that others contradict"


@dataclass(frozen=True)
class _Failure:
    """Why a node gave no answer, and until when (by the monotonic clock) others go before it."""

    error: CroupierError
    until: float


class Nodes(RpcClient):
    """Nodes of one cluster, the preferred first. Every method raises what `RpcClient`'s does, once no node is left to ask.

    Besides: `LedgerMisconfigured`, naming the odd one, where the nodes are not all of one cluster.
    """

    def __init__(self, nodes: Sequence[RpcClient]) -> None:
        assert nodes
        self.name = ", ".join(node.name for node in nodes)
        self._nodes = tuple(nodes)
        self._failures: dict[RpcClient, _Failure] = {}
        self._genesis_hashes: dict[RpcClient, str] = {}
        self._defects: set[tuple[RpcClient, Defect]] = set()

    @classmethod
    def at(cls, urls: Sequence[str]) -> Self:
        """Those at `urls`. Several at one host are told apart by their place among them."""
        nodes = [RpcClient(url) for url in urls]
        count = Counter(node.name for node in nodes)
        for place, node in enumerate(nodes, start=1):
            if count[node.name] > 1:
                node.name = f"{node.name} (node {place} of {len(nodes)})"
        return cls(nodes)

    @classmethod
    def of(cls, rpc: RpcClient) -> "Nodes":
        """The nodes behind any client."""
        return rpc if isinstance(rpc, Nodes) else Nodes(rpc.nodes)

    async def aclose(self) -> None:
        """Closes the connections."""
        for node in self._nodes:
            await node.aclose()

    @property
    def nodes(self) -> Sequence[RpcClient]:
        """The nodes, the preferred first."""
        return self._nodes

    # One answer.

    async def on_one(self, ask: Callable[[RpcClient], Awaitable[_T]]) -> _T:
        """Has one node answer all that `ask` asks: the first, or the next where one gives no answer or does not offer it."""
        errors: list[CroupierError] = []
        for node in self._in_order():
            since = time.monotonic()
            if (stranger := await self._meet_one(node)) is not None:
                errors.append(stranger)
                continue
            try:
                answer = await ask(node)
            except (LedgerUnavailable, LedgerMisconfigured, RequestRefused) as error:
                if isinstance(error, RequestRefused) and error.code != HISTORY_NOT_AVAILABLE:
                    raise
                self._failed(node, error, since)
                errors.append(error)
            else:
                self._answered(node)
                return answer
        raise joined(errors)

    async def _call(self, method: str, params: list[Any], result_type: Any) -> Any:
        return await self.on_one(lambda node: node._call(method, params, result_type))

    async def transaction(self, signature: str, commitment: ConfirmedAt) -> Transaction | None:
        """None if no node knows such a transaction at this commitment: one node's null may be its lack of history."""
        errors: list[CroupierError] = []
        for node in self._in_order():
            since = time.monotonic()
            if (stranger := await self._meet_one(node)) is not None:
                errors.append(stranger)
                continue
            try:
                found = await node.transaction(signature, commitment)
            except (LedgerUnavailable, LedgerMisconfigured, RequestRefused) as error:
                self._failed(node, error, since)
                errors.append(error)
            else:
                if found is not None:
                    return found
        if errors:
            # Whether those who gave no answer know it, nobody can say, whatever others have against the request.
            raise joined([error for error in errors if not isinstance(error, RequestRefused)] or errors)
        return None

    async def accounts_seen(self, addresses: Sequence[Pubkey], commitment: Commitment) -> Seen[list[Account | None]]:
        """As `RpcClient`'s; a node that answers fewer or more than were asked for has not answered."""
        return await self.on_one(lambda node: node.accounts_seen(addresses, commitment))

    async def signature_statuses(
        self, signatures: Sequence[str], *, search_history: bool = True
    ) -> list[Seen[SignatureStatus | None]]:
        """As `accounts_seen`."""
        return await self.on_one(lambda node: node.signature_statuses(signatures, search_history=search_history))

    def _in_order(self) -> list[RpcClient]:
        return sorted(self._nodes, key=lambda node: (self._has_failed(node), (node, Defect.BEHIND) in self._defects))

    # Answers of all.

    async def everywhere(
        self, ask: Callable[[RpcClient], Awaitable[_T]], among: Collection[RpcClient] | None = None
    ) -> tuple[dict[RpcClient, _T], dict[RpcClient, CroupierError]]:
        """Asks all nodes (or those `among` them) at once; answers what each says, and why the others say nothing.

        Nodes that have failed of late are not asked as long as there are others. Raises `LedgerMisconfigured` if the nodes turn
        out not to be of one cluster.
        """
        nodes = self._nodes if among is None else [node for node in self._nodes if node in among]
        well = [node for node in nodes if not self._has_failed(node)] or nodes
        answers: dict[RpcClient, _T] = {}
        errors = {node: self._failures[node].error for node in nodes if node not in well}
        since = time.monotonic()
        told: dict[RpcClient, str] = {}

        async def met(node: RpcClient) -> _T:
            # In one go: a new node that hangs must not hold up what the others are asked.
            if not self._is_known(node):
                told[node] = await node.genesis_hash()
            return await ask(node)

        outcomes = await _at_once(well, met, enough=QUORUM)
        self._learn(told)
        for node, outcome in outcomes.items():
            if isinstance(outcome, CroupierError):
                self._failed(node, outcome, since)
                errors[node] = outcome
            else:
                self._answered(node)
                answers[node] = outcome
        return answers, errors

    async def send(self, raw: str, *, preflight: Commitment | None = None) -> None:
        """Hands a signed transaction to every node, of which one simulates it first if `preflight` is given.

        What single nodes have against it is logged; it is raised only if none has taken it. Those that have failed of late are
        offered it too, but not waited for.
        """
        takers = list(self._nodes)
        if preflight is not None:

            async def tried_out(node: RpcClient) -> RpcClient:
                await node.send(raw, preflight=preflight)
                return node

            takers.remove(await self.on_one(tried_out))
        failed = {node for node in takers if self._has_failed(node)}
        outcomes = await _at_once(takers, lambda node: node.send(raw), enough=1, unawaited=failed)
        errors = {node: outcome for node, outcome in outcomes.items() if outcome is not None}
        if preflight is None and len(errors) == len(takers):
            raise joined(errors.values())
        for node, error in errors.items():
            _log.warning("transaction not taken", node=node.name, why=str(error))

    # Who is fit.

    def note(self, node: RpcClient, defect: Defect, detail: str | None) -> None:
        """Remembers what is wrong with a node, or (None) that it is so no more, and logs the change."""
        known = (node, defect) in self._defects
        if detail is not None and not known:
            self._defects.add((node, defect))
            _log.warning("node unfit", node=node.name, defect=defect.value, detail=detail)
        elif detail is None and known:
            self._defects.remove((node, defect))
            _log.info("node fit again", node=node.name, defect=defect.value)

    def _has_failed(self, node: RpcClient) -> bool:
        return node in self._failures and time.monotonic() < self._failures[node].until

    def _failed(self, node: RpcClient, error: CroupierError, since: float) -> None:
        """`since`: when it was asked."""
        if isinstance(error, LedgerUnavailable) and not isinstance(error, Doubted):
            now = time.monotonic()
            self._failures[node] = _Failure(error, now + max(FAILED_NODE_SECONDS, FAILED_NODE_FACTOR * (now - since)))
            if len(self._nodes) > 1:  # of one alone the error itself tells
                self.note(node, Defect.UNREACHABLE, str(error))

    def _answered(self, node: RpcClient) -> None:
        self._failures.pop(node, None)
        self.note(node, Defect.UNREACHABLE, None)

    async def _meet_one(self, node: RpcClient) -> CroupierError | None:
        """Why a node does not tell of its cluster. Raises `LedgerMisconfigured` unless those that tell are of one."""
        if self._is_known(node):
            return None
        since = time.monotonic()
        new = [node for node in self._nodes if not self._is_known(node)]
        outcomes = await _at_once(new, lambda node: node.genesis_hash(), enough=1)
        self._learn({node: said for node, said in outcomes.items() if isinstance(said, str)})
        errors = {node: said for node, said in outcomes.items() if isinstance(said, CroupierError)}
        for silent, error in errors.items():
            self._failed(silent, error, since)
        return errors.get(node)

    def _learn(self, told: Mapping[RpcClient, str]) -> None:
        """Takes in what nodes say of their cluster. Raises `LedgerMisconfigured` unless it is one."""
        known = {**self._genesis_hashes, **told}
        _require_one_cluster({node: known[node] for node in self._nodes if node in known})
        self._genesis_hashes = known

    def _is_known(self, node: RpcClient) -> bool:
        # One by itself is of no other cluster than the others.
        return len(self._nodes) == 1 or node in self._genesis_hashes


async def _at_once(
    nodes: Collection[RpcClient],
    ask: Callable[[RpcClient], Awaitable[_T]],
    *,
    enough: int,
    unawaited: Collection[RpcClient] = (),
) -> dict[RpcClient, _T | CroupierError]:
    """What each says, or why it says nothing. After `enough` answers the others have `GRACE_SECONDS`, those `unawaited` none."""
    asked = {asyncio.ensure_future(_outcome(node, ask)): node for node in nodes}
    outcomes: dict[RpcClient, _T | CroupierError] = {}
    waiting = set(asked)
    clock = asyncio.get_running_loop().time
    end: float | None = None
    try:
        while waiting and (end is None or (clock() < end and any(asked[task] not in unawaited for task in waiting))):
            timeout = None if end is None else end - clock()
            done, waiting = await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                outcomes[asked[task]] = task.result()
            answers = sum(not isinstance(outcome, CroupierError) for outcome in outcomes.values())
            if end is None and answers >= enough:
                end = clock() + GRACE_SECONDS
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    for task in waiting:
        node = asked[task]
        outcomes[node] = LedgerUnavailable(
            f"{node.name} gave no answer within {GRACE_SECONDS:g} s of others'"
            if node not in unawaited
            else f"{node.name} has failed of late, and was not waited for"
        )
    return {node: outcomes[node] for node in nodes}


async def _outcome(node: RpcClient, ask: Callable[[RpcClient], Awaitable[_T]]) -> _T | CroupierError:
    try:
        return await ask(node)
    except (LedgerUnavailable, LedgerMisconfigured, RequestRefused) as error:
        return error


def joined(errors: Iterable[CroupierError]) -> CroupierError:
    """What to raise where no node has answered (at least one error): a no to the request before trouble of the nodes."""
    by_weight = sorted(errors, key=lambda error: isinstance(error, LedgerUnavailable))
    if len(by_weight) == 1 or not isinstance(by_weight[0], LedgerUnavailable):
        return by_weight[0]
    return LedgerUnavailable("; ".join(str(error) for error in by_weight))


def _require_one_cluster(genesis_hashes: Mapping[RpcClient, str]) -> None:
    """Raises `LedgerMisconfigured` naming those that are of another cluster than most, or, without a majority, than the first."""
    if not genesis_hashes:
        return
    counts = Counter(genesis_hashes.values())
    # Of equally many the one that was counted first: the preferred node's.
    [(usual, _)] = counts.most_common(1)
    odd = [node for node, genesis_hash in genesis_hashes.items() if genesis_hash != usual]
    if odd:
        named = ", ".join(f"{node.name} (genesis hash {genesis_hashes[node]})" for node in odd)
        raise LedgerMisconfigured(
            f"{named} is of another cluster than the other nodes (genesis hash {usual}): CROUPIER_RPC_URL and"
            " CROUPIER_FURTHER_RPC_URLS must name nodes of one cluster"
        )
