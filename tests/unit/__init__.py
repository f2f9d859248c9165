"""Facts about single modules: no I/O, no sleep, a manual clock."""
