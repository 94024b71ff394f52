"""The main job end to end on the embedded stack: real bets, real proofs, a real program, and a verdict to the lamport."""
