"""A Soulseek node: shares folders with peers and fetches from them, headless.

Written from the facts of the wire; no code or text of another implementation is in here.
"""
