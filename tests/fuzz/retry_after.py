"""Fuzz `Retry-After`."""

from tests.fuzz.harness import fuzz

if __name__ == "__main__":
    fuzz("retry_after")
