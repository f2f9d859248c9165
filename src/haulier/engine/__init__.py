"""Use cases: asyncio and ports only."""
