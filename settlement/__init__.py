"""The domain: bets, batches, netting, lifecycle, commitment, receipts, and the ports that adapters fulfil.

Pure Python and pydantic: no I/O, no Temporal, no Solana client. Everything else imports this; this imports nothing of ours.
"""
