"""Builds the program with a defect planted in it, to see that a test notices."""

import re
from pathlib import Path
from typing import Final, NamedTuple

from program.build import FOLDER, SOURCE, build

_INCLUDE: Final = re.compile(r'^#include "(\w+\.h)"$', re.MULTILINE)


class Defect(NamedTuple):
    """`text` of the program's sources, which stands there once, becomes `instead`."""

    text: str
    instead: str = ""


def build_with(defect: Defect, folder: Path) -> bytes:
    """The program with the defect; `folder` is for its source."""
    whole = _included(SOURCE.read_text(), set())
    assert whole.count(defect.text) == 1, f"the program's sources no longer have this, or more than once: {defect.text}"
    source = folder / "defective.c"
    source.write_text(whole.replace(defect.text, defect.instead))
    return build(source)


def _included(text: str, seen: set[str]) -> str:
    """The text with each header in the place of its first mention."""

    def header(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return ""
        seen.add(name)
        return _included((FOLDER / name).read_text(), seen)

    return _INCLUDE.sub(header, text)
