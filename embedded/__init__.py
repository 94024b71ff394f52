"""The whole system on one machine: Temporal's dev server with its Web UI, the local ledger and a worker, and the demo on top."""
