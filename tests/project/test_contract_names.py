"""The page that users were given, name by name: signatures, defaults, fields and states are the printed ones."""

# The signatures stand as they are printed:
# mypy: disable-error-code="empty-body, type-arg"

from __future__ import annotations

import dataclasses
import inspect
import typing
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pytest

import ringkernel
from ringkernel import (
    KernelContext,
    KernelState,
    MessageQueue,
    RingKernel,
    RingKernelRuntime,
    managed_kernel,
    ring_kernel,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

TIn = TypeVar("TIn")
TOut = TypeVar("TOut")


class Page:
    """The signatures as they are printed."""

    class KernelContext(Generic[TIn, TOut]):
        @property
        def kernel_id(self) -> str: ...

        @property
        def should_terminate(self) -> bool: ...

        @property
        def is_active(self) -> bool: ...

        @property
        def state(self) -> KernelState: ...

        async def receive(self, *, timeout: float | None = None) -> TIn: ...

        async def send(self, message: TOut) -> None: ...

        async def wait_active(self) -> None: ...

        def request_termination(self) -> None: ...

    @staticmethod
    @asynccontextmanager
    async def managed_kernel(
        runtime: RingKernelRuntime,  # noqa: ARG004
        kernel_id: str,
        kernel_func: Callable | None = None,  # noqa: ARG004
    ) -> AsyncIterator[str]:
        yield kernel_id


def test_states_have_the_printed_names_values_and_order() -> None:
    assert [(state.name, state.value) for state in KernelState] == [
        ("CREATED", "created"),
        ("LAUNCHED", "launched"),
        ("ACTIVE", "active"),
        ("DEACTIVATED", "deactivated"),
        ("TERMINATING", "terminating"),
        ("TERMINATED", "terminated"),
    ]
    assert KernelState("active") is KernelState.ACTIVE


def test_ring_kernel_is_a_dataclass_with_the_printed_fields_first() -> None:
    fields = dataclasses.fields(RingKernel)
    printed = ["kernel_id", "func", "input_queue", "output_queue", "state", "task"]
    assert [field.name for field in fields[:6]] == printed
    assert all(field.default is dataclasses.MISSING for field in fields[:4])

    def func() -> None: ...

    source, sink = MessageQueue(), MessageQueue()
    kernel = RingKernel("worker", func, source, sink)
    assert (kernel.kernel_id, kernel.func) == ("worker", func)
    assert (kernel.input_queue, kernel.output_queue) == (source, sink)
    assert kernel.state is KernelState.CREATED
    assert kernel.task is None
    assert RingKernel("worker", func, source, sink, KernelState.ACTIVE, None).state is KernelState.ACTIVE


def test_kernel_context_is_generic_in_two_types() -> None:
    assert typing.get_args(KernelContext[int, str]) == (int, str)


@pytest.mark.parametrize("name", ["kernel_id", "should_terminate", "is_active", "state"])
def test_context_properties(name: str) -> None:
    ours, printed = getattr(KernelContext, name), getattr(Page.KernelContext, name)
    assert isinstance(ours, property)
    assert ours.fset is None
    assert ours.fget is not None
    assert inspect.signature(ours.fget) == inspect.signature(printed.fget)


@pytest.mark.parametrize("name", ["receive", "send", "wait_active", "request_termination"])
def test_context_methods(name: str) -> None:
    ours, printed = getattr(KernelContext, name), getattr(Page.KernelContext, name)
    assert inspect.signature(ours) == inspect.signature(printed)
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(printed)


def test_managed_kernel_takes_what_is_printed() -> None:
    ours, printed = inspect.signature(managed_kernel), inspect.signature(Page.managed_kernel)
    assert list(ours.parameters) == list(printed.parameters)
    assert [p.default for p in ours.parameters.values()] == [p.default for p in printed.parameters.values()]
    assert [p.kind for p in ours.parameters.values()] == [p.kind for p in printed.parameters.values()]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("launch", (("worker",), {})),
        ("launch", (("worker", print), {})),
        ("activate", (("worker",), {})),
        ("deactivate", (("worker",), {})),
        ("reactivate", (("worker",), {})),
        ("terminate", (("worker",), {})),
        ("terminate", (("worker",), {"timeout": 5.0})),
        ("send", (("worker", object()), {})),
        ("receive", (("worker",), {})),
    ],
)
def test_runtime_methods_are_awaitable_and_take_what_the_examples_pass(name: str, arguments: Any) -> None:
    method = getattr(RingKernelRuntime, name)
    assert inspect.iscoroutinefunction(method)
    args, kwargs = arguments
    inspect.signature(method).bind(None, *args, **kwargs)


def test_get_state_is_a_plain_method() -> None:
    assert not inspect.iscoroutinefunction(RingKernelRuntime.get_state)
    assert list(inspect.signature(RingKernelRuntime.get_state).parameters) == ["self", "kernel_id"]


def test_ring_kernel_leaves_the_function_as_it_is() -> None:
    async def worker(ctx: KernelContext): ...  # type: ignore[no-untyped-def]

    assert ring_kernel(kernel_id="worker")(worker) is worker


def test_every_exported_name_exists_and_star_import_gives_exactly_those() -> None:
    namespace: dict[str, Any] = {}
    exec("from ringkernel import *", namespace)
    namespace.pop("__builtins__")
    assert set(namespace) == set(ringkernel.__all__)
    assert set(ringkernel.__all__) <= set(dir(ringkernel))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="RingKernl"):
        _ = ringkernel.RingKernl
