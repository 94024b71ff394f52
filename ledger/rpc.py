"""A thin, typed client for any Solana JSON-RPC node: one call, one request.

It must never retry by itself (re-sends belong to whoever keeps the attempts), never hide how fresh an answer is
(`context.slot` travels with it), and it is the one place where failures of transport, HTTP and JSON-RPC become the
domain's errors: by type and code, never by text.

Sources: solana.com/docs/rpc (methods, shapes of answers); agave `rpc-client-api/src/custom_error.rs` (codes).
"""

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from types import TracebackType
from typing import Annotated, Any, Final, Generic, Literal, Self, TypeAlias, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientHttpProxyError,
    ClientProxyConnectionError,
    ClientSession,
    ClientTimeout,
)
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from solana.rpc.jsonrpc import JsonRpcRequest, JsonRpcResponseEnvelope, SolanaJsonRpcError
from solders.hash import Hash, ParseHashError
from solders.pubkey import Pubkey

from settlement.errors import CroupierError, LedgerMisconfigured, LedgerUnavailable

REQUEST_SECONDS: Final = 20.0
"""A node that has not answered in full by then counts as unavailable."""

MAX_HEADER_BYTES: Final = 1 << 16
"""Of one header of an answer: what stands before a node may send long ones."""

MAX_ACCOUNTS_PER_REQUEST: Final = 100
"""`getMultipleAccounts` takes no more."""
MAX_SIGNATURES_PER_REQUEST: Final = 256
"""`getSignatureStatuses` takes no more."""
MAX_HISTORY_PER_REQUEST: Final = 1_000
"""`getSignaturesForAddress` gives no more."""
MAX_PRIORITY_FEE_ACCOUNTS: Final = 128
"""`getRecentPrioritizationFees` takes no more."""

PREFLIGHT_FAILURE: Final = -32002
SIGNATURE_VERIFICATION_FAILURE: Final = -32003
PRECOMPILE_VERIFICATION_FAILURE: Final = -32006
KEY_EXCLUDED_FROM_INDEX: Final = -32010
HISTORY_NOT_AVAILABLE: Final = -32011
SIGNATURE_COUNT_MISMATCH: Final = -32013
UNSUPPORTED_VERSION: Final = -32015
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602

_REFUSALS: Final = {
    "sendTransaction": frozenset(
        {
            PREFLIGHT_FAILURE,
            SIGNATURE_VERIFICATION_FAILURE,
            PRECOMPILE_VERIFICATION_FAILURE,
            SIGNATURE_COUNT_MISMATCH,
            UNSUPPORTED_VERSION,
            INVALID_REQUEST,
            INVALID_PARAMS,
        }
    ),
    "simulateTransaction": frozenset({PREFLIGHT_FAILURE, SIGNATURE_VERIFICATION_FAILURE, INVALID_PARAMS}),
    "requestAirdrop": frozenset({INVALID_REQUEST, INVALID_PARAMS}),
    "getSignatureStatuses": frozenset({HISTORY_NOT_AVAILABLE}),
    "getSignaturesForAddress": frozenset({HISTORY_NOT_AVAILABLE}),
    "getTransaction": frozenset({HISTORY_NOT_AVAILABLE, UNSUPPORTED_VERSION, INVALID_PARAMS}),
    "getProgramAccounts": frozenset({INVALID_PARAMS}),
}
"""By method the codes by which a node that has understood the request says no.

Any other counts as trouble of the node: what a proxy says when a key or a plan is wrong must not look like an answer.
"""

_NOT_OFFERED: Final = frozenset({METHOD_NOT_FOUND, KEY_EXCLUDED_FROM_INDEX})
"""The node will never answer such a request: an operator must choose another."""

_HTTP_HINTS: Final = {
    401: "it wants credentials: look at CROUPIER_RPC_URL",
    403: "it forbids the request: look at CROUPIER_RPC_URL and its limits",
    404: "nothing is served there: look at CROUPIER_RPC_URL",
    429: "it limits the rate of requests",
}

