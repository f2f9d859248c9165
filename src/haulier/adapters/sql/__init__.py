"""The rows of Haulier in an SQL database: SQLite, or PostgreSQL."""
