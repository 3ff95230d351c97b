"""The record: tables, database, event log and queries. SQLite and PostgreSQL through the same code."""
