"""What uploads and records are known by."""

from typing import NewType

SessionId = NewType("SessionId", str)
"""128 random bits, URL-safe; never derived from a client's file name."""
RecordId = NewType("RecordId", str)
"""A UUIDv7 in its usual text form; sorts by time of creation."""
