"""Foreign programs over loopback."""
