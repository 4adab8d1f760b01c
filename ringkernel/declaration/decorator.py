"""The decorator `ring_kernel`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeAlias, TypeVar

from ringkernel.errors import ConfigurationError, KernelNotFoundError, MessageTypeError

from .annotations import first_type_of, is_source, output_type_of, with_defaults
from .declaration import Declaration
from .held import record_of, state_array
from .keys import keys_of
from .options import (
    DEFAULT_BLOCK_SIZE,
    DEFAULT_QUEUE_SIZE,
    Options,
    check_block_size,
    check_device,
    check_flag,
    check_max_outputs,
    check_outputs_fit,
    check_parallel,
    check_queue_size,
    message_type_of,
)
from .order import Late, order_of
from .registry import declared, registry
from .rng import check_seed
from .shared_field import check_keys
from .signature import check_kind, check_output_is_written, check_signature, check_source
from .together import with_companions

KernelId: TypeAlias = str | Callable[..., Any]
"""The name of a kernel where it is used: its id, or its function."""

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "__ring_kernel__"


def ring_kernel(  # noqa: PLR0913 (all but the id are options with a name)
    kernel_id: str,
    *,
    input_type: Any = None,
    output_type: Any = None,
    state: Any = None,
    queue_size: int = DEFAULT_QUEUE_SIZE,
    device: str = "auto",
    batch: bool = False,
    max_outputs: int = 1,
    check: bool = True,
    zeroed: bool = True,
    block_size: int = DEFAULT_BLOCK_SIZE,
    fma: bool = False,
    parallel: int | None = None,
    order_by: str | None = None,
    late: Late = "fail",
    patience: float | None = None,
    params: Any = None,
    key: str | None = None,
    keys: int | None = None,
    ordered: bool = True,
    rng: int | None = None,
) -> Callable[[F], F]:
    """Declare a kernel. The function itself is returned unchanged and stays callable.

    An `async def` function with one parameter, the `KernelContext`, is a coroutine kernel: it runs in the event
    loop, and its messages are any Python objects (or records, where a type is given).

    A plain function without a message, `f(out, state, params)`, is a source: it is called as long as there is room for
    `out`, returns False to emit nothing this time, and ends its kernel by `raise StopIteration`.

    A plain function is a compiled kernel, called once per message as `f(msg, out, state, params, rng)`: `out` if there
    is an output type, the others if there are such. It returns nothing or True to emit `out`, False to drop it. `out`
    is zeroed before each call; `msg` and `params` are read only. The first launch compiles it.

    Args:
        kernel_id: its name. Declaring a name again in the same module (a notebook cell that was edited) replaces the
            declaration; kernels that run with it go on with the new handler, see `RingKernelRuntime.replace`.
        input_type: a NumPy structured dtype, a scalar type (the record has the one field `value`), or a class under
            `@message`. Compiled kernels need one; by default the annotation of the first parameter.
        output_type: likewise; by default the annotation of `out`, or None for a kernel that only consumes.
        state: what `state` is at launch, copied each time: a message instance, a structured record, or an array; by
            default the default of a last parameter called `state`.
        queue_size: slots per ring, a power of two.
        device: "auto" (what the runtime says, or else the CPU), "cpu", "cuda" or "cuda:N".
        batch: the function gets `msgs, outs, ...`, contiguous slices of the rings without a copy, and returns
            how many outputs it wrote (nothing: one per message). If it fails, none of the slice has an output.
        max_outputs: for `batch`, slots in `outs` per message.
        check: compile index checks in; an index out of range is then an `IndexError` that ends the kernel.
        zeroed: `out` is zero before each call. With False it is not, and what the handler leaves out is what the slot
            happened to hold: faster for `batch=True`, and for large outputs of which all is written.
        block_size: on CUDA, the threads that share the messages of a handler without state, a multiple of 32 from 32
            to 1024.
        fma: on CUDA, let a product and the sum that it goes into be one instruction, rounded once: faster, but the
            last bits differ from the CPU's, where the two are always rounded one after the other.
        parallel: on the CPU, how many threads may share the messages of a handler without state, or with one for each
            key, when many wait. None: as many as there are cores, where that pays by the time that messages have taken
            so far. False, or 1: only the kernel's own. The outputs are the same, in the same order.
        order_by: the field with the time of a message, in every input: an integer, a float or a datetime64, of one
            type. The next message is then the one with the smallest time over all inputs, and at equal times that of
            the input declared first. An input in which nothing waits holds up the others until its time is known to
            have passed: by its next message, `RingKernelRuntime.advance`, the progress of a kernel that feeds it (if
            that declares `order_by`, too), its end, or `patience`. So what comes out depends on what is in the inputs,
            and not on how it got there.
        late: what becomes of a message whose time had passed already: "fail" (the kernel fails on it), "drop" (it is
            counted in the statistics as `late`, and the handler does not see it) or "take".
        patience: seconds after which an input without news holds up the others no more, for live use that prefers
            promptness.
        params: parameters that can be set while the kernel runs, by `RingKernelRuntime.write_params`: a message
            instance or a structured record, with which each launch begins; by default the default of a last parameter
            called `params`.
        key: the field, an integer or bytes of a fixed size ("S8"), by whose value there is a state for each: the
            handler sees that of its message's key, and of a new one a copy of `state`. A field of this name in the
            state holds the key.
        keys: how many keys there is room for at least, 1024 by default. A table with more than these grows, once it is
            nearly full, when the kernel goes on after a pause; one that is full when a new key comes fails the kernel.
            There are 4/3 to 8/3 slots for a key, each of 8 bytes and those of the state, rounded up to 16, 32, 64, 80,
            96, ..., and 8 more for their order: 10 million keys with a float each take 370 MB.
        ordered: with False, outputs of messages with different keys may come in any order: several threads need not put
            them in that of the messages then. Those of one key are in order, always.
        rng: the seed of the handler's random numbers, from 0 to 2**64 - 1; by default the default of a last parameter
            called `rng`. The handler gets them as in `Rng`: `rng.random()`, `rng.normal()`, `rng.integers(low, high)`.
            They are the same at every launch, and in Python; like a state, they have its messages handled in order.

    Raises:
        MessageTypeError: a type that cannot be a message or state, or a plain function without `input_type`.
        ConfigurationError: an option out of its range, a signature that does not fit, or an id of another module.

    Example:
        >>> @rk.ring_kernel("square", input_type=float, output_type=float)
        ... def square(msg, out):
        ...     out.value = msg.value**2
        >>> rk.map("square", [1.0, 2.0, 3.0])
        array([1., 4., 9.])
    """
    if inspect.isfunction(kernel_id):
        name = kernel_id.__name__
        raise ConfigurationError(f'a kernel needs an id: write @ring_kernel("{name}") above {name}, not @ring_kernel')
    if not isinstance(kernel_id, str) or not kernel_id:
        raise ConfigurationError(f"kernel_id is {kernel_id!r}; it must be a non-empty string")

    options = Options(
        input_type=input_type,
        output_type=output_type,
        state=state,
        queue_size=queue_size,
        device=device,
        batch=batch,
        max_outputs=max_outputs,
        check=check,
        zeroed=zeroed,
        block_size=block_size,
        fma=fma,
        parallel=parallel,
        order=order_of(kernel_id, order_by, late, patience),
        params=params,
        keys=keys_of(kernel_id, key, keys, check_flag(kernel_id, "ordered", ordered)),
        rng=rng,
    )

    def decorate(func: F) -> F:
        declaration = _declare(func, kernel_id, options)
        registry.add(declaration)
        setattr(func, _ATTRIBUTE, declaration)
        registry.rename(func)
        return func

    return decorate


def is_decorated(func: Any) -> bool:
    """Return whether a function was declared by `ring_kernel`; its id may have been declared again since."""
    return isinstance(getattr(func, _ATTRIBUTE, None), Declaration)


def id_of(kernel: Any) -> str:
    """Return the id of a kernel that is named by its function: the declared one, or else the function's name. Return
    anything but a function as it is."""
    if not inspect.isfunction(kernel):
        return kernel  # type: ignore[no-any-return]
    found = getattr(kernel, _ATTRIBUTE, None)
    return found.kernel_id if isinstance(found, Declaration) else kernel.__name__


def find_declaration(kernel_id: str, func: Callable[..., Any] | None) -> Declaration:
    """Return the declaration for `launch(kernel_id, func)`. Raises `KernelNotFoundError` or `MessageTypeError`."""
    if func is None:
        found = declared(kernel_id)
        if found is None:
            known = ", ".join(sorted(registry.by_id)) or "none"
            raise KernelNotFoundError(f"no kernel {kernel_id!r} is declared; declared are: {known}")
        return with_companions(found)
    found = getattr(func, _ATTRIBUTE, None)
    if isinstance(found, Declaration):
        return with_companions(found)
    return _declare(func, kernel_id, Options())


def _declare(func: Callable[..., Any], kernel_id: str, options: Options) -> Declaration:
    """Return the declaration of a kernel, its options checked. Raises `ConfigurationError` or `MessageTypeError`."""
    check_kind(kernel_id, func)
    is_coroutine = inspect.iscoroutinefunction(func)
    if not is_coroutine:
        options = _with_annotations(func, kernel_id, options)
    state, state_type = (None, None) if options.state is None else state_array(kernel_id, options.state)
    params, params_type = (None, None) if options.params is None else record_of(kernel_id, "params", options.params)
    checked: dict[str, Any] = {
        "state": state,
        "params": params,
        "rng": None if options.rng is None else check_seed(f"kernel {kernel_id!r}", "rng", options.rng),
        "input_type": message_type_of(kernel_id, "input_type", options.input_type),
        "output_type": message_type_of(kernel_id, "output_type", options.output_type),
        "queue_size": check_queue_size(options.queue_size),
        "device": check_device(options.device),
        "block_size": check_block_size(options.block_size),
        "fma": check_flag(kernel_id, "fma", options.fma),
    }
    check_max_outputs(kernel_id, options.max_outputs, batch=options.batch)
    check_outputs_fit(kernel_id, options.max_outputs, checked["queue_size"])
    held = options.state, options.params, options.keys, options.rng
    if is_coroutine and (options.batch or any(one is not None for one in held)):
        raise ConfigurationError(
            f"kernel {kernel_id!r}: a coroutine kernel keeps its own state, parameters, random numbers and batches; "
            f"drop them"
        )
    check_parallel(kernel_id, options.parallel, options.kept, is_coroutine=is_coroutine)
    given = {one.name: getattr(options, one.name) for one in fields(Options)}
    own: dict[str, Any] = {"kernel_id": kernel_id, "func": func, "state_type": state_type, "params_type": params_type}
    declaration = Declaration(**{**given, **checked, **own})
    _check_parameters(declaration)
    check_keys(declaration)
    return declaration


def _with_annotations(func: Callable[..., Any], kernel_id: str, options: Options) -> Options:
    """Return the options of a compiled kernel; those that were not given are what its parameters say."""
    held = with_defaults(func, {"state": options.state, "params": options.params, "rng": options.rng})
    inputs, outputs = options.input_type, options.output_type
    if inputs is None and is_source(func):
        options = replace(options, output_type=first_type_of(kernel_id, func) if outputs is None else outputs, **held)
        check_source(kernel_id, func, options)
        return options
    if inputs is None:
        inputs = first_type_of(kernel_id, func)
    if outputs is None:
        n_behind = sum(value is not None for value in held.values())
        outputs = output_type_of(kernel_id, func, n_behind=n_behind)
    if inputs is None:
        raise MessageTypeError(
            f"kernel {kernel_id!r}: {func.__name__} is a plain function, so it is compiled and needs a type: annotate "
            f"its first parameter, as in `msg: float`, or give input_type=...; a coroutine kernel is written with "
            f"`async def`"
        )
    return replace(options, input_type=inputs, output_type=outputs, **held)


def _check_parameters(declaration: Declaration) -> None:
    kernel_id, func, outputs = declaration.kernel_id, declaration.func, declaration.output_type
    if declaration.is_coroutine:
        check_signature(kernel_id, func, ["ctx"])
        return
    leading = [] if declaration.input_type is None else ["msg"]
    check_signature(kernel_id, func, [*leading, *declaration.parameters])
    if outputs is not None:
        field = (outputs.dtype.names or ())[0]
        example = f"[i].{field}" if declaration.batch else f".{field}"
        check_output_is_written(kernel_id, func, example, number=len(leading))
