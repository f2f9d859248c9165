"""Fuzz frames of the Soulseek protocol."""

from tests.fuzz.harness import fuzz

if __name__ == "__main__":
    fuzz("soulseek_frames")
