"""The one way to run a child: a process that hears and answers lines of JSON, and ends with all that it has started.

    tell     --- one object per line, its stdin ------->
    answer   <-- one object per line, its stdout -------   within a time limit
    close    --- the end of its stdin, then its group -->

Cases, rivals and the fresh processes of `launch` are run by it. Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

CLOSE_S = 5.0
"""How long a child may take to end by itself."""


class ChildError(Exception):
    """A child cannot be run, died, or answered with something else than JSON. The text says which."""


class LateError(ChildError):
    """A child did not answer in time."""


class Child:
    """A process in a session of its own, until `close`; `environment` are variables besides our own.

    Waiting for it blocks the caller and its event loop on purpose: while one side runs, the other one does nothing.
    After an error or an interrupt the process is gone, since its answer would come too late; when it is interrupted it
    has `grace_s` to end by itself. Raises `ChildError` when it cannot be run.
    """

    def __init__(
        self, command: Sequence[str], *, grace_s: float = 0, environment: Mapping[str, str] | None = None
    ) -> None:
        self._grace_s = grace_s
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            with _interrupts_held():  # one that came in the middle would leave the process behind
                self._process = subprocess.Popen(  # noqa: S603 - our own modules, interpreters of our own table
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._complaints,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,  # the group is killed with what it has started; Ctrl-C is for us
                )
                self._reader = threading.Thread(target=self._read, daemon=True)
                self._reader.start()
        except OSError as error:
            self._complaints.close()
            raise ChildError(f"cannot be run: {error}") from error
        except KeyboardInterrupt:
            self.close(0)
            raise

    def _read(self) -> None:
        """Pass on each line, and an empty one at the end."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    @property
    def is_closed(self) -> bool:
        """Whether the process is gone, and nothing more can be asked."""
        return self._complaints.closed

    def tell(self, request: Mapping[str, Any]) -> None:
        """Send an object. That it has died shows in what is asked for next."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def ask(self, request: Mapping[str, Any], within_s: float) -> dict[str, Any]:
        """Send a request, wait for the answer: an object with "result", or with "error". Raises as `answer`."""
        self.tell(request)
        return self.answer(within_s, {"error", "result"})

    def answer(self, within_s: float, either: Collection[str] = ()) -> dict[str, Any]:
        """The next object that it sends, which must have one of these keys.

        Raises:
            LateError: When there is none in time.
            ChildError: When it died, with the last line that it wrote to stderr, or sent something else.
        """
        try:
            return self._answer(within_s, either)
        except BaseException as error:
            self.close(self._grace_s if isinstance(error, KeyboardInterrupt) else 0)
            raise

    def _answer(self, within_s: float, either: Collection[str]) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=max(0.0, within_s))
        except queue.Empty:
            raise LateError(f"did not answer within {within_s:g} s") from None
        if not line:
            status = self._wait(CLOSE_S)
            self._complaints.seek(0)
            words = self._complaints.read().decode(errors="replace").strip().splitlines() or ["without a word"]
            how = "closed its output" if status is None else f"ended with status {status}"
            raise ChildError(f"{how}: {words[-1]}")
        with contextlib.suppress(ValueError):
            if isinstance(answer := json.loads(line), dict) and (not either or any(key in answer for key in either)):
                return answer
        raise ChildError(f"answered with something else than an answer: {line[:200]!r}")

    def close(self, patience_s: float | None = None) -> None:
        """End the process: by the end of its input, and if that does not help in `CLOSE_S` or so long, by force."""
        if self.is_closed:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):  # a request that it never read
            self._process.stdin.close()
        try:
            self._wait(CLOSE_S if patience_s is None else patience_s)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it is gone; macOS says it otherwise
                if os.name == "posix":
                    os.killpg(self._process.pid, signal.SIGKILL)
                else:
                    self._process.kill()
            self._process.wait()
            self._reader.join()
            self._process.stdout.close()
            self._complaints.close()

    def _wait(self, patience_s: float) -> int | None:
        """Its exit status, None while it still runs after that time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(patience_s)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """A Ctrl-C meanwhile is raised at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt
