"""The prover: the net-settlement circuit, its development keys and Groth16 proofs over it, behind `settlement.ports.Prover`.

groth16py and circomlib are GPL-3.0: they are called and included from where they are installed, never copied into this package.
"""
