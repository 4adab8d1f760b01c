"""A handler's parameters say its types, where ring_kernel() does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ringkernel import ConfigurationError, MessageTypeError, message, ring_kernel
from ringkernel.declaration.decorator import find_declaration

TICK = np.dtype([("price", "f8"), ("volume", "f8")])


@message
class Quote:
    bid: float
    ask: float


def declared(func: Any, **options: Any) -> Any:
    return find_declaration("k", ring_kernel("k", **options)(func))


def test_messages_and_outputs_are_as_annotated() -> None:
    def handler(msg: TICK, out: Quote) -> None: ...  # type: ignore[valid-type]

    found = declared(handler)
    assert (found.input_type.dtype, found.output_type.cls, found.state) == (TICK, Quote, None)


def test_a_function_without_the_decorator_is_a_kernel_too() -> None:
    def handler(msg: np.float32, out: int) -> None: ...

    found: Any = find_declaration("k", handler)
    assert (found.input_type.name, found.output_type.name) == ("float32", "int64")


def test_the_default_of_a_last_parameter_called_state_is_the_state() -> None:
    def with_output(msg: float, out: float, state=np.zeros(2)) -> None: ...  # type: ignore[no-untyped-def]

    def consumer(msg: float, state=Quote(1.0, 2.0)) -> None: ...  # type: ignore[no-untyped-def]

    assert declared(with_output).state.tolist() == [0, 0]
    assert declared(with_output).output_type.name == "float64"
    found = declared(consumer)
    assert (found.output_type, found.state.tolist(), found.state_type.cls) == (None, [(1.0, 2.0)], Quote)


def test_the_second_parameter_of_a_kernel_with_a_state_is_that() -> None:
    def consumer(msg: float, total: float) -> None: ...

    found = declared(consumer, state=np.zeros(1))
    assert (found.output_type, found.state.tolist()) == (None, [0.0])


def test_what_is_given_to_the_decorator_comes_first() -> None:
    def handler(msg: float, out: nowhere, state=np.zeros(1)) -> None: ...  # type: ignore[name-defined, no-untyped-def]  # noqa: F821

    found = declared(handler, input_type=int, output_type=bool, state=np.ones(3))
    assert (found.input_type.name, found.output_type.name, found.state.tolist()) == ("int64", "bool", [1, 1, 1])


def test_other_parameters_with_a_default_stay_what_they_were() -> None:
    def handler(msg: float, factor: float = 2.0) -> None: ...

    found = declared(handler)
    assert (found.output_type, found.state) == (None, None)


def test_an_annotation_may_name_what_is_local_to_the_function_around() -> None:
    local = np.dtype([("x", "i4")])

    def handler(msg: local, out: float) -> None:  # type: ignore[valid-type]
        out.value = local.itemsize  # type: ignore[attr-defined]

    assert declared(handler).input_type.dtype == local


@pytest.mark.parametrize("annotation", ["nowhere", "1 / 0"])
def test_an_annotation_that_cannot_be_evaluated_is_named(annotation: str) -> None:
    def handler(msg: float, out: float) -> None: ...

    handler.__annotations__["out"] = annotation
    with pytest.raises(MessageTypeError, match=rf"kernel 'k': the annotation of `out`, '{annotation}', cannot be"):
        declared(handler)


def test_an_annotation_that_is_no_message_type_is_refused() -> None:
    def handler(msg: str) -> None: ...

    with pytest.raises(MessageTypeError, match="kernel 'k', input_type: .*str"):
        declared(handler)


def test_without_a_type_the_error_says_both_ways_to_give_one() -> None:
    def handler(msg, out) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.raises(MessageTypeError, match=r"annotate its first parameter, as in `msg: float`, or give input_type"):
        declared(handler)


def test_an_output_without_a_type_is_refused() -> None:
    def handler(msg: float, out) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.raises(ConfigurationError, match="`out` where there is an output_type"):
        declared(handler)


def test_a_coroutine_kernel_takes_any_object_whatever_is_annotated() -> None:
    async def handler(ctx: int) -> None: ...

    assert declared(handler).input_type is None
