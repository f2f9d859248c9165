"""The rows of Haulier in a SQL database: SQLite now."""
