"""Haulier moves files and never loses one: uploads in, transfers out, peers across."""

__version__ = "0.1.0"
