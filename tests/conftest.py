"""Fixtures for all tests: a runtime, a clean table of declarations, and the choice of event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import hypothesis
import left_behind
import pytest

from ringkernel import MessageQueue, RingKernelRuntime
from ringkernel.declaration.registry import registry

if TYPE_CHECKING:
    from kinds import Kind
    from thread_device import ThreadDevice

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

COMPILED = ["cpu", "loop", "grid"]
TYPED = ["typed_coroutine", *COMPILED]
KINDS = ["coroutine", *TYPED]
KIND_FIXTURES = ["kind", "typed_kind", "compiled_kind"]
SAMPLE = 5
"""So many parametrisations of a test `make test` runs, at most, where the mark `sampled` says no other number."""
LONG_KINDS = {"typed_coroutine", "grid"}
"""`make test` runs the same tests with the other kinds, and leaves these to `make test-all`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--guarded", action="store_true", help="shared memory lies between inaccessible pages")
    parser.addoption("--leaks", action="store_true", help="fail a test that leaves something behind")
    parser.addoption("--fused", action="store_true", help="connected kernels run as one wherever they can")
    parser.addoption("--grids", action="store_true", help="compiled kernels run as grids, as threads of this CPU")
    parser.addoption("--soak", type=float, metavar="SECONDS", help="how long the graph machine goes on, on new seeds")
    parser.addoption("--script", metavar="FILE", help="a script of the graph machine to play again")
    parser.addoption("--cuda", action="store_true", help='"auto" means the first GPU')


@pytest.hookimpl(tryfirst=True)  # before `-m` has its say
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mark_long(items)
    if config.getoption("--cuda") or config.getoption("--grids"):
        items[:] = [
            item for item in items if item.get_closest_marker("workers") is None and kinds_of(item) in (set(), {"grid"})
        ]
    if config.getoption("--guarded"):  # grids want memory that grows by the chunk; rings of objects are none of it
        items[:] = [
            item
            for item in items
            if item.get_closest_marker("unguarded") is None and not kinds_of(item) & {"grid", "coroutine"}
        ]


def leaves_out_long(config: pytest.Config) -> bool:
    """Whether this is `make test`."""
    return "not long" in config.option.markexpr


