"""Runs the rehearsal of a ceremony beside the tests, at the lowest priority: `background.py FOLDER PYTEST_PID`.

It takes minutes, of which other tests need not wait for one. Writes `status` when it is over. Ends, and takes the folder with it,
when the process of that id is gone: nobody else knows of it.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SHAPE: Final = "16x8"
"""The smallest."""

POLL_SECONDS: Final = 0.2
LOWEST_PRIORITY: Final = 19


def ceremony_folder(place: Path) -> Path:
    """The rehearsal's own folder."""
    return place / "ceremony"


def main(place: Path, owner: int) -> None:
    """Returns when the owner is gone."""
    os.nice(LOWEST_PRIORITY)
    command = [sys.executable, "-m", "ceremony", "rehearse", SHAPE, ceremony_folder(place)]
    try:
        with (place / "log").open("wb") as log:
            rehearsal = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, process_group=0)
            try:
                while _lives(owner) and rehearsal.poll() is None:
                    time.sleep(POLL_SECONDS)
            finally:
                if rehearsal.poll() is None:
                    os.killpg(rehearsal.pid, 9)
                status = rehearsal.wait()
        (place / "status.draft").write_text(str(status))
        (place / "status.draft").rename(place / "status")
        while _lives(owner):
            time.sleep(POLL_SECONDS)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _lives(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
