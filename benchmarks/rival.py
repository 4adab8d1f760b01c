"""Client of `rival_pydotcompute.py`."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

from harness import check


class Rival:
    """PyDotCompute in another process, asked round by round over a pipe.

    `ask` blocks the caller's event loop on purpose: while one side runs, the other one does nothing.
    """

    def __init__(self):
        server = Path(__file__).with_name("rival_pydotcompute.py")
        self._process = subprocess.Popen(
            [sys.executable, str(server)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self.name = self.ask("about")
        except BaseException:
            self.close()
            raise

    @staticmethod
    def is_installed():
        return importlib.util.find_spec("pydotcompute") is not None

    def ask(self, job, count=0):
        """The rival's figure for `count` messages; it checks its own replies as ours are checked."""
        self._process.stdin.write(json.dumps({"job": job, "count": count}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        check(line, f"PyDotCompute ended during {job!r}; its traceback is above")
        return json.loads(line)

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()
