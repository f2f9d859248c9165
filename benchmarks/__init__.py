"""Side-by-side measurements; each module prints one table and one verdict."""
