"""Alembic's entry. Runs migrations over the connection that `journal.migrate` hands it, inside the transaction it has begun."""

from alembic import context

from journal.tables import metadata

# `transactional_ddl`: SQLite can undo DDL, which Alembic does not assume of it.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