def mark_long(items: list[pytest.Item]) -> None:
    """Mark as `long` what the marks of files and functions leave to each parametrisation: see CONTRIBUTING.md."""
    sampled: dict[str, list[pytest.Item]] = {}
    for item in items:
        if kinds_of(item) & LONG_KINDS:
            item.add_marker("long")
        elif item.get_closest_marker("long") is None:
            sampled.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for group in sampled.values():
        mark = group[0].get_closest_marker("sampled")
        count = mark.args[0] if mark is not None else SAMPLE
        group.sort(key=lambda item: item.nodeid)
        kept = {len(group) * i // count for i in range(count)}
        for i, item in enumerate(group):
            if i not in kept:
                item.add_marker("long")


def kinds_of(item: pytest.Item) -> set[str]:
    """The kinds of kernel that a test runs with: none if it is not parametrised over them."""
    parameters = getattr(item, "callspec", None)
    return set() if parameters is None else {parameters.params.get(name) for name in KIND_FIXTURES} - {None}


def where_grids_run(declared: Any) -> str:
    """The GPU, for what a grid can run."""
    from ringkernel import ConfigurationError, MessageTypeError
    from ringkernel.devices import selection

    try:
        selection.check_fits(declared, "cuda:0")
    except (ConfigurationError, MessageTypeError):
        return "cpu"
    return "cuda:0"


@pytest.fixture(autouse=True)
def seen_before(request: pytest.FixtureRequest, module_mappings: None) -> None:
    """Note what there is before the test, with --leaks: see `left_behind`."""
    if request.config.getoption("--leaks"):
        left_behind.open_pools()
        request.node.stash[left_behind.BEFORE] = left_behind.look()


@pytest.fixture(autouse=True, scope="module")
def module_mappings(request: pytest.FixtureRequest) -> Iterator[None]:
    """Files that tests map are unmapped after the last test of a module, with --leaks."""
    if not request.config.getoption("--leaks"):
        yield
        return
    before = left_behind.mapped_files()
    yield
    left_behind.check_module(before)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Fail a test that leaves something behind, with --leaks."""
    yield
    left_behind.check_test(item)


@pytest.fixture(autouse=True)
def grids(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels of the kind "grid" run as threads of this CPU; with `--cuda` all compiled kernels run on the GPU."""
    from ringkernel.devices import selection

    on_gpu = request.config.getoption("--cuda")
    on_threads = request.config.getoption("--grids") or "grid" in kinds_of(request.node)
    if on_gpu or on_threads:
        monkeypatch.setattr(selection, "automatic", lambda declared: (where_grids_run(declared), "a test"))
    if on_gpu or not on_threads:
        yield
        return
    from thread_device import ThreadDevice

    device = ThreadDevice()
    monkeypatch.setattr(selection, "_opened", {device.name: device})
    yield
    device.join()


@pytest.fixture(autouse=True)
def who_runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop's thread takes the turns of kernels of the kind "loop" from the start, if it ever does. Workers
    take those of the kind "cpu", unless chains are to be fused: that, too, is for handlers that are sure to end."""
    import inside

    if "loop" in kinds_of(request.node):
        inside.take_turns_in_loop(monkeypatch)
    elif "cpu" in kinds_of(request.node) and not request.config.getoption("--fused"):
        inside.leave_turns_to_workers(monkeypatch)


@pytest.fixture(autouse=True)
def fused_chains(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--fused`, connected kernels run as one, up to three of them, whenever nothing keeps them apart."""
    if request.config.getoption("--fused"):
        from inside import force_fusing

        force_fusing(monkeypatch, most=3)


@pytest.fixture(autouse=True)
def guarded_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--guarded`, an access beyond a ring, a block, a state or a result ends the process; so does a write to an
    array that a runtime was given."""
    if request.config.getoption("--guarded"):
        import guarded

        if guarded.WHY_NOT is not None:
            pytest.skip(guarded.WHY_NOT)
        guarded.install(monkeypatch)


def pytest_configure(config: pytest.Config) -> None:
    use_cache(config)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a job in the background, and children inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if leaves_out_long(config):
        hypothesis.settings.register_profile("short", max_examples=20)
        hypothesis.settings.load_profile("short")
    config.addinivalue_line("markers", "long: left out by `make test`, and run by `make test-all`")
    config.addinivalue_line("markers", "sampled(count): all parametrisations but so many, evenly spread, are long")
    config.addinivalue_line("markers", "workers: about CPU workers, so left out with --cuda")
    config.addinivalue_line("markers", "compiles: mostly compiles, and looks at no clock; see .ci/run")
    config.addinivalue_line("markers", "unguarded: needs the very arrays that it gives; --guarded copies them")
    config.addinivalue_line("markers", "both_loops: run on asyncio's event loop and on uvloop's")


def use_cache(config: pytest.Config) -> None:
    """Keep compiled kernels from one session to the next, beside what pytest keeps: `pytest --cache-clear` and
    `make clean` remove them. `RINGKERNEL_TESTS_CACHE_DIR` names another place."""
    cache = getattr(config, "cache", None)
    kept = cache.mkdir("ringkernel") if cache is not None else ""
    os.environ["RINGKERNEL_CACHE_DIR"] = os.environ.get("RINGKERNEL_TESTS_CACHE_DIR") or os.fspath(kept)
    os.environ.pop("RINGKERNEL_CACHE_SIZE", None)


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if item.get_closest_marker("both_loops") is not None and sys.platform != "win32":
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.fixture(autouse=True)
def no_shared_session() -> Iterator[None]:
    """The session of `rk.map` ends with the test: others count threads."""
    yield
    if "ringkernel.runtime.session" in sys.modules:
        from inside import end_shared_session

        end_shared_session()


@pytest.fixture(autouse=True)
def clean_declarations() -> Iterator[None]:
    """Kernels that a test declares are gone after it."""
    before, beside = dict(registry.by_id), dict(registry.beside)
    yield
    registry.by_id.clear()
    registry.by_id.update(before)
    registry.beside.clear()
    registry.beside.update(beside)


@pytest.fixture
def random_cases(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """How many cases, random or sampled, a test tries that tries so many in `make test-all`: a fifth where long tests
    are left out."""
    return lambda count: max(1, count // 5) if leaves_out_long(request.config) else count


@pytest.fixture
def uncovered() -> Iterator[None]:
    """Coverage does not follow the test: that would take as long again where much is compiled. For random cases, which
    reach nothing that others do not."""
    coverage = sys.modules.get("coverage")
    current = None if coverage is None else coverage.Coverage.current()
    if current is None:
        yield
        return
    current.stop()
    yield
    current.start()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of kernel: `kind(same)` is what to launch. Grids are threads of this CPU."""
    from kinds import Kind

    return Kind(request.param)


@pytest.fixture(params=TYPED)
def typed_kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of kernel whose messages are records."""
    from kinds import Kind

    return Kind(request.param)


@pytest.fixture(params=COMPILED)
def compiled_kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of compiled kernel."""
    from kinds import Kind

    return Kind(request.param)


@pytest.fixture(params=[None, int], ids=["objects", "records"])
def queue_dtype(request: pytest.FixtureRequest) -> Any:
    """What a queue holds: any objects, or records."""
    return request.param


@pytest.fixture
def make_queue(queue_dtype: Any, loop_errors: list[dict[str, Any]]) -> Callable[[int], MessageQueue]:
    """Makes a queue of a capacity, of either form."""
    return lambda capacity: MessageQueue(capacity, queue_dtype)


@pytest.fixture
async def loop_errors() -> AsyncIterator[list[dict[str, Any]]]:
    """What the event loop could tell nobody: exceptions in callbacks and in tasks that nobody awaits. Must stay
    empty, unless the test takes out what it expects."""
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    yield errors
    assert errors == []


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadDevice]:
    """The one device there is, "cuda:0", whose grids are threads. All of them have ended after the test."""
    from inside import use_devices
    from thread_device import ThreadDevice

    made = ThreadDevice()
    use_devices(monkeypatch, made)
    yield made
    made.join()


@pytest.fixture
async def runtime(
    request: pytest.FixtureRequest, loop_errors: list[dict[str, Any]]
) -> AsyncIterator[RingKernelRuntime]:
    """An entered runtime with one worker, closed after the test, and before its device is. One that cannot be closed
    fails the test and not the whole run."""
    if "device" in request.fixturenames:
        request.getfixturevalue("device")
    entered = RingKernelRuntime(workers=1)
    await entered.__aenter__()
    yield entered
    closing = asyncio.create_task(entered.close())
    await asyncio.wait({closing}, timeout=10)
    assert closing.done(), {name: kernel.state.name for name, kernel in entered.kernels.items()}
    await closing
