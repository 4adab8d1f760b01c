"""The version, in one place: the build backend and the package both read it from here."""

from time import time

__version__ = "0.1.0"
IMPORTED_AT_S = time()
"""When this process has taken up this version: what is on the disk may be a newer one later."""
