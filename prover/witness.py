"""Makes a circuit's witness from its inputs, by a program that `prover.programs` wrote when the key was made.

The program is data: it can do nothing but sums, products and bits over BN254's scalar field. It makes every wire; whether the
constraints hold, it does not look: for inputs that nothing true follows from, they do not, and no proof of it verifies.

Values are appended to one list in layers, each layer's all at once, for what reads only earlier layers needs no order.
"""

import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from operator import add, itemgetter, mod, mul
from sys import byteorder
from typing import Final

from prover.r1cs import FIELD_BYTES
from settlement.poseidon import FIELD_MODULUS

MAGIC: Final = b"wprg"
VERSION: Final = 1
HEADER: Final = struct.Struct("<4sI32sIIII")
"""Magic, version, SHA-256 of the `.r1cs`; how many inputs, wires, coefficients (signed, of 32 bytes) and words (of 4) follow."""
WORD: Final = "I"
BITS, PRODUCTS, SUMS = 1, 2, 3
"""The kinds of a layer's parts. In words:

- BITS, bytes to each, count, the values to decompose: appends the lowest bits of each, lowest first.
- PRODUCTS, count, left factors, right factors: appends their products.
- SUMS, terms to each, count, then the values and the numbers of their coefficients, all first terms first: appends the sums.

A value is meant by its place in the list: 0 is one, then come the inputs.
"""
LONG_TERMS: Final = 8
FEW_SUMS: Final = 4
"""Longer sums, or fewer at once, are faster made one by one than column by column."""

_BITS_OF: Final = tuple(tuple(byte >> bit & 1 for bit in range(8)) for byte in range(256))
_WTNS_VERSION: Final = 2

_Pick = Callable[[Sequence[int]], tuple[int, ...]]
_Part = Callable[[list[int]], None]


class WitnessProgram:
    """How to make the witness of the circuit whose `.r1cs` has the SHA-256 `r1cs_sha256` (in hex)."""

    def __init__(self, content: bytes) -> None:
        """Raises `ValueError` for what is no program. That it is the one that was written, its digest must tell."""
        if len(content) < HEADER.size or content[:4] != MAGIC:
            raise ValueError("it is no witness program")
        _, version, digest, self.inputs, self.wires, coefficients, words = HEADER.unpack_from(content)
        if version != VERSION or len(content) != HEADER.size + FIELD_BYTES * coefficients + 4 * words:
            raise ValueError(f"it is no whole witness program of version {VERSION}")
        self.r1cs_sha256 = digest.hex()
        table = [
            int.from_bytes(content[at : at + FIELD_BYTES], "little", signed=True)
            for at in range(HEADER.size, HEADER.size + FIELD_BYTES * coefficients, FIELD_BYTES)
        ]
        code = array(WORD, content[len(content) - 4 * words :])
        if byteorder == "big":
            code.byteswap()
        self._parts = list(_parts(code[: words - self.wires], table))
        self._wires = _picker(code[words - self.wires :])

    def witness(self, inputs: Sequence[int]) -> tuple[int, ...]:
        """Every wire, from the inputs in the order of their wires. Raises `ValueError` for another number of inputs."""
        if len(inputs) != self.inputs:
            raise ValueError(f"{len(inputs)} inputs, the circuit has {self.inputs}")
        values = [1, *map(mod, inputs, repeat(FIELD_MODULUS))]
        for part in self._parts:
            part(values)
        return self._wires(values)


def as_wtns(witness: Sequence[int]) -> bytes:
    """snarkjs' `.wtns`: https://github.com/iden3/snarkjs (`src/wtns_utils.js`), https://github.com/iden3/binfileutils."""
    header = struct.pack("<I32sI", FIELD_BYTES, FIELD_MODULUS.to_bytes(FIELD_BYTES, "little"), len(witness))
    values = b"".join([value.to_bytes(FIELD_BYTES, "little") for value in witness])
    sections = (struct.pack("<IQ", number, len(part)) + part for number, part in enumerate((header, values), 1))
    return b"wtns" + struct.pack("<II", _WTNS_VERSION, 2) + b"".join(sections)


def _parts(code: Sequence[int], table: Sequence[int]) -> Iterator[_Part]:
    at = 0

    def take(count: int) -> Sequence[int]:
        nonlocal at
        at += count
        return code[at - count : at]

    while at < len(code):
        (kind,) = take(1)
        if kind == BITS:
            size, count = take(2)
            yield _bits(size, _picker(take(count)))
        elif kind == PRODUCTS:
            (count,) = take(1)
            yield _products(_picker(take(count)), _picker(take(count)))
        elif kind == SUMS:
            terms, count = take(2)
            picked, numbers = take(terms * count), take(terms * count)
            if terms > LONG_TERMS or count < FEW_SUMS:
                yield _sums(
                    [
                        (_picker(picked[first::count]), [table[number] for number in numbers[first::count]])
                        for first in range(count)
                    ]
                )
            else:
                starts = range(0, terms * count, count)
                yield _columns(
                    [
                        (_picker(picked[at : at + count]), [table[number] for number in numbers[at : at + count]])
                        for at in starts
                    ]
                )
        else:
            raise ValueError(f"it has a part of kind {kind}")


def _picker(places: Sequence[int]) -> _Pick:
    if len(places) == 1:
        place = places[0]
        return lambda values: (values[place],)
    return itemgetter(*places)


def _bits(size: int, pick: _Pick) -> _Part:
    mask = (1 << 8 * size) - 1

    def run(values: list[int]) -> None:
        content = b"".join([(value & mask).to_bytes(size, "little") for value in pick(values)])
        values.extend(chain.from_iterable(map(_BITS_OF.__getitem__, content)))

    return run


def _products(left: _Pick, right: _Pick) -> _Part:
    def run(values: list[int]) -> None:
        values += [a * b % FIELD_MODULUS for a, b in zip(left(values), right(values), strict=True)]

    return run


def _sums(forms: Sequence[tuple[_Pick, list[int]]]) -> _Part:
    def run(values: list[int]) -> None:
        values += [sum(map(mul, coefficients, pick(values))) % FIELD_MODULUS for pick, coefficients in forms]

    return run


def _columns(columns: Sequence[tuple[_Pick, list[int]]]) -> _Part:
    (first, first_coefficients), *others = columns

    def run(values: list[int]) -> None:
        totals = map(mul, first_coefficients, first(values))
        for pick, coefficients in others:
            totals = map(add, totals, map(mul, coefficients, pick(values)))
        values += [total % FIELD_MODULUS for total in totals]

    return run
