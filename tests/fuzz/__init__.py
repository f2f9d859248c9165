"""Coverage-guided fuzzing of every parser of foreign text: `python -m tests.fuzz.NAME -runs=100000`."""
