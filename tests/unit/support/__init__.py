"""Facts about tests/support."""
