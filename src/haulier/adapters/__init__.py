"""Haulier's ports on real things: disks, databases, clocks; and the shipped in-memory ones."""
