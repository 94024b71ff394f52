"""Turns the compiler's BPF object into a Solana program: an ELF for sBPF v3.

It must never let through what the machine would run differently from what the compiler meant, or not at all: 32-bit
arithmetic, a system call that is not on the allow-list, writable data, a frame larger than the machine's.

Sources: SIMD-0178 (static system calls), SIMD-0189 (ELF headers of sBPF v3), solana-sbpf `src/elf.rs`; the BPF
relocations of LLVM (`R_BPF_64_64` 1 on a load of an address, `R_BPF_64_32` 10 on a call).
"""

import io
import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from elftools.elf.elffile import ELFFile  # pyright: ignore[reportUnknownVariableType]

SYSCALLS: Final = frozenset(
    {
        "sol_alt_bn128_compression",
        "sol_alt_bn128_group_op",
        "sol_get_clock_sysvar",
        "sol_get_rent_sysvar",
        "sol_invoke_signed_c",
        "sol_memcmp_",
        "sol_memcpy_",
        "sol_memset_",
        "sol_poseidon",
        "sol_try_find_program_address",
    }
)
"""What a program may call. In sBPF v3 an unknown call is not refused at deployment; it fails when it is reached."""

FRAME_BYTES_MAX: Final = 4096
INSTRUCTION_BYTES: Final = 8
ALIGNMENT: Final = 8

TEXT_ADDRESS: Final = 1 << 32
RODATA_ADDRESS: Final = 0
RODATA_LEAD_BYTES: Final = 8
"""Nothing that the program points to may stand at address 0."""

ENTRYPOINT: Final = "entrypoint"

_RELOCATION_LDDW, _RELOCATION_CALL = 1, 10
_LDDW, _CALL, _CALL_REGISTER, _BYTE_SWAP = 0x18, 0x85, 0x8D, 0xDC
_CLASS_MASK, _CLASS_ALU32, _CLASS_JMP32 = 0x07, 0x04, 0x06
_TARGET_MASK, _SOURCE_MASK = 0x0F, 0xF0
_CALL_SYSCALL, _CALL_FUNCTION = 0x00, 0x10

_SHF_WRITE, _SHF_ALLOC, _SHF_EXECUTE = 1, 2, 4
_ELF_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER: Final = struct.Struct("<IIQQQQQQ")
_ELF_IDENT: Final = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
_ET_DYN, _EM_BPF, _EV_CURRENT, _PT_LOAD = 3, 247, 1, 1
_FLAG_EXECUTE, _FLAG_READ = 1, 4
_SBPF_VERSION = 3


class LinkError(Exception):
    """The object cannot become a program. The text names the offender."""


class _Section(NamedTuple):
    number: int
    name: str
    flags: int
    data: bytes


class _Symbol(NamedTuple):
    name: str
    section: int | None  # None if undefined
    value: int


class _Relocation(NamedTuple):
    section: int  # that it applies to
    offset: int
    kind: int
    symbol: _Symbol


class _Object(NamedTuple):
    sections: list[_Section]
    symbols: list[_Symbol]
    relocations: list[_Relocation]


def link(object_file: bytes) -> bytes:
    """The program for a relocatable BPF object with the function `entrypoint`. Raises `LinkError`."""
    parsed = _read(object_file)
    _check_frames(parsed)
    text = _Image(TEXT_ADDRESS, b"")
    rodata = _Image(RODATA_ADDRESS, bytes(RODATA_LEAD_BYTES))
    for section in parsed.sections:
        if not section.flags & _SHF_ALLOC or not section.data:
            continue
        if section.flags & _SHF_EXECUTE:
            text.append(section)
        elif section.name.startswith(".rodata"):
            rodata.append(section)
        else:
            raise LinkError(f"section {section.name}: a program has no place for it")
    for relocation in parsed.relocations:
        _relocate(relocation, text, rodata)
    _check_instructions(text.content)
    entries = [symbol for symbol in parsed.symbols if symbol.name == ENTRYPOINT and symbol.section in text.starts]
    if len(entries) != 1:
        raise LinkError(f"there must be one function {ENTRYPOINT}")
    entry = text.address_of(entries[0])
    return _write_elf(bytes(rodata.content) if rodata.starts else b"", bytes(text.content), entry)


