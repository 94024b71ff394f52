"""Reports as JSON files. That a file cannot be written is found out before the work whose report it is to hold."""

from pathlib import Path

from pydantic import BaseModel

from settings import InvalidSetting


def check_writable(file: Path) -> None:
    """Raises `InvalidSetting` if no report can be written there. What the file holds stays; one that is missing is made."""
    _write(file, "a", "")


def write(report: BaseModel, file: Path) -> None:
    """Writes the report as JSON. Raises `InvalidSetting`."""
    _write(file, "w", report.model_dump_json(indent=2) + "\n")


def _write(file: Path, mode: str, text: str) -> None:
    try:
        with file.open(mode) as opened:
            opened.write(text)
    except OSError as error:
        raise InvalidSetting(f"--json: {file} cannot be written: {error.strerror}") from None
