"""The ceremony that makes a circuit's keys so that nobody can forge proofs if at least one contributor to each of its two phases was
honest: `python -m ceremony`.
"""
