"""A declaration that cannot work is refused where it stands; a launch with options that cannot be changes nothing."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from fault_kernels import (
    check_alive,
    echo,
)
from helpers import start

from ringkernel import (
    ConfigurationError,
    KernelNotFoundError,
    MessageTypeError,
    RingKernelRuntime,
    message,
    ring_kernel,
)


def signatures() -> list[tuple[str, Any, dict[str, Any]]]:
    async def two_parameters(ctx: Any, more: Any) -> None: ...

    async def no_parameter() -> None: ...

    async def asynchronous_generator(ctx: Any) -> AsyncIterator[Any]:
        yield 1

    def generator(msg: Any) -> Iterator[Any]:
        yield 1

    return [
        ("too few", lambda msg: None, {"output_type": int}),
        ("too many", lambda msg, out, more: None, {"output_type": int}),
        ("no state", lambda msg, state: None, {}),
        ("state missing", lambda msg, out: None, {"output_type": int, "state": np.zeros(2)}),
        ("star", lambda *args: None, {"output_type": int}),
        ("keywords", lambda msg, *, out: None, {"output_type": int}),
        ("none at all", lambda: None, {}),
        ("coroutine with two", two_parameters, {}),
        ("coroutine with none", no_parameter, {}),
        ("asynchronous generator", asynchronous_generator, {}),
        ("generator", generator, {}),
        ("builtin", print, {}),
        ("class", int, {}),
        ("not callable", 3, {}),
    ]


@pytest.mark.parametrize(
    ("func", "options"), [case[1:] for case in signatures()], ids=[case[0] for case in signatures()]
)
def test_a_signature_that_does_not_fit_is_refused_at_the_declaration(func: Any, options: Any) -> None:
    with pytest.raises(ConfigurationError, match="'ft_signature'") as caught:
        ring_kernel(kernel_id="ft_signature", input_type=int, **options)(func)
    assert isinstance(caught.value, ValueError)


class Plain:
    def __init__(self) -> None:
        self.total, self.seen = 0.0, 1


@message
class Account:
    total: float = 0.0


@pytest.mark.parametrize(
    ("state", "instead"),
    [
        (np.array([Plain()]), 'as in `np.zeros(1, [("total", "f8"), ("seen", "i8")])`'),
        (np.array([[object()], [object()]]), "as in `np.zeros((2, 1), [("),
        (np.array([Account()] * 3), "`np.zeros(3, Account.dtype)`"),
        (np.array([{"n": 1, "on": True}]), 'as in `np.zeros(1, [("n", "i8"), ("on", "?")])`'),
        (np.array([1.5, 2], object), "`array.astype(np.float64)`"),
        (np.array([1, 2], object), "`array.astype(np.int64)`"),
        (np.array([1, None]), "`array.astype(np.float64)`, which makes NaN of None"),
        (np.array([Decimal(1)]), "`array.astype(np.float64)`"),
        (np.array([date(2026, 1, 2)]), '`array.astype("M8[us]")`'),
        (np.array([], object), "`np.zeros(n)`"),
        (np.array(["a", "b"]), "cannot be an array of <U1; it may be of numbers, booleans, times, bytes"),
        (np.array([True, False], object), "`array.astype(np.bool_)`"),
        (np.zeros(2, [("a", "O"), ("b", "<f4")]), 'needs another dtype, as in `[("a", "f8"), ("b", "<f4")]`'),
        ([0.0, 1.0], "`np.array([0.0, 1.0])`"),
        ([Account()], "`np.zeros(1, Account.dtype)`"),
        (0.5, "`np.array([0.5])`, which the handler knows as `state[0]`"),
        (np.array(3), "`np.array([3])`"),
        ({"n": 1}, 'as in `np.zeros(1, [("n", "i8")])`'),
        (Plain(), 'as in `np.zeros(1, [("total", "f8"), ("seen", "i8")])`'),
        (Account, "`Account()`"),
    ],
)
def test_a_state_that_is_none_is_refused_with_what_would_be_one(state: Any, instead: str) -> None:
    with pytest.raises(MessageTypeError, match="'ft_state': state") as caught:
        ring_kernel("ft_state", input_type=int, state=state)(lambda msg, state: None)
    assert instead in str(caught.value)


def assigns_to_out(msg: Any, out: Any) -> None:
    out = msg.value * 2  # noqa: F841


def assigns_to_outs(msgs: Any, outs: Any) -> None:
    outs = msgs  # noqa: F841


def reads_out_first(msg: Any, out: Any) -> None:
    out = out.value


@pytest.mark.parametrize(
    ("func", "batch", "remedy"), [(assigns_to_out, False, "out.value = "), (assigns_to_outs, True, "outs[i].value = ")]
)
def test_a_handler_that_assigns_to_the_name_of_its_output_is_refused(func: Any, batch: Any, remedy: Any) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(remedy)):
        ring_kernel("ft_rebinds", input_type=int, output_type=int, batch=batch)(func)


@pytest.mark.parametrize("func", [reads_out_first, lambda msg, out: None])
def test_a_handler_that_reads_or_leaves_its_output_is_not_refused(func: Any) -> None:
    assert ring_kernel("ft_reads", input_type=int, output_type=int)(func) is func


def test_a_decorator_without_an_id_says_how_to_write_it() -> None:
    without_id: Any = echo
    with pytest.raises(ConfigurationError, match=re.escape('@ring_kernel("echo")')):
        ring_kernel(without_id)


def test_a_generator_is_refused_for_what_it_is() -> None:
    _, generator, _ = next(case for case in signatures() if case[0] == "asynchronous generator")
    with pytest.raises(ConfigurationError, match=re.escape("async generator; a coroutine kernel emits with")):
        ring_kernel("ft_generator")(generator)


@pytest.mark.parametrize("option", ["input_type", "output_type"])
def test_a_type_that_is_none_is_refused_with_kernel_option_and_field(option: Any) -> None:
    text = np.dtype([("id", "i8"), ("name", "U8")])
    options: dict[str, Any] = {"input_type": int, "output_type": int, option: text}
    with pytest.raises(MessageTypeError, match=f"'ft_type', {option}: .*its field 'name' is of <U8"):
        ring_kernel("ft_type", **options)(lambda msg, out: None)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"queue_size": 0}, "power of two"),
        ({"queue_size": 3}, "2 or 4"),
        ({"queue_size": -4}, "power of two"),
        ({"queue_size": 4.0}, "power of two"),
        ({"queue_size": True}, "power of two"),
        ({"queue_size": 2**40}, "power of two"),
        ({"device": "gpu"}, "cuda"),
        ({"device": "cpu:1"}, "cuda"),
        ({"device": "cuda:x"}, "cuda"),
        ({"device": None}, "cuda"),
        ({"max_outputs": 2}, "batch"),
        ({"max_outputs": 0, "batch": True}, "max_outputs"),
        ({"max_outputs": 8, "batch": True, "queue_size": 4}, "queue_size"),
    ],
)
def test_an_option_out_of_range_is_refused_at_the_declaration(options: Any, word: Any) -> None:
    with pytest.raises(ConfigurationError, match=word):
        ring_kernel(kernel_id="ft_options", input_type=int, output_type=int, **options)(lambda msg, out: None)


@pytest.mark.parametrize("kernel_id", ["", None, 3, b"x"])
def test_an_id_that_is_none_is_refused(kernel_id: Any) -> None:
    with pytest.raises(ConfigurationError, match="kernel_id"):
        ring_kernel(kernel_id=kernel_id, input_type=int)


async def test_a_plain_function_without_types_is_refused(runtime: RingKernelRuntime) -> None:
    def plain(msg: Any) -> None:
        pass

    with pytest.raises(MessageTypeError, match=r"plain.*input_type"):
        ring_kernel(kernel_id="ft_plain")(plain)
    with pytest.raises(MessageTypeError, match=r"plain.*input_type"):
        await runtime.launch("ft_plain", plain)
    with pytest.raises(KernelNotFoundError):
        runtime.get_state("ft_plain")


async def test_bad_launch_options_change_nothing(runtime: RingKernelRuntime) -> None:
    for options in ({"device": "gpu"}, {"queue_size": 100}, {"queue_size": "8"}):
        with pytest.raises(ConfigurationError):
            await runtime.launch("k", echo, **options)
    assert not runtime.kernels
    await start(runtime, "k", echo)
    await check_alive(runtime, "k")


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2"])
def test_a_number_of_workers_that_is_none_is_refused(workers: Any) -> None:
    with pytest.raises(ConfigurationError, match="workers"):
        RingKernelRuntime(workers=workers)
