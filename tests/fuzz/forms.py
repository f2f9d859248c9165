"""Fuzz bodies of forms."""

from tests.fuzz.harness import fuzz

if __name__ == "__main__":
    fuzz("forms")
