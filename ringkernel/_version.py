"""The version, in one place: the build backend and the package both read it from here."""

from time import time

__version__ = "0.1.0"
IMPORTED_AT_S = time()
"""The time at which this process imported this version; the files may be newer by now."""
