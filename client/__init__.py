"""What speaks to Temporal on behalf of those who place bets: the connection, and the way to a lane's Batcher."""
