"""Bytes on a local disk."""

from haulier.adapters.disk.sink import DiskSink as DiskSink
