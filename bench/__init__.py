"""Measurements, made by the same code that settles. `python -m bench --help`."""
