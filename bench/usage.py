"""What a process has used, as Linux tells: CPU seconds and resident memory. Reads /proc; changes nothing."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(process_id: int) -> float:
    """User and system time of the process since its start, its threads included and its children not."""
    # Source: proc_pid_stat(5). The name, in parentheses, may hold anything; utime and stime are fields 14 and 15.
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def resident_bytes(process_id: int) -> int:
    """What the process holds in memory now."""
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * _PAGE_BYTES


class Usage:
    """CPU seconds of some processes, by name, from a moment on."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        self._processes = processes
        self._before = self._now()

    def since(self) -> dict[str, float]:
        """CPU seconds since the making of this."""
        return {name: round(now - self._before[name], 2) for name, now in self._now().items()}

    def _now(self) -> dict[str, float]:
        return {name: cpu_seconds(process_id) for name, process_id in self._processes.items()}
