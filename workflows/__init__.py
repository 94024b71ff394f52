"""Temporal workflows: decisions only, deterministic. They import the domain and the activity classes, and no adapter."""
