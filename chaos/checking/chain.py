"""What a node shows as final of everything that the program owns: read by one request, so that all of it is of one moment.

It must never believe an account that does not stand at the address of what it says it is. Layouts and seeds: `program/state.h`.
"""

import base64
import binascii
import http.client
import json
import struct
import urllib.request
from typing import Annotated, Final, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from solders.pubkey import Pubkey

from chaos.checking.errors import CannotJudge

ANSWER_SECONDS: Final = 60.0
"""A node that has not answered by then counts as unreachable."""
MOST_ANSWER_BYTES: Final = 256 * 2**20
"""A program of 200,000 batch records answers in some 60 MB."""

_CONFIG: Final = 1
_CIRCUIT: Final = 2
_HOUSE: Final = 3
_VAULT: Final = 4
_RECORD: Final = 5
_TABLE: Final = 6


class _Kind(NamedTuple):
    """How accounts of a kind (their first byte) are laid out, and which of their bytes their address comes from, after `seed`."""

    layout: struct.Struct
    seed: bytes
    from_bytes: tuple[slice, ...]


_LANE: Final = slice(2, 4)
_KINDS: Final = {
    _CONFIG: _Kind(struct.Struct("<BB32s"), b"config", ()),
    _CIRCUIT: _Kind(struct.Struct("<BBHHH576s"), b"circuit", (slice(2, 4),)),
    _HOUSE: _Kind(struct.Struct("<BBHIQ"), b"house", (_LANE,)),
    _VAULT: _Kind(struct.Struct("<BBHI32s"), b"vault", (_LANE, slice(8, 40))),
    _RECORD: _Kind(struct.Struct("<BBHQHHHqQ32s"), b"batch", (_LANE, slice(4, 12))),
    _TABLE: _Kind(struct.Struct("<BBHH32s"), b"table", (_LANE, slice(4, 6))),
}


class Circuit(NamedTuple):
    """How many bets and players one proof covers."""

    bets: int
    players: int


class House(NamedTuple):
    """A lane's house with all its lamports, rent included."""

    lamports: int
    vault_count: int
    highest_batch: int


class Vault(NamedTuple):
    """A player's vault with all its lamports, rent included."""

    lamports: int
    vault_index: int


class Record(NamedTuple):
    """That a batch was settled."""

    lane: int
    number: int
    circuit_id: int
    bet_count: int
    player_count: int
    house_delta: int
    slot: int
    bets_root: int

    @property
    def name(self) -> str:
        """`lane/number`."""
        return f"{self.lane}/{self.number}"


class Chain(NamedTuple):
    """The program's accounts as of finalized `slot`: houses by lane, vaults by lane and owner, circuits by id, records by lane and number.

    `strangers`: addresses of accounts that the program cannot have written.
    """

    slot: int
    circuits: dict[int, Circuit]
    houses: dict[int, House]
    vaults: dict[tuple[int, str], Vault]
    records: list[Record]
    strangers: list[str]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Account(_Model):
    lamports: Annotated[int, Field(ge=0)]
    owner: str
    data: tuple[str, str]


class _Keyed(_Model):
    pubkey: str
    account: _Account


class _Context(_Model):
    slot: int


class _Result(_Model):
    context: _Context
    value: list[_Keyed]


class _Failure(_Model):
    code: int
    message: str


class _Answer(_Model):
    result: _Result | None = None
    error: _Failure | None = None


def read_chain(rpc_url: str, program_id: str) -> Chain:
    """Raises `CannotJudge` if the node or the program's id cannot be used."""
    try:
        program = Pubkey.from_string(program_id)
    except ValueError:
        raise CannotJudge(f"{program_id} is no program's address: give its 32 bytes in base58") from None
    node = f"the node at {urlsplit(rpc_url).hostname}"
    config = {"commitment": "finalized", "encoding": "base64", "withContext": True}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "getProgramAccounts", "params": [program_id, config]})
    try:
        request = urllib.request.Request(rpc_url, body.encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
            text = response.read(MOST_ANSWER_BYTES + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise CannotJudge(f"{node} does not answer ({error}): is it running, and is the address right?") from None
    if len(text) > MOST_ANSWER_BYTES:
        raise CannotJudge(f"{node} answers with more than {MOST_ANSWER_BYTES} bytes: judge a smaller run")
    try:
        answer = _Answer.model_validate_json(text)
        if answer.result is None:
            said = "neither a result nor an error" if answer.error is None else answer.error.message
            raise CannotJudge(f"{node} refuses getProgramAccounts: {said}")
        return _chain_of(program, answer.result)
    except (ValidationError, binascii.Error):
        raise CannotJudge(f"{node} answers getProgramAccounts with something else than accounts") from None


def _chain_of(program: Pubkey, result: _Result) -> Chain:
    chain = Chain(slot=result.context.slot, circuits={}, houses={}, vaults={}, records=[], strangers=[])
    known: set[str] = set()
    for keyed in result.value:
        content, encoding = keyed.account.data
        data = base64.b64decode(content, validate=True) if encoding == "base64" else b""
        ours = keyed.account.owner == str(program) and keyed.pubkey == _address_of(program, data)
        if not ours or keyed.pubkey in known:
            chain.strangers.append(keyed.pubkey)
            continue
        known.add(keyed.pubkey)
        _enter(chain, keyed.account.lamports, data)
    return chain


def _address_of(program: Pubkey, data: bytes) -> str | None:
    """Where an account with such data stands; None if the program writes none such."""
    kind = _KINDS.get(data[0]) if data else None
    if kind is None or len(data) != kind.layout.size:
        return None
    seeds = [kind.seed, *(data[part] for part in kind.from_bytes)]
    return str(Pubkey.find_program_address(seeds, program)[0])


def _enter(chain: Chain, lamports: int, data: bytes) -> None:
    kind, _, *fields = _KINDS[data[0]].layout.unpack(data)
    if kind == _CIRCUIT:
        circuit_id, bets, players, _ = fields
        chain.circuits[circuit_id] = Circuit(bets, players)
    elif kind == _HOUSE:
        lane, vault_count, highest_batch = fields
        chain.houses[lane] = House(lamports, vault_count, highest_batch)
    elif kind == _VAULT:
        lane, index, owner = fields
        chain.vaults[lane, str(Pubkey.from_bytes(owner))] = Vault(lamports, index)
    elif kind == _RECORD:
        lane, number, circuit_id, bet_count, player_count, house_delta, slot, root = fields
        bets_root = int.from_bytes(root, "big")
        chain.records.append(Record(lane, number, circuit_id, bet_count, player_count, house_delta, slot, bets_root))
