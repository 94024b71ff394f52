"""What operators do besides running workers: set a system up, place bets by hand, look at bets, batches and balances."""
