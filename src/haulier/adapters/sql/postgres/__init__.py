"""Rows in a PostgreSQL database; needs the extra `postgres`."""
