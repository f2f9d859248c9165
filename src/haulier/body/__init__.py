"""The HTTP/1.1 body writer: long request bodies, from a file to a socket with little in between."""

from haulier.body.connections import CONNECT_S
from haulier.body.writer import SILENCE_S, BodyWriter

__all__ = ["CONNECT_S", "SILENCE_S", "BodyWriter"]
