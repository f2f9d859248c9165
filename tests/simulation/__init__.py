"""The real engine under a seeded scheduler, clock and faults."""
