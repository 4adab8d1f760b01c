"""Check that a function can be a kernel: its kind, its parameters, and its use of `out`."""

from __future__ import annotations

import dis
import inspect
import re
import warnings
from typing import TYPE_CHECKING, Any

from ringkernel.errors import ConfigurationError, MessageTypeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .options import Options

_ACCESS = re.compile(r"(LOAD|STORE)_FAST")


def check_kind(kernel_id: str, func: Any) -> None:
    """Refuse what is no function, and generators. Raises `ConfigurationError`."""
    if not inspect.isfunction(func):
        raise ConfigurationError(f"kernel {kernel_id!r}: {func!r} is no function; use `def` or `async def`")
    if inspect.isasyncgenfunction(func):
        raise ConfigurationError(
            f"kernel {kernel_id!r}: {func.__name__} is an async generator; a coroutine kernel emits with "
            f"`await ctx.send(...)` and has no `yield`"
        )
    if inspect.isgeneratorfunction(func):
        raise ConfigurationError(
            f"kernel {kernel_id!r}: {func.__name__} is a generator; a compiled kernel writes to `out` and has no "
            f"`yield`"
        )


def check_signature(kernel_id: str, func: Callable[..., Any], wanted: list[str]) -> None:
    """Refuse a function that cannot be called with the wanted arguments. Raises `ConfigurationError`."""
    parameters = inspect.signature(func).parameters.values()
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in plain if p.default is p.empty]
    if len(required) > len(wanted) or len(plain) < len(wanted) or len(plain) != len(parameters):
        why = (
            "a coroutine kernel gets its `KernelContext`"
            if wanted == ["ctx"]
            else "`out` where there is an output_type, `state`, `params` and `rng` where there are such"
        )
        raise ConfigurationError(
            f"kernel {kernel_id!r}: {func.__name__}{inspect.signature(func)} should take ({', '.join(wanted)}): {why}"
        )


def check_source(kernel_id: str, func: Callable[..., Any], options: Options) -> None:
    """Refuse a source without an output type, or with options that are about messages. Raises `MessageTypeError` or
    `ConfigurationError`."""
    if options.output_type is None:
        raise MessageTypeError(
            f"kernel {kernel_id!r}: {func.__name__} has no message, only `out`, so it is a source and needs the type "
            f"of its outputs: annotate it, as in `out: float`, or give output_type=..."
        )
    about_messages = {
        "batch=True": options.batch,
        "order_by": options.order,
        "key": options.keys,
        "parallel": options.parallel,
    }
    for name, given in about_messages.items():
        if given:
            raise ConfigurationError(
                f"kernel {kernel_id!r}: {name} does not go with a source, which has no messages: {func.__name__} is "
                f"called for one output at a time"
            )


def check_output_is_written(kernel_id: str, func: Callable[..., Any], example: str, *, number: int = 1) -> None:
    """Refuse `out = ...`: it gives the name another meaning, and the output stays zero. Raises `ConfigurationError`.

    `example` is how to write to it, and `number` that of the parameter.
    """
    name, accesses = _accesses_to_output(func, number)
    if accesses == {"STORE"}:
        raise ConfigurationError(
            f"kernel {kernel_id!r}: {func.__name__} assigns to the name `{name}`, which writes nothing to the output; "
            f"write to it, as in `{name}{example} = ...`"
        )


def warn_of_unwritten_output(kernel_id: str, func: Callable[..., Any], *, number: int = 1) -> None:
    """Warn of a handler that never mentions its output, the parameter of that number, which is zero then: once, at its
    own file and line. One that raises, or that may drop the message, is not warned of."""
    name, accesses = _accesses_to_output(func, number)
    code = func.__code__
    returns = any(one.opname.startswith("RETURN_") for one in dis.get_instructions(func))
    if returns and not accesses and name not in code.co_cellvars and not any(one is False for one in code.co_consts):
        warnings.warn_explicit(
            f"kernel {kernel_id!r}: {func.__name__} never mentions `{name}`, so that each output is zero; write to its "
            f"fields, or leave the output out",
            UserWarning,
            code.co_filename,
            code.co_firstlineno,
            registry=func.__globals__.setdefault("__warningregistry__", {}),
        )


def _accesses_to_output(func: Callable[..., Any], number: int) -> tuple[str, set[str]]:
    """Return the name of a handler's output, and the ways in which it is accessed."""
    name = list(inspect.signature(func).parameters)[number]
    return name, {
        access
        for instruction in dis.get_instructions(func)
        for access, accessed in zip(_ACCESS.findall(instruction.opname), _names(instruction.argval), strict=False)
        if accessed == name
    }


def _names(argument: Any) -> tuple[Any, ...]:
    """Return the variables of an instruction; from Python 3.13 on one may access two."""
    return argument if isinstance(argument, tuple) else (argument,)
