"""Fuzz `Upload-Checksum`."""

from tests.fuzz.harness import fuzz

if __name__ == "__main__":
    fuzz("tus_checksum")
