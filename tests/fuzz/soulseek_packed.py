"""Fuzz compressed messages between Soulseek peers."""

from tests.fuzz.harness import fuzz

if __name__ == "__main__":
    fuzz("soulseek_packed")
