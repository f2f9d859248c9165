"""Fuzz media types."""

from tests.fuzz.harness import fuzz

if __name__ == "__main__":
    fuzz("media_type")
