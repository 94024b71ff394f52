"""Everything that a node says of the chain at one moment, to be compared with what it, or another, says at another.

Take it while no slot ends, or the answers are of several moments.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from solders.hash import Hash
from solders.message import Message
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from tests.localnet.support import Cluster, wire

_ABOUT_THE_CHAIN = ("getSlot", "getBlockHeight", "getTransactionCount", "getEpochInfo", "getLatestBlockhash")
LEVELS = ("processed", "confirmed", "finalized")


@dataclass(frozen=True)
class Subjects:
    """What is asked about; the payer must be able to pay a fee at every level."""

    payer: Pubkey
    accounts: Sequence[Pubkey]
    blockhashes: Sequence[Hash]
    signatures: Sequence[Signature]

    def requests(self) -> list[tuple[str, str, list[Any]]]:
        """Method, level, parameters."""
        accounts = [str(account) for account in self.accounts]
        signatures = [str(signature) for signature in self.signatures]
        requests: list[tuple[str, str, list[Any]]] = []
        for level in LEVELS:
            at = {"commitment": level}
            wanted = {**at, "encoding": "base64"}
            calls: list[tuple[str, list[Any]]] = [(method, [at]) for method in _ABOUT_THE_CHAIN]
            calls += [("getBalance", [account, at]) for account in accounts]
            calls += [("getAccountInfo", [account, wanted]) for account in accounts]
            calls.append(("getMultipleAccounts", [accounts, at]))
            calls.append(("getProgramAccounts", [str(SYSTEM_PROGRAM), wanted]))
            for blockhash in self.blockhashes:
                move = transfer(TransferParams(from_pubkey=self.payer, to_pubkey=self.accounts[-1], lamports=10**6))
                message = Message.new_with_blockhash([move], self.payer, blockhash)
                unsigned = wire(VersionedTransaction.populate(message, [Signature.default()]))
                calls.append(("isBlockhashValid", [str(blockhash), at]))
                calls.append(("getFeeForMessage", [base64.b64encode(bytes(message)).decode(), at]))
                calls.append(("simulateTransaction", [unsigned, {**wanted, "accounts": {"addresses": accounts[-1:]}}]))
            if level != "processed":
                calls += [("getTransaction", [signature, at]) for signature in signatures]
                calls += [("getSignaturesForAddress", [account, at]) for account in accounts]
            requests += [(method, level, params) for method, params in calls]
        for search in (False, True):
            requests.append(("getSignatureStatuses", "", [signatures, {"searchTransactionHistory": search}]))
        requests.append(("getRecentPrioritizationFees", "", [[]]))
        return requests


Picture = dict[str, Any]


async def picture(node: Cluster, subjects: Subjects) -> Picture:
    """Answers by request."""
    answers: Picture = {}
    for position, (method, level, params) in enumerate(subjects.requests()):
        answer = await node.result(method, *params)
        answers[f"{position} {method} {level}"] = sorted(answer, key=_address) if "Program" in method else answer
    return answers


def _address(entry: dict[str, Any]) -> str:
    return entry["pubkey"]
