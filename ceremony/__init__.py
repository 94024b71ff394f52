"""The ceremony that makes a circuit's keys so that nobody can forge proofs unless all contributors conspire: `python -m ceremony`."""
