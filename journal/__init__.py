"""The journal: the record of every bet and batch, in SQL. It fulfils `settlement.ports.Journal` and decides nothing itself.

`adapter` is the front; behind it `claiming`, `progress`, `reports` and `reading` hold the statements, `tables` the schema,
`database` connections and their errors, `migrate` the way from one schema to the next.
"""
