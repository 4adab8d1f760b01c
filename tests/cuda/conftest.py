"""Which of these files can run here: all need numba-cuda, and the simulator replaces its compiler."""

from __future__ import annotations

import importlib.util
import os

_has_numba_cuda = importlib.util.find_spec("numba_cuda") is not None
_simulated = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") == "1"
_here = {"test_ptx.py", "test_inspect.py", "test_driver.py", "test_simulator.py"}
_runnable = ({"test_simulator.py"} if _simulated else _here - {"test_simulator.py"}) if _has_numba_cuda else set()

collect_ignore = sorted(_here - _runnable)
