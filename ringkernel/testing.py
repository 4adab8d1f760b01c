"""Test your own handlers: compare the compiled kernel with the function in Python."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .declaration.decorator import find_declaration, id_of
from .devices.compiled.handler_views import Held, arguments_of
from .devices.compiled.python_form import PythonForm
from .errors import ConfigurationError, KernelFailedError, RingKernelError
from .memory.keys_layout import capacity_of, n_slots_for
from .messages.arrays import from_array
from .runtime.kernels.message_queue import as_batch
from .runtime.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from .declaration.declaration import Declaration


class Outcome(NamedTuple):
    """The outputs of a handler up to its failure, and the exception's class if it fails.

    Example:
        >>> from ringkernel import testing
        >>> testing.in_python(double, [1.0, 2.0])
        Outcome(outputs=array([2., 4.]), failure=None)
    """

    outputs: Any
    failure: type[BaseException] | None


def in_python(handler: Callable[..., Any] | str, messages: Any) -> Outcome:
    """Run a handler as Python does, message by message, from what is declared on. Breakpoints and coverage work.

    Args:
        handler: a function, decorated or annotated, or a declared id.
        messages: as for `RingKernelRuntime.map`.

    Example:
        >>> from ringkernel import testing
        >>> testing.in_python(double, [1.0, 2.0]).outputs
        array([2., 4.])
    """
    declaration = _declaration_of(handler)
    assert declaration.input_type is not None
    records = np.asarray(as_batch(declaration.input_type, messages)).view(declaration.input_type.dtype)
    rng = Held.declared(declaration).rng  # one for all keys
    held: defaultdict[Any, Held] = defaultdict(lambda: Held.declared(declaration)._replace(rng=rng))
    func = PythonForm()(declaration.func)
    found: list[npt.NDArray[Any]] = []
    failure = None
    step = max(1, len(records)) if declaration.batch else 1
    for start in range(0, len(records), step):
        part = records[start : start + step]
        try:
            with np.errstate(all="ignore"):
                outs = _call(func, declaration, part.copy(), _held_for(declaration, part, held))
        except Exception as error:  # noqa: BLE001 (whatever the handler raises)
            failure = type(error)
            break
        if outs is not None:
            found.append(outs)
    if declaration.output_type is None:
        return Outcome(None, failure)
    outputs = np.concatenate(found) if found else np.empty(0, declaration.output_type.dtype)
    return Outcome(from_array(declaration.output_type, outputs), failure)


def _held_for(declaration: Declaration, part: npt.NDArray[Any], held: defaultdict[Any, Held]) -> Held:
    """Return the state that messages are handled with: the only one, or that of their key."""
    if declaration.keys is None:
        return held[None]
    field = declaration.keys.field
    key = part[field][0].item()
    is_new = key not in held
    if is_new and len(held) >= capacity_of(n_slots_for(declaration.keys.capacity)):
        raise RingKernelError(f"there is no room for a key more: {field}={key!r}")
    if is_new and declaration.state_type is not None and field in (held[key].state.dtype.names or ()):
        held[key].state[field] = key
    return held[key]


def _call(func: Callable[..., Any], declaration: Declaration, part: npt.NDArray[Any], held: Held) -> Any:
    """Call a handler's function once; return its outputs, or None."""
    arguments, outs = arguments_of(declaration, part, held)
    said = func(*arguments)
    if outs is None or said is None or said is True:
        return outs
    return outs[: int(said)]


def compiled(handler: Callable[..., Any] | str, messages: Any, *, session: Session | None = None) -> Outcome:
    """Run a handler as a kernel does, from its declared state on.

    Args:
        handler: as for `in_python`.
        messages: as for `RingKernelRuntime.map`.
        session: where to run it; by default one of its own.

    Example:
        >>> from ringkernel import testing
        >>> testing.compiled(double, [1.0, 2.0], session=session).outputs
        array([2., 4.])
    """
    declaration = _declaration_of(handler)
    if session is None:
        with Session(workers=1) as own:
            return compiled(handler, messages, session=own)
    try:
        return Outcome(session.map_once(declaration.func, messages), None)
    except KernelFailedError as error:
        cause = error.__cause__
        return Outcome(error.partial, None if cause is None else type(cause))


