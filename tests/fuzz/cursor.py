"""Fuzz cursors of lists."""

from tests.fuzz.harness import fuzz

if __name__ == "__main__":
    fuzz("cursor")
