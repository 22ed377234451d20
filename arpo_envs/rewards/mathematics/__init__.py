"""Mathematical answers: `judge.py` decides on this side, `equivalence.py` and what it needs in a process of its own."""
