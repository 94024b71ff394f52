"""Compiles a circuit: `compiling_process.py MAIN INCLUDE_DIR…`. `prover.compiling` takes its constraints and ends this process.

groth16py's compiler writes to standard output and leaves no file behind; that may not happen inside a worker.
"""

import sys

import groth16py

if __name__ == "__main__":
    groth16py.setup_circom(sys.argv[1], sys.argv[2:])
