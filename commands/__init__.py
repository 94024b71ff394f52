"""The groups of `starter.py`'s commands that have names of their own. Imported by `starter.py` alone."""
