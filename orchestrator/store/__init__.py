"""The store: PostgreSQL, its contract, queries and migrations."""
