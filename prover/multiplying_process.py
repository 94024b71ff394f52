"""Multiplies points of BN254's groups: `multiplying_process.py R1CS PRODUCTS`; `prover.multiplying` makes the one and reads the other.

In a process of its own, for groth16py holds the interpreter's lock meanwhile and may panic.
"""

import sys

import groth16py

if __name__ == "__main__":
    groth16py.setup(sys.argv[1])[0].save(sys.argv[2])
