"""Fuzz `Forwarded` and `X-Forwarded-*`."""

from tests.fuzz.harness import fuzz

if __name__ == "__main__":
    fuzz("forwarded")