def random_messages(handler: Callable[..., Any] | str, count: int, *, seed: int = 0) -> npt.NDArray[Any]:
    """Messages of a handler's input type: floats of either sign over six orders of magnitude, small integers, bytes
    that are digits, times around 2000; the same for the same seed.

    Example:
        >>> from ringkernel import testing
        >>> testing.random_messages(double, 1_000).shape
        (1000,)
    """
    declaration = _declaration_of(handler)
    assert declaration.input_type is not None
    generator = np.random.default_rng(seed)
    records = np.zeros(count, declaration.input_type.dtype)
    _fill(records, generator)
    array: npt.NDArray[Any] = from_array(declaration.input_type, records)
    return array


def _fill(array: npt.NDArray[Any], generator: np.random.Generator) -> None:
    dtype = array.dtype
    if dtype.names is not None:
        for name in dtype.names:
            _fill(array[name], generator)
    elif dtype.kind in "fc":
        array[...] = generator.normal(size=array.shape) * 10.0 ** generator.uniform(-3, 3, array.shape)
        if dtype.kind == "c":
            array.imag[...] = generator.normal(size=array.shape)
    elif dtype.kind == "b":
        array[...] = generator.integers(0, 2, array.shape)
    elif dtype.kind == "S":
        array[...] = generator.integers(0, 100, array.shape).astype(dtype)
    elif dtype.kind in "Mm":
        array[...] = generator.integers(-(10**6), 10**6, array.shape).astype(dtype)
    else:
        array[...] = generator.integers(-100 if dtype.kind == "i" else 0, 101, array.shape)


def check(
    handler: Callable[..., Any] | str,
    messages: Any = None,
    *,
    count: int = 1_000,
    seed: int = 0,
    rtol: float = 0.0,
    session: Session | None = None,
) -> None:
    """Assert that a handler does the same compiled as in Python: the same outputs, and the same failure, if any.

    Args:
        handler: a function, decorated or annotated, or a declared id.
        messages: what to send; by default `random_messages`.
        count: how many random messages.
        seed: of the random messages.
        rtol: how much floats may differ, relatively; by default not in a bit. NaN is equal to NaN.
        session: where to run the kernel; by default one of its own.

    Raises `AssertionError`, which names the first output that differs. Where they may differ is listed in
    docs/differences.md.

    Example:
        >>> from ringkernel import testing
        >>> testing.check(double, session=session)
    """
    sent = random_messages(handler, count, seed=seed) if messages is None else messages
    ours, kernels = in_python(handler, sent), compiled(handler, sent, session=session)
    name = id_of(handler)
    if ours.outputs is not None:
        _check_outputs(name, np.asarray(ours.outputs), np.asarray(kernels.outputs), rtol)
    if ours.failure is not kernels.failure:
        raise AssertionError(f"{name}: in Python it {_ended(ours.failure)}, compiled it {_ended(kernels.failure)}")


def _check_outputs(name: str, ours: npt.NDArray[Any], kernels: npt.NDArray[Any], rtol: float) -> None:
    for i, (expected, got) in enumerate(zip(ours, kernels, strict=False)):
        if not _equal(expected, got, rtol):
            raise AssertionError(f"{name}: output {i} is {expected!r} in Python, and {got!r} compiled")
    if len(ours) != len(kernels):
        raise AssertionError(f"{name}: {len(ours)} outputs in Python, and {len(kernels)} compiled")


def _equal(expected: Any, got: Any, rtol: float) -> bool:
    if expected.dtype.names is not None:
        return all(_equal(expected[name], got[name], rtol) for name in expected.dtype.names)
    if expected.dtype.kind in "fc":
        return bool(np.allclose(expected, got, rtol=rtol, atol=0, equal_nan=True))
    return bool(np.all((expected == got) | (expected != expected)))  # noqa: PLR0124 (NaT)


def _ended(failure: type[BaseException] | None) -> str:
    return "does not fail" if failure is None else f"raises {failure.__name__}"


def _declaration_of(handler: Callable[..., Any] | str) -> Declaration:
    func = None if isinstance(handler, str) else handler
    declaration = find_declaration(id_of(handler), func)
    if declaration.is_coroutine:
        raise ConfigurationError(f"{id_of(handler)} is a coroutine kernel: Python runs it anyway; nothing is compiled")
    return declaration
