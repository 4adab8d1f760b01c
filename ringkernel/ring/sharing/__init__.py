"""One span that several threads work on. Compiled."""
