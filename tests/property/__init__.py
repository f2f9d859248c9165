"""What holds for every input: Hypothesis, with stateful machines."""
