-- The databases and who owns them. Run once by the PostgreSQL image, as the superuser, on an empty data volume.
-- Two roles, each shut out of the other's data: whoever holds Temporal's password cannot rewrite the journal.

\getenv temporal_password POSTGRES_TEMPORAL_PASSWORD
\getenv journal_password POSTGRES_JOURNAL_PASSWORD

CREATE ROLE temporal LOGIN PASSWORD :'temporal_password';
CREATE ROLE croupier LOGIN PASSWORD :'journal_password';

CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;
CREATE DATABASE croupier OWNER croupier;

REVOKE ALL ON DATABASE temporal, temporal_visibility, croupier FROM PUBLIC;
