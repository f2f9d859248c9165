"""Fuzz names of digests, and their hex."""

from tests.fuzz.harness import fuzz

if __name__ == "__main__":
    fuzz("digest_name")