Commitment: TypeAlias = Literal["processed", "confirmed", "finalized"]

ConfirmedAt: TypeAlias = Literal["confirmed", "finalized"]
"""At what an operator may call a transaction landed."""

READ_COMMITMENT: Final[ConfirmedAt] = "confirmed"
"""For cover, blockhashes, simulations and what an operator sets up: recent, and rarely undone. Nothing that is undone is settled by it."""

U64: TypeAlias = Annotated[int, Field(ge=0, le=2**64 - 1)]
"""Slots, heights, lamports, compute units: what a node says beyond it cannot be read."""

TransactionError: TypeAlias = str | dict[str, JsonValue]
"""As serde writes it: `"AccountNotFound"` or `{"InstructionError": [0, {"Custom": 1}]}`."""

_HEADERS: Final = {"Content-Type": "application/json"}

_T = TypeVar("_T")


class _NoSuccess(Exception):
    """What a node answered with an HTTP status that says that it does not answer."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class RequestRefused(CroupierError):
    """The node has understood a request and refuses it. `data` as the node gave it."""

    def __init__(self, code: int, message: str, data: object) -> None:
        super().__init__(message)
        self.code = code
        self.data = data

    @property
    def transaction_error(self) -> TransactionError | None:
        """What a preflight says of the transaction."""
        try:
            return _PreflightData.model_validate(self.data).err
        except ValidationError:
            return None


def _decoded(value: object) -> object:
    match value:
        case [str(text), "base64"]:
            try:
                return base64.b64decode(text, validate=True)
            except binascii.Error:
                raise ValueError("is not base64") from None
        case _:
            return value


def _address(value: object) -> object:
    return Pubkey.from_string(value) if isinstance(value, str) else value


def _blockhash(value: str) -> str:
    try:
        Hash.from_string(value)
    except ParseHashError as error:  # which is no ValueError
        raise ValueError(str(error)) from None
    return value


class _Answer(BaseModel):
    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, arbitrary_types_allowed=True
    )


class _PreflightData(_Answer):
    err: TransactionError | None = None


class EpochInfo(_Answer):
    """How far the chain is: slots count skipped ones too, blocks do not."""

    absolute_slot: U64
    block_height: U64


class Version(_Answer):
    """What a node runs. `croupier_localnet`: it says that it is Croupier's local ledger."""

    croupier_localnet: Annotated[bool, Field(alias="croupier-localnet")] = False


class Blockhash(_Answer):
    """A recent blockhash (base58) and the last block height that accepts it."""

    blockhash: Annotated[str, AfterValidator(_blockhash)]
    last_valid_block_height: U64


class Account(_Answer):
    """An account: balance in lamports, owner, data."""

    lamports: U64
    owner: Annotated[Pubkey, BeforeValidator(_address)]
    data: Annotated[bytes, BeforeValidator(_decoded)]
    executable: bool


class KeyedAccount(_Answer):
    """An account and its address."""

    pubkey: Annotated[Pubkey, BeforeValidator(_address)]
    account: Account


class SignatureStatus(_Answer):
    """What a node knows of a transaction. `err` None: it has succeeded in the fork that the node sees."""

    slot: U64
    err: TransactionError | None
    confirmation_status: Commitment | None = None


class SignatureInfo(_Answer):
    """A transaction in an address's history."""

    signature: str
    slot: U64
    err: TransactionError | None


class Simulation(_Answer):
    """What a transaction would do now."""

    err: TransactionError | None
    units_consumed: U64 | None = None
    logs: list[str] | None = None


class PriorityFee(_Answer):
    """The least that a transaction of that slot with the accounts asked for paid, in millionths of a lamport per compute unit."""

    slot: U64
    prioritization_fee: U64


class _LoadedAddresses(_Answer):
    writable: list[str] = []
    readonly: list[str] = []


