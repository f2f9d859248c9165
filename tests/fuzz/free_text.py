"""Fuzz metadata and idempotency keys."""

from tests.fuzz.harness import fuzz

if __name__ == "__main__":
    fuzz("free_text")
