"""The memory that compiled code shares: where every shared word lies, and the arenas that words and slots lie in."""
