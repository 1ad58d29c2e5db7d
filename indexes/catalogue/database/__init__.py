"""The database under the catalogue: SQLite or PostgreSQL, tables, migrations, retries."""
