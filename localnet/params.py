"""JSON-RPC parameters, checked: every wrong one is refused with -32602 and a line that names it.

Texts follow Agave's where clients are known to show them (`verify_pubkey`, `verify_signature`, `verify_hash`).
"""

from collections.abc import Sequence
from typing import Any, Final, TypeVar, cast

import base58
from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature

from .errors import invalid_params

U64_MAX: Final = 2**64 - 1
_T = TypeVar("_T", bound=str)


class Config:
    """A method's optional configuration object."""

    def __init__(self, members: dict[str, Any]) -> None:
        self._members = members

    def get(self, name: str) -> Any:
        """The raw member; None when absent or null."""
        return self._members.get(name)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise invalid_params(f"Invalid params: {name} must be a boolean")
        return value

    def integer(self, name: str) -> int | None:
        value = self.get(name)
        return None if value is None else _u64(value, name)

    def text(self, name: str) -> str | None:
        value = self.get(name)
        if value is None or isinstance(value, str):
            return value
        raise invalid_params(f"Invalid params: {name} must be a string")

    def choice(self, name: str, choices: Sequence[_T], default: _T) -> _T:
        value = self.get(name)
        if value is None:
            return default
        for choice in choices:
            if value == choice:
                return choice
        raise invalid_params(
            f"Invalid params: unknown variant `{value}` of {name}, expected one of "
            + ", ".join(f"`{choice}`" for choice in choices)
        )

    def nested(self, name: str) -> "Config | None":
        value = self.get(name)
        return None if value is None else Config(_object(value, name))

    def items(self, name: str) -> list[Any]:
        value = self.get(name)
        return [] if value is None else _array(value, name)


class Params:
    """A method's positional parameters."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def _required(self, index: int) -> Any:
        if index >= len(self._values) or self._values[index] is None:
            raise invalid_params(f"`params` should have at least {index + 1} argument(s)")
        return self._values[index]

    def text(self, index: int) -> str:
        value = self._required(index)
        if not isinstance(value, str):
            raise invalid_params(f"Invalid params: argument {index + 1} must be a string")
        return value

    def integer(self, index: int) -> int:
        return _u64(self._required(index), f"argument {index + 1}")

    def items(self, index: int) -> list[Any]:
        return _array(self._required(index), f"argument {index + 1}")

    def items_or_none(self, index: int) -> list[Any]:
        return self.items(index) if index < len(self._values) and self._values[index] is not None else []

    def members(self, index: int) -> dict[str, Any]:
        return _object(self._required(index), f"argument {index + 1}")

    def config(self, index: int) -> Config:
        value = self._values[index] if index < len(self._values) else None
        return Config({} if value is None else _object(value, f"argument {index + 1}"))

    def config_or_encoding(self, index: int) -> Config:
        """As `config`, for methods whose argument may also be the encoding alone."""
        value = self._values[index] if index < len(self._values) else None
        return Config({"encoding": value}) if isinstance(value, str) else self.config(index)


def pubkey(text: Any) -> Pubkey:
    return Pubkey(_base58(text, Pubkey.LENGTH))


def signature(text: Any) -> Signature:
    return Signature(_base58(text, Signature.LENGTH))


def blockhash(text: Any) -> Hash:
    return Hash(_base58(text, Hash.LENGTH))


def _base58(text: Any, length_bytes: int) -> bytes:
    if not isinstance(text, str):
        raise invalid_params(f"Invalid param: a base-58 string expected, got {type(text).__name__}")
    # A bound on the text first: decoding base58 takes time quadratic in its length.
    if len(text) > 2 * length_bytes:
        raise invalid_params("Invalid param: WrongSize")
    try:
        value = base58.b58decode(text)
    except ValueError as error:
        raise invalid_params("Invalid param: Invalid") from error
    if len(value) != length_bytes:
        raise invalid_params("Invalid param: WrongSize")
    return value


def _u64(value: Any, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= U64_MAX:
        raise invalid_params(f"Invalid params: {name} must be an unsigned 64-bit integer")
    return value


def _array(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise invalid_params(f"Invalid params: {name} must be an array")
    return cast(list[Any], value)


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid_params(f"Invalid params: {name} must be an object")
    return cast(dict[str, Any], value)
