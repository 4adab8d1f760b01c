"""The span of a turn: filled, run, committed. Compiled."""
