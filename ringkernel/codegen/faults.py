"""Faults that compiled code finds by itself: numbers in the place of an exception's description, whose address is never
as small."""

BACK = 1
"""A message of an input is earlier than the one before it."""
LATE = 2
"""A message whose time had passed, of a kernel that fails on it."""
NO_TIME_VALUE = 3
"""A time that is none: NaN or NaT."""
KEYS_FULL = 4
"""A key for which the table has no room."""
LARGEST = 4095
