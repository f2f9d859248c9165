"""Fuzz `Want-Repr-Digest`."""

from tests.fuzz.harness import fuzz

if __name__ == "__main__":
    fuzz("want_digest")
