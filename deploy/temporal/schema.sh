#!/bin/sh
# Brings Temporal's two databases to the schema of this image's version; on a current schema it changes nothing.
# The databases exist already (deploy/postgres/databases.sql), so Temporal's role needs no right to create any.
# temporal-sql-tool reads the connection from SQL_PLUGIN, SQL_HOST, SQL_PORT, SQL_USER and SQL_PASSWORD.
set -eu

SCHEMAS=/etc/temporal/schema/postgresql/v12

temporal-sql-tool --db temporal setup-schema -v 0.0
temporal-sql-tool --db temporal update-schema -d "$SCHEMAS/temporal/versioned"

temporal-sql-tool --db temporal_visibility setup-schema -v 0.0
temporal-sql-tool --db temporal_visibility update-schema -d "$SCHEMAS/visibility/versioned"
