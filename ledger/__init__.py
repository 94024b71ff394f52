"""The chain: the program's accounts and instructions, and how transactions get there."""
