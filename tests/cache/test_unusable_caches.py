"""A cache that cannot be used is a warning, and leaves nothing half written; a wrong setting is refused."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cache_tools import SPEC, built, find_span, run

import ringkernel as rk
from ringkernel.cache import code_cache, settings
from ringkernel.cache.store import Store

pytestmark = pytest.mark.compiles


def test_an_unwritable_cache_is_one_warning(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file, where there should be a directory")
    for name in (cache, cache / "below"):
        monkeypatch.setenv(settings.DIRECTORY_VARIABLE, str(name))
        assert run(find_span(built(), SPEC), [1.0])[1] == -1
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.name for record in warnings] == ["ringkernel"]
    assert "cannot be used" in warnings[0].getMessage()
    assert str(cache) in warnings[0].getMessage()


def test_a_home_that_is_not_known_is_a_warning(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(settings.DIRECTORY_VARIABLE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.setattr(sys, "platform", "linux")
    assert code_cache.look_up("ab") is None
    assert "no home directory" in caplog.text
    monkeypatch.setattr(Path, "home", lambda: Path("relative"))
    with pytest.raises(OSError, match="no home directory: 'relative' is a relative path"):
        settings.directory()


def test_a_home_of_somebody_unknown_is_a_warning(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(settings.DIRECTORY_VARIABLE, "~nobody of this name/cache")
    assert code_cache.look_up("ab") is None
    assert "no home directory for RINGKERNEL_CACHE_DIR='~nobody of this name/cache'" in caplog.text


LIMITED = """
import logging, resource, signal, sys
from pathlib import Path
from ringkernel.cache import code_cache
from ringkernel.cache.machine_code import MachineCode
logging.basicConfig()
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for key in ("aa", "bb"):
    code_cache.keep(key, lambda: MachineCode(bytes(100_000), {}, (), {}), key)
print(list(Path(sys.argv[1]).iterdir()))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limits")
def test_a_file_system_that_takes_no_more_is_a_warning_and_leaves_nothing(cache: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(cache)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
    assert done.stderr.count("cannot be used") == 1
    assert "File too large" in done.stderr


WRITER = """
import os, sys, tempfile
from pathlib import Path
from ringkernel.cache import store
create = tempfile.mkstemp
def told(*arguments):
    made = create(*arguments)
    print("writing", flush=True)
    return made
tempfile.mkstemp = told
while True:
    store.Store(Path(sys.argv[1]), 1 << 30).write("aa", os.urandom(50_000_000))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="ends processes otherwise")
def test_a_writer_that_is_killed_leaves_what_was_there(cache: Path) -> None:
    store = Store(cache, 1 << 30)
    store.write("aa", b"payload")
    with subprocess.Popen([sys.executable, "-c", WRITER, str(cache)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.kill()
    payload = store.read("aa")
    assert payload is not None
    assert len(payload) in (7, 50_000_000)  # the one or the other, whole
    store.clear()
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(("name", "value"), [(settings.SIZE_VARIABLE, "much"), (settings.DIRECTORY_VARIABLE, "a/b")])
async def test_a_wrong_setting_is_refused_at_launch(
    name: str, value: str, cache: Path, monkeypatch: pytest.MonkeyPatch, runtime: rk.RingKernelRuntime
) -> None:
    @rk.ring_kernel("refused", input_type=float, output_type=float)
    def refused(msg: Any, out: Any) -> None:
        out.value = msg.value + 0.125

    monkeypatch.setenv(name, value)
    with pytest.raises(rk.ConfigurationError, match=f"{name} is '{value}'; it must be"):
        await runtime.launch("refused")
