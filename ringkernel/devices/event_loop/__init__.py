"""The event loop's side of rings: its ends of them, its waiting lines, and how it is woken."""
