"""The HTTP/1.1 body writer: long request bodies, from a file to a socket with little in between."""

from haulier.body.writer import BodyWriter

__all__ = ["BodyWriter"]
