"""Fuzz `Content-Digest` and `Repr-Digest`."""

from tests.fuzz.harness import fuzz

if __name__ == "__main__":
    fuzz("digest_field")
