"""`python -m tests.chaos.defective VAR KEYS JSON`: a small chaos run with `defective_worker`, for tests alone."""

import sys
from pathlib import Path

from chaos.__main__ import command
from chaos.run import Options, Place
from commands import running

if __name__ == "__main__":
    var, circuit_keys, json_file = map(Path, sys.argv[1:])
    worker = (sys.executable, "-m", "tests.chaos.defective_worker")
    running.run(
        command(Options(seed=1, kills=5, bets=24, minutes=3), Place(var, circuit_keys, worker), json_file),
    )
