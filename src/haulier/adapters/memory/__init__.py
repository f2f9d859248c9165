"""Everything that the engine asks for, in memory: the shipped fakes, with faults and interleavings on demand."""