class _Image:
    """A segment in the making: sections laid one after the other from a virtual address."""

    def __init__(self, address: int, lead: bytes) -> None:
        self.address = address
        self.content = bytearray(lead)
        self.starts: dict[int, int] = {}

    def append(self, section: _Section) -> None:
        self.starts[section.number] = len(self.content)
        self.content += section.data
        self.content += bytes(-len(self.content) % ALIGNMENT)

    def address_of(self, symbol: _Symbol) -> int:
        assert symbol.section is not None
        return self.address + self.starts[symbol.section] + symbol.value


def _relocate(relocation: _Relocation, text: _Image, rodata: _Image) -> None:
    if relocation.section in rodata.starts:
        raise LinkError("read-only data holds an address, which this program has no need of")
    if relocation.section not in text.starts:
        return  # of a section that is not loaded
    at = text.starts[relocation.section] + relocation.offset
    symbol = relocation.symbol
    if relocation.kind == _RELOCATION_CALL:
        if symbol.section is not None:
            raise LinkError(f"{symbol.name}: declare it static, so that the compiler resolves its calls")
        if symbol.name not in SYSCALLS:
            raise LinkError(f"{symbol.name}: neither defined nor an allowed system call")
        text.content[at + 1] = text.content[at + 1] & _TARGET_MASK | _CALL_SYSCALL
        struct.pack_into("<I", text.content, at + 4, syscall_number(symbol.name))
    elif relocation.kind == _RELOCATION_LDDW and symbol.section in rodata.starts:
        (addend,) = struct.unpack_from("<I", text.content, at + 4)
        address = rodata.address_of(symbol) + addend
        struct.pack_into("<I", text.content, at + 4, address & 0xFFFFFFFF)
        struct.pack_into("<I", text.content, at + INSTRUCTION_BYTES + 4, address >> 32)
    else:
        raise LinkError(f"{symbol.name or 'a section'}: relocation of kind {relocation.kind} is not known")


def _check_instructions(text: bytearray) -> None:
    """sBPF sign-extends the results of 32-bit arithmetic where LLVM counts on zero-extension."""
    for at, opcode in instructions(text):
        kind = opcode & _CLASS_MASK
        if kind == _CLASS_JMP32 or (kind == _CLASS_ALU32 and opcode != _BYTE_SWAP):
            raise LinkError(f"32-bit instruction {opcode:#04x} at {at:#x}: compile with -mcpu=v2")
        if opcode == _CALL_REGISTER:
            raise LinkError(f"call through a pointer at {at:#x}: its encoding differs in sBPF v3")
        if opcode == _CALL and text[at + 1] & _SOURCE_MASK not in (_CALL_SYSCALL, _CALL_FUNCTION):
            raise LinkError(f"call of an unknown kind at {at:#x}")


