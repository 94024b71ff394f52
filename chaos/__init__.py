"""Whether anything is lost or settled twice when everything is killed: `python -m chaos`. Its judge shares no code with the rest."""