class TransactionMeta(_Answer):
    """What a transaction did. Balances in lamports, in the order of `Transaction.account_keys`."""

    err: TransactionError | None
    fee: U64
    pre_balances: list[U64]
    post_balances: list[U64]
    compute_units_consumed: U64 | None = None
    loaded_addresses: _LoadedAddresses | None = None


class _Instruction(_Answer):
    program_id_index: U64


class _Message(_Answer):
    account_keys: list[str]
    instructions: list[_Instruction]


class _Signed(_Answer):
    message: _Message


class Transaction(_Answer):
    """A transaction of the past."""

    slot: U64
    meta: TransactionMeta | None
    transaction: _Signed

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        keys = len(self.account_keys)
        if any(instruction.program_id_index >= keys for instruction in self.transaction.message.instructions):
            raise ValueError("an instruction calls no account of the transaction")
        if self.meta and not len(self.meta.pre_balances) == len(self.meta.post_balances) == keys:
            raise ValueError("there are not as many balances as accounts")
        return self

    @property
    def account_keys(self) -> list[str]:
        """Base58, those loaded from lookup tables last."""
        loaded = self.meta.loaded_addresses if self.meta else None
        keys = self.transaction.message.account_keys
        return [*keys, *loaded.writable, *loaded.readonly] if loaded else keys

    @property
    def programs(self) -> set[str]:
        """The programs that its own instructions call."""
        keys = self.account_keys
        return {keys[instruction.program_id_index] for instruction in self.transaction.message.instructions}


class _Context(_Answer):
    slot: U64


class Seen(_Answer, Generic[_T]):
    """An answer and the slot as of which the node gives it."""

    context: _Context
    value: _T

    @property
    def slot(self) -> int:
        """The slot of the node's bank."""
        return self.context.slot