def instructions(text: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Offset and opcode of each instruction; one that loads a 64-bit constant takes two places."""
    at = 0
    while at < len(text):
        yield at, text[at]
        at += 2 * INSTRUCTION_BYTES if text[at] == _LDDW else INSTRUCTION_BYTES


def _check_frames(parsed: _Object) -> None:
    """Reads what `-fstack-size-section` left: per function its address (u64) and frame size (ULEB128)."""
    names = {symbol.value: symbol.name for symbol in parsed.symbols if symbol.section is not None and symbol.name}
    sections = [section for section in parsed.sections if section.name == ".stack_sizes"]
    if not sections:
        raise LinkError("the object does not tell its frame sizes: compile with -fstack-size-section")
    for section in sections:
        at = 0
        while at < len(section.data):
            (address,) = struct.unpack_from("<Q", section.data, at)
            at += 8
            size = shift = 0
            while True:
                byte = section.data[at]
                at += 1
                size |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            if size > FRAME_BYTES_MAX:
                raise LinkError(f"{names.get(address, hex(address))}: frame of {size} bytes, over {FRAME_BYTES_MAX}")


def syscall_number(name: str) -> int:
    """How sBPF v3 names a system call: MurmurHash3 (x86, 32 bits, seed 0) of its name."""
    data = name.encode()
    state = 0
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        state ^= _murmur_mix(int.from_bytes(data[at : at + 4], "little"))
        state = (_rotate_left(state, 13) * 5 + 0xE6546B64) & 0xFFFFFFFF
    if whole < len(data):
        state ^= _murmur_mix(int.from_bytes(data[whole:], "little"))
    state ^= len(data)
    state = ((state ^ state >> 16) * 0x85EBCA6B) & 0xFFFFFFFF
    state = ((state ^ state >> 13) * 0xC2B2AE35) & 0xFFFFFFFF
    return state ^ state >> 16


def _murmur_mix(word: int) -> int:
    return (_rotate_left((word * 0xCC9E2D51) & 0xFFFFFFFF, 15) * 0x1B873593) & 0xFFFFFFFF


def _rotate_left(word: int, bits: int) -> int:
    return (word << bits | word >> (32 - bits)) & 0xFFFFFFFF


def _write_elf(rodata: bytes, text: bytes, entry: int) -> bytes:
    segments = [(_FLAG_READ, RODATA_ADDRESS, rodata)] if rodata else []
    segments.append((_FLAG_EXECUTE, TEXT_ADDRESS, text))
    offset = _ELF_HEADER.size + len(segments) * _PROGRAM_HEADER.size
    header = _ELF_HEADER.pack(
        _ELF_IDENT,
        _ET_DYN,
        _EM_BPF,
        _EV_CURRENT,
        entry,
        _ELF_HEADER.size,  # program headers follow at once
        0,  # no section headers
        _SBPF_VERSION,
        _ELF_HEADER.size,
        _PROGRAM_HEADER.size,
        len(segments),
        0,
        0,
        0,
    )
    for flags, address, content in segments:
        assert len(content) % ALIGNMENT == 0
        size = len(content)
        header += _PROGRAM_HEADER.pack(_PT_LOAD, flags, offset, address, address, size, size, 0)
        offset += size
    return header + b"".join(content for _, _, content in segments)


def _read(object_file: bytes) -> _Object:
    """The one place that touches pyelftools, which has no types."""
    elf: Any = ELFFile(io.BytesIO(object_file))
    if elf["e_machine"] != "EM_BPF" or elf["e_type"] != "ET_REL":
        raise LinkError("not a relocatable BPF object")
    table: Any = elf.get_section_by_name(".symtab")
    symbols = [
        _Symbol(symbol.name, index if isinstance(index := symbol["st_shndx"], int) else None, symbol["st_value"])
        for symbol in table.iter_symbols()
    ]
    sections: list[_Section] = []
    relocations: list[_Relocation] = []
    for number, section in enumerate(elf.iter_sections()):
        if section["sh_type"] == "SHT_RELA":
            raise LinkError(f"section {section.name}: relocations with addends are not known for BPF")
        if section["sh_type"] == "SHT_REL":
            relocations += [
                _Relocation(section["sh_info"], entry["r_offset"], entry["r_info_type"], symbols[entry["r_info_sym"]])
                for entry in section.iter_relocations()
            ]
            continue
        # a section without content (.bss) still counts: it shows as data, which is refused
        data = bytes(section["sh_size"]) if section["sh_type"] == "SHT_NOBITS" else section.data()
        sections.append(_Section(number, section.name, section["sh_flags"], data))
    return _Object(sections, symbols, relocations)
