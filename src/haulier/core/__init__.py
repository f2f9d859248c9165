"""Values and rules of Haulier: no I/O, no clock, no asyncio, no HTTP words."""
