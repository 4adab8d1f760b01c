"""The process of a rival, seen from the one that asks."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
from types import TracebackType
from typing import IO, Any, Self

from .registry import RivalSpec, Unavailable

CLOSE_S = 5.0


class RivalError(Exception):
    """A rival failed, died, answered with something else than JSON, or did not answer in time."""


class Rival:
    """A rival in a process of its own, from construction until `close`.

    `ask` blocks the caller and its event loop on purpose: while one side runs, the other one does nothing. After an
    error the process is gone, and nothing more can be asked.

    Args:
        spec: Which.
        timeout_s: How long the start, and each answer, may take.

    Raises:
        Unavailable: When something that it needs is missing, or it does not start.
    """

    def __init__(self, spec: RivalSpec, *, timeout_s: float = 60) -> None:
        self.spec = spec
        self._timeout_s = timeout_s
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own module, an interpreter from our own table
                spec.command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                start_new_session=True,  # the group is killed with what the rival started; Ctrl-C is for us
            )
        except OSError as error:
            self._stderr.close()
            raise Unavailable(f"{spec.name} does not start: {error}") from error
        except Unavailable:
            self._stderr.close()
            raise
        assert self._process.stdout is not None
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=_read_lines, args=(self._process.stdout, self._lines), daemon=True)
        self._reader.start()
        try:
            self.about = str(self._exchange({"job": "about"}))
            """What runs there: "PyDotCompute 0.2.0 on uvloop"."""
        except RivalError as error:
            raise Unavailable(str(error)) from error

    def ask(self, job: str, **parameters: Any) -> Any:
        """What a job answers; see the package for the jobs.

        Raises:
            RivalError: With the rival's traceback when it failed, or the last line that it wrote when it died.
            ValueError: For a job that this rival does not have.
        """
        if job not in self.spec.jobs:
            raise ValueError(f"{self.spec.name} has no job {job!r}; it has {', '.join(self.spec.jobs)}")
        if self._stderr.closed:
            raise RivalError(f"{self.spec.name} was asked for {job!r} after it had been closed")
        return self._exchange({"job": job, **parameters})

    def close(self) -> None:
        """End the process: by the end of its input, and if that does not help within some seconds, by force."""
        if not self._stderr.closed:
            self._end(CLOSE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _exchange(self, request: dict[str, Any]) -> Any:
        """Ask and wait. Whatever goes wrong ends the process, also an interrupt: its answer would come too late."""
        try:
            return self._result(request)
        except BaseException:
            self._end(0)
            raise

    def _result(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        is_start = request["job"] == "about"
        what = self.spec.name + (" does not start: it" if is_start else f", asked for {request['job']!r},")
        with contextlib.suppress(OSError):  # it has died: the reader sees it too
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        try:
            line = self._lines.get(timeout=self._timeout_s)
        except queue.Empty:
            raise RivalError(f"{what} did not answer within {self._timeout_s:g} s") from None
        if not line:
            status = self._wait(CLOSE_S)
            how = "closed its output" if status is None else f"ended with status {status}"
            raise RivalError(f"{what} {how}: {self._last_words()}")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or not {"error", "result"} & set(answer):
            raise RivalError(f"{what} answered with something else than an answer: {line[:200]!r}")
        if "error" in answer:
            raise RivalError(f"{self.spec.name} failed in {request['job']!r}:\n{answer['error']}")
        return answer["result"]

    def _end(self, patience_s: float) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):  # a request that it never read
            self._process.stdin.close()
        self._wait(patience_s)
        self._kill()
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        self._stderr.close()

    def _wait(self, patience_s: float) -> int | None:
        """Its exit status, None while it still runs after that time."""
        try:
            return self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            return None

    def _kill(self) -> None:
        """End it and what it started, if any of them is left."""
        if os.name != "posix":
            self._process.kill()
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the group is gone; macOS says it otherwise
            os.killpg(self._process.pid, signal.SIGKILL)

    def _last_words(self) -> str:
        """The last line that it wrote to stderr."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "without a word"


def _read_lines(stream: IO[bytes], lines: queue.SimpleQueue[bytes]) -> None:
    """Pass on each line, and an empty one at the end."""
    for line in stream:
        lines.put(line)
    lines.put(b"")
