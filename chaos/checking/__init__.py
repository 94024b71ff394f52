"""What the judge of a chaos run consists of. It shares no code with what it judges: nothing here may import Croupier's other packages.

errors     when there is nothing to judge by
bets       bets as clients have sent them, and what makes two of them the same
poseidon   the hash, from its paper
roots      the bets root, from its specification
chain      what a node shows as final of the program's accounts
hints      which bets made up a batch, as the journal would have it
explaining which bets stand under the roots on chain
verdict    what is decided, and in what words
"""
