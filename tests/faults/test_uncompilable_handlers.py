"""What cannot be compiled is refused at the launch, with the reason first."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from fault_kernels import (
    check_alive,
    echo,
)
from helpers import start

from ringkernel import (
    KernelCompileError,
    KernelState,
    RingKernelRuntime,
    ring_kernel,
)

VECTOR = np.dtype([("n", "i8"), ("xs", "f8", 3)])


def unknown_input_field(msg: Any, out: Any) -> None:
    out.value = msg.prize


def unknown_output_field(msg: Any, out: Any) -> None:
    out.valeu = msg.value


def unknown_batch_field(msgs: Any, outs: Any) -> None:
    for i in range(len(msgs)):
        outs[i].value = msgs[i].prize


def float_into_integer(msg: Any, out: Any) -> None:
    out.value = 0.5 * msg.value


def float_added_to_integer(msg: Any, out: Any) -> None:
    out.value = 1
    out.value += 0.5 * msg.value


def float_into_integer_batch(msgs: Any, outs: Any) -> None:
    for i in range(len(msgs)):
        outs[i].value = 0.5 * msgs[i].value


def float_into_integer_state(msg: Any, state: Any) -> None:
    state[0] = 0.5 * msg.value


def float_into_integer_helper(msg: Any, state: Any) -> None:
    put_half(state)


def put_half(array: Any) -> None:
    array[0] = 0.5


def opens_a_file(msg: Any, out: Any) -> None:
    out.value = len(open("x").read())  # noqa: PTH123, SIM115 (it must not compile)


def undefined_name(msg: Any, out: Any) -> None:
    out.value = msg.value + no_such_name  # type: ignore[name-defined]  # noqa: F821


def text_method(msg: Any, out: Any) -> None:
    out.value = msg.value.upper()


def calculates_with_the_record(msg: Any, out: Any) -> None:
    out.value = msg * 2


def calculates_with_records(msgs: Any, outs: Any) -> None:
    outs[:] = msgs * 2


def imports_inside(msg: Any, out: Any) -> None:
    import math

    out.value = math.floor(msg.value)


def assigns_to_a_global(msg: Any, out: Any) -> None:
    global FACTORS  # noqa: PLW0603
    FACTORS = msg.value


FACTORS = {"a": 1}


def reads_a_dictionary(msg: Any, out: Any) -> None:
    out.value = FACTORS["a"] * msg.value


def returns_number(msg: Any, out: Any) -> Any:
    out.value = msg.value
    return msg.value


def returns_text(msg: Any, out: Any) -> Any:
    return "yes"


def returns_tuple(msg: Any, out: Any) -> Any:
    return (True, False)


def batch_returns_float(msgs: Any, outs: Any) -> Any:
    return 1.0


def batch_returns_bool(msgs: Any, outs: Any) -> Any:
    return True


def assigns_to_message(msg: Any, out: Any) -> None:
    msg.value = 3


def adds_to_message(msg: Any, out: Any) -> None:
    msg.value += 3


def assigns_to_batch(msgs: Any, outs: Any) -> None:
    for i in range(len(msgs)):
        msgs[i].value = 3


def assigns_through_another_name(msg: Any, out: Any) -> None:
    alias = msg
    alias.value = 3


def assigns_in_a_loop_over_the_batch(msgs: Any, outs: Any) -> None:
    for msg in msgs:
        msg.value = 3


def write_to(record: Any, value: Any) -> None:
    record.value = value


def passed_on(record: Any) -> Any:
    return record


def assigns_in_a_helper(msg: Any, out: Any) -> None:
    write_to(msg, 3)


def assigns_in_a_helper_by_keyword(msg: Any, out: Any) -> None:
    write_to(value=3, record=msg)


def assigns_through_a_tuple(msg: Any, out: Any) -> None:
    both = (msg, out)
    both[0].value = 3


def assigns_to_what_a_helper_returns(msg: Any, out: Any) -> None:
    passed_on(msg).value = 3


def writes_output_in_a_helper(msg: Any, out: Any) -> None:
    write_to(passed_on(out), msg.value + 1)


def assigns_whole_nested_array(msg: Any, out: Any) -> None:
    out.xs = msg.xs * 2


DOES_NOT_COMPILE: list[tuple[Any, dict[str, Any], str]] = [
    (unknown_input_field, {}, r"msg\.prize.*no field 'prize'.*value"),
    (unknown_output_field, {}, r"out\.valeu.*no field 'valeu'.*value"),
    (unknown_batch_field, {"batch": True}, r"prize"),
    (float_into_integer, {}, r"value.*float64.*int64"),
    (float_added_to_integer, {}, r"value.*float64.*int64"),
    (float_into_integer_batch, {"batch": True}, r"float64.*int64"),
    (float_into_integer_state, {"output_type": None, "state": np.zeros(2, np.int64)}, r"state.*float64.*int64"),
    (float_into_integer_helper, {"output_type": None, "state": np.zeros(2, np.int64)}, r"array.*float64.*int64"),
    (opens_a_file, {}, r"open"),
    (undefined_name, {}, r"no_such_name"),
    (text_method, {}, r"upper"),
    (calculates_with_the_record, {}, r"`\*` of a record .*msg\.value"),
    (calculates_with_records, {"batch": True}, r"`\*` of an array of record .*msgs\.value"),
    (imports_inside, {}, r"import at the top"),
    (assigns_to_a_global, {}, r"global.*`state`"),
    (reads_a_dictionary, {}, r"`FACTORS` is a dict.*numbers, arrays"),
    (returns_number, {}, r"returns.*int64"),
    (returns_text, {}, r"returns text"),
    (returns_tuple, {}, r"returns.*[Tt]uple"),
    (batch_returns_float, {"batch": True}, r"returns.*float64"),
    (batch_returns_bool, {"batch": True}, r"returns.*bool"),
    (assigns_to_message, {}, r"msg\.value.*read only"),
    (adds_to_message, {}, r"msg\.value.*read only"),
    (assigns_to_batch, {"batch": True}, r"msgs\[i\].*read only"),
    (assigns_through_another_name, {}, r"alias.*read only"),
    (assigns_in_a_loop_over_the_batch, {"batch": True}, r"msg.*read only"),
    (assigns_in_a_helper, {}, r"record\.value = value.*read only"),
    (assigns_in_a_helper_by_keyword, {}, r"record\.value = value.*read only"),
    (assigns_through_a_tuple, {}, r"both.*read only"),
    (assigns_to_what_a_helper_returns, {}, r"passed_on.*read only"),
    (assigns_whole_nested_array, {"input_type": VECTOR, "output_type": VECTOR}, r"out\.xs.*loop|loop.*out\.xs"),
]


@pytest.mark.parametrize(
    ("func", "options", "reason"), DOES_NOT_COMPILE, ids=[case[0].__name__ for case in DOES_NOT_COMPILE]
)
async def test_what_does_not_compile_is_refused_with_the_reason_first(
    runtime: RingKernelRuntime, func: Any, options: Any, reason: Any
) -> None:
    declared = ring_kernel(kernel_id="ft_uncompilable", **{"input_type": int, "output_type": int, **options})(func)
    for _ in range(2):
        with pytest.raises(KernelCompileError) as caught:
            await runtime.launch("ft_uncompilable", declared)
        first_line, where, code, *rest = str(caught.value).splitlines()
        assert re.search(reason, f"{code}: {first_line}"), caught.value
        assert __file__ in where
        assert "'ft_uncompilable'" in "\n".join(rest)
        assert func.__name__ in "\n".join(rest)
        assert runtime.get_state("ft_uncompilable") is KernelState.CREATED
        assert "ft_uncompilable" not in runtime.kernels
    await start(runtime, "ft_uncompilable", echo)
    await check_alive(runtime, "ft_uncompilable")


async def test_a_helper_may_write_to_the_output(runtime: RingKernelRuntime) -> None:
    declared = ring_kernel(kernel_id="ft_helped", input_type=int, output_type=int)(writes_output_in_a_helper)
    await start(runtime, "ft_helped", declared)
    assert await runtime.map("ft_helped", [1, 2]) == pytest.approx([2, 3])
