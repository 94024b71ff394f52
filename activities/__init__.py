"""Thin classes over the domain's ports: they translate, classify errors and heartbeat. What to do next is decided by workflows."""