class RpcClient:
    """One node. Every method raises `LedgerUnavailable`, or `LedgerMisconfigured` if the node does not offer it.

    `RequestRefused` is raised where a method says so, and otherwise means a bug here.
    """

    def __init__(self, url: str) -> None:
        """`url` may hold a provider's key, which is why only `name` is ever shown."""
        self.name = display_name(url)
        self._url = url
        self._opened: ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        if self._opened is not None:
            await self._opened.close()

    @property
    def nodes(self) -> "Sequence[RpcClient]":
        """The nodes behind it, each by itself."""
        return (self,)

    async def on_one(self, ask: "Callable[[RpcClient], Awaitable[_T]]") -> _T:
        """Has one node answer all that `ask` asks, where answers of several would not fit together."""
        return await ask(self)

    async def epoch_info(self, commitment: Commitment) -> EpochInfo:
        return await self._call("getEpochInfo", [{"commitment": commitment}], EpochInfo)

    async def genesis_hash(self) -> str:
        return await self._call("getGenesisHash", [], str)

    async def version(self) -> Version:
        return await self._call("getVersion", [], Version)

    async def latest_blockhash(self, commitment: Commitment) -> Blockhash:
        answer = await self._call("getLatestBlockhash", [{"commitment": commitment}], Seen[Blockhash])
        return answer.value

    async def first_available_block(self) -> int:
        """The slot of the oldest block whose transactions the node still knows."""
        return await self._call("getFirstAvailableBlock", [], U64)

    async def rent_minimum(self, size: int) -> int:
        """Lamports that exempt an account of `size` bytes from rent."""
        return await self._call("getMinimumBalanceForRentExemption", [size], U64)

    async def account(self, address: Pubkey, commitment: Commitment) -> Seen[Account | None]:
        config = {"commitment": commitment, "encoding": "base64"}
        return await self._call("getAccountInfo", [str(address), config], Seen[Account | None])

    async def accounts(self, addresses: Sequence[Pubkey], commitment: Commitment) -> list[Account | None]:
        """In the order of `addresses`; more than one request's worth is read piecemeal."""
        found: list[Account | None] = []
        for start in range(0, len(addresses), MAX_ACCOUNTS_PER_REQUEST):
            chunk = addresses[start : start + MAX_ACCOUNTS_PER_REQUEST]
            found += (await self.accounts_seen(chunk, commitment)).value
        return found

    async def accounts_seen(self, addresses: Sequence[Pubkey], commitment: Commitment) -> Seen[list[Account | None]]:
        """In the order of `addresses`, `MAX_ACCOUNTS_PER_REQUEST` at most, all as of one slot."""
        config = {"commitment": commitment, "encoding": "base64"}
        keys = [str(address) for address in addresses]
        answer = await self._call("getMultipleAccounts", [keys, config], Seen[list[Account | None]])
        self._require_length(answer.value, len(keys))
        return answer

    async def program_accounts(
        self, program: Pubkey, *, size: int, memcmp: dict[int, bytes], commitment: Commitment
    ) -> list[KeyedAccount]:
        """The program's accounts of `size` bytes that hold the bytes of `memcmp` at its offsets."""
        filters: list[dict[str, Any]] = [{"dataSize": size}]
        for offset, wanted in memcmp.items():
            encoded = base64.b64encode(wanted).decode()
            filters.append({"memcmp": {"offset": offset, "bytes": encoded, "encoding": "base64"}})
        config = {"commitment": commitment, "encoding": "base64", "filters": filters}
        return await self._call("getProgramAccounts", [str(program), config], list[KeyedAccount])

    async def recent_priority_fees(self, addresses: Sequence[Pubkey]) -> list[PriorityFee]:
        """What recent transactions that write to `addresses`, `MAX_PRIORITY_FEE_ACCOUNTS` at most, paid at least, by slot."""
        return await self._call("getRecentPrioritizationFees", [[str(key) for key in addresses]], list[PriorityFee])

    async def simulate(self, raw: str, commitment: Commitment) -> Seen[Simulation]:
        """Runs a transaction (base64; its signatures are not looked at) and keeps nothing. Raises `RequestRefused`."""
        config = {
            "commitment": commitment,
            "encoding": "base64",
            "sigVerify": False,
            "replaceRecentBlockhash": False,
        }
        return await self._call("simulateTransaction", [raw, config], Seen[Simulation])

    async def send(self, raw: str, *, preflight: Commitment | None = None) -> None:
        """Hands a signed transaction (base64) to the node, simulating it first if `preflight` says against what.

        Raises `RequestRefused`.
        """
        config: dict[str, Any] = {"encoding": "base64", "skipPreflight": preflight is None, "maxRetries": 0}
        if preflight is not None:
            config["preflightCommitment"] = preflight
        await self._call("sendTransaction", [raw, config], str)

    async def signature_statuses(
        self, signatures: Sequence[str], *, search_history: bool = True
    ) -> list[Seen[SignatureStatus | None]]:
        """In the order of `signatures`, the node's history searched. Raises `RequestRefused` if it keeps none."""
        config = {"searchTransactionHistory": search_history}
        found: list[Seen[SignatureStatus | None]] = []
        for start in range(0, len(signatures), MAX_SIGNATURES_PER_REQUEST):
            chunk = list(signatures[start : start + MAX_SIGNATURES_PER_REQUEST])
            answer = await self._call("getSignatureStatuses", [chunk, config], Seen[list[SignatureStatus | None]])
            self._require_length(answer.value, len(chunk))
            found += [Seen[SignatureStatus | None](context=answer.context, value=value) for value in answer.value]
        return found

    async def signatures_for(self, address: Pubkey, commitment: ConfirmedAt, before: str | None) -> list[SignatureInfo]:
        """Up to `MAX_HISTORY_PER_REQUEST` transactions that name `address`, newest first, older than `before`."""
        config: dict[str, Any] = {"commitment": commitment, "limit": MAX_HISTORY_PER_REQUEST}
        if before is not None:
            config["before"] = before
        return await self._call("getSignaturesForAddress", [str(address), config], list[SignatureInfo])

    async def transaction(self, signature: str, commitment: ConfirmedAt) -> Transaction | None:
        """None if the node knows no such transaction at this commitment, or keeps no history."""
        config = {"commitment": commitment, "encoding": "json", "maxSupportedTransactionVersion": 0}
        try:
            return await self._call("getTransaction", [signature, config], Transaction | None)
        except RequestRefused as refusal:
            if refusal.code == HISTORY_NOT_AVAILABLE:
                return None
            raise

    async def request_airdrop(self, address: Pubkey, lamports: int) -> str:
        """The signature of the faucet's transaction. Raises `RequestRefused`."""
        return await self._call("requestAirdrop", [str(address), lamports], str)

    def _require_length(self, values: Sequence[object], expected: int) -> None:
        if len(values) != expected:
            raise LedgerUnavailable(f"{self.name} answered {len(values)} values where {expected} were asked for")

    async def _call(self, method: str, params: list[Any], result_type: Any) -> Any:
        request = JsonRpcRequest(method=method, params=params)
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                answer = await self._post(request.to_json())
            result = JsonRpcResponseEnvelope.model_validate_json(answer).unwrap_result(method=method)
            return _adapter(result_type).validate_python(result)
        except SolanaJsonRpcError as error:
            raise self._coded(method, error) from None
        except (ClientError, _NoSuccess, UnicodeError) as error:
            # What of a URL cannot be sent is a `UnicodeError`. No cause is chained here: its text may hold the whole URL, and causes end
            # up in histories and logs.
            raise LedgerUnavailable(f"{self.name} gave no answer to {method}: {_reason(error)}") from None
        except TimeoutError:
            raise LedgerUnavailable(f"{self.name} gave no answer to {method} within {REQUEST_SECONDS:g} s") from None
        except ValidationError:
            raise LedgerUnavailable(f"{self.name} gave an answer to {method} that cannot be read") from None
        except (Exception, asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            # A panic in native code is no `Exception`, and would pass every handler above an activity.
            raise LedgerUnavailable(f"the client of {self.name} broke down in {method}: {error}") from error

    async def _post(self, request: str) -> bytes:
        """The body of the answer. Raises `_NoSuccess`, and whatever aiohttp raises."""
        async with self._session.post(self._url, data=request, headers=_HEADERS, allow_redirects=False) as response:
            if not 200 <= response.status < 300:
                raise _NoSuccess(response.status)
            return await response.read()

    @property
    def _session(self) -> ClientSession:
        # Made at the first request: it belongs to the event loop that runs then.
        if self._opened is None:
            self._opened = ClientSession(
                timeout=ClientTimeout(total=None), proxy=_proxy_to(self._url), max_field_size=MAX_HEADER_BYTES
            )
        return self._opened

    def _coded(self, method: str, error: SolanaJsonRpcError) -> CroupierError:
        said = f"{self.name} answered {method} with {error.code}: {error.message}"
        if error.code in _NOT_OFFERED:
            return LedgerMisconfigured(f"{said}. Set CROUPIER_RPC_URL to a node that offers {method}")
        if error.code in _REFUSALS.get(method, ()):
            return RequestRefused(error.code, said, error.data)
        return LedgerUnavailable(said)


def display_name(url: str) -> str:
    """The node's address without what may be secret: providers put keys into path, query and user name."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"


@cache
def _adapter(result_type: Any) -> TypeAdapter[Any]:
    return TypeAdapter(result_type)


def _proxy_to(url: str) -> str | None:
    """What the environment's `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say of the node."""
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _reason(error: Exception) -> str:
    """In words that hold no URL: those of aiohttp's own may, and so a provider's key or a proxy's password."""
    match error:
        case _NoSuccess():
            hint = _HTTP_HINTS.get(error.status)
            return f"HTTP {error.status}; {hint}" if hint else f"HTTP {error.status}"
        case ClientHttpProxyError():
            return f"the proxy that the environment names answers HTTP {error.status}"
        case ClientProxyConnectionError():
            return "the proxy that the environment names is not there"
        case ClientConnectorError():
            return f"nothing listens there, or the network is down ({error.strerror})"
        case _:
            return type(error).__name__
