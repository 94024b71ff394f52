"""The local Solana ledger: a JSON-RPC server over LiteSVM, run with `python -m localnet`.

It stands in for a cluster on one machine: real SVM execution, slots, commitment levels, expiring blockhashes and a
durable history, so that an unmodified Solana client cannot tell the difference. It must never execute a signed
transaction twice, show as confirmed what is not yet on disk, or be exposed as anything but a development ledger: its
faucet key lies in the database.

    errors        what may go wrong, in Solana's words and codes
    transactions  wire bytes → a sanitized transaction: sizes, signatures, address lookup tables
    engine        LiteSVM as an execution engine, nothing else
    accounts      account versions back to the root, for commitment-aware reads
    chain         blocks, blockhash expiry and commitment levels
    store         SQLite: what survives `kill -9`
    ledger        the bank: executes, ages, saves and forks; the only writer
    node          the ledger as one node of the cluster shows it
    params        JSON-RPC parameters, checked
    encoding      accounts and transactions as RPC JSON
    rpc           the JSON-RPC methods
    fault_kinds   what can be made to go wrong, and the request for it
    faulty_node   a node that shows less than there is, or loses what it is sent
    faults        the faults that are active now
    extension     the JSON-RPC methods that make faults, served only when asked for
    server        HTTP, JSON-RPC envelopes, bounds
"""
