"""Fuzz `Upload-Metadata`."""

from tests.fuzz.harness import fuzz

if __name__ == "__main__":
    fuzz("tus_metadata")
