"""Handlers with the mistakes that their authors make. What is wrong is in the line with a `# <-`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

TICK = np.dtype([("price", "f8"), ("volume", "i8")])
VECTOR = np.dtype([("n", "i8"), ("xs", "f8", 3)])
MEAN = np.zeros(1, [("mean", "f8")])[0]

limits = np.array([1.0, 2.0])
factors = {"a": 1.0}
names = ["a", "b"]
threshold = 3.0


class Thing:
    factor = 2.0


thing = Thing()
generator = np.random.default_rng(1)

Case = tuple[Callable[..., Any], dict[str, Any], str]
CASES: list[Case] = []


def case(reason: str, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A handler, and what is said of it."""

    def note(func: Callable[..., Any]) -> Callable[..., Any]:
        CASES.append((func, {"input_type": TICK, "output_type": float, **options}, reason))
        return func

    return note


# --- names -----------------------------------------------------------------------------------------------------------


@case(r"the name 'threshhold' is not defined \(did you mean 'threshold'\?\)")
def misspelt_global(msg: Any, out: Any) -> None:
    out.value = msg.price * threshhold  # type: ignore[name-defined]  # noqa: F821  # <-


@case(r"the name 'totl' is not defined \(did you mean 'total'\?\)")
def misspelt_local(msg: Any, out: Any) -> None:
    total = msg.price + 1
    out.value = totl + total  # type: ignore[name-defined]  # noqa: F821  # <-


@case(r"numpy has no 'sqr' \(did you mean 'sqrt'\?\)")
def misspelt_function(msg: Any, out: Any) -> None:
    out.value = np.sqr(msg.price)  # type: ignore[attr-defined]  # <-


@case(r"the name 'no_such' is not defined")
def misspelt_in_helper(msg: Any, out: Any) -> None:
    out.value = help_it(msg.price)


def help_it(price: Any) -> Any:
    return price * no_such  # type: ignore[name-defined]  # noqa: F821  # <-


# --- names without a value -------------------------------------------------------------------------------------------

UNBOUND = r"`x` may have no value here: .*; give it a value before the branch or the loop, as in `x = \.\.\.`"


@case(UNBOUND)
def binds_on_one_way(msg: Any, out: Any) -> None:
    if msg.price > 1:
        x = {1: 2.0}
    out.value = x[1]  # <-


@case(UNBOUND)
def binds_in_a_loop_that_may_not_run(msg: Any, out: Any) -> None:
    for i in range(msg.volume):
        x = i * 2.0
    out.value = x  # <-


@case(UNBOUND)
def deletes_a_name(msg: Any, out: Any) -> None:
    x = msg.price
    if x > 1:
        del x
    out.value = x  # <-


@case(UNBOUND)
def adds_to_nothing(msg: Any, out: Any) -> None:
    x += msg.price  # type: ignore[name-defined]  # noqa: F821  # <-
    out.value = x  # type: ignore[name-defined]


@case(UNBOUND)
def binds_on_one_way_in_a_helper(msg: Any, out: Any) -> None:
    out.value = sign_of(msg.price)


def sign_of(price: Any) -> Any:
    if price > 0:
        x = 1.0
    elif price < 0:
        x = -1.0
    return x  # <-


@case(UNBOUND)
def binds_on_one_way_for_a_closure(msg: Any, out: Any) -> None:
    if msg.price > 1:
        x = 2.0

    def doubled() -> Any:  # <-
        return x * 2

    out.value = doubled()


# --- fields ----------------------------------------------------------------------------------------------------------


@case(r"msg\.prize: the message has no field 'prize' \(did you mean 'price'\?\); its fields are price, volume")
def misspelt_field(msg: Any, out: Any) -> None:
    out.value = msg.prize  # <-


@case(r"out\.valeu: the output has no field 'valeu' \(did you mean 'value'\?\); its fields are value")
def misspelt_output(msg: Any, out: Any) -> None:
    out.valeu = msg.price  # <-


@case(r"state\.meen: the state has no field 'meen' \(did you mean 'mean'\?\); its fields are mean", state=MEAN)
def misspelt_state(msg: Any, out: Any, state: Any) -> None:
    out.value = state.meen  # <-


@case(r"the message has no field 'prize' \(did you mean 'price'\?\); its fields are price, volume", batch=True)
def misspelt_in_batch(msgs: Any, outs: Any) -> None:
    for i in range(len(msgs)):
        outs[i].value = msgs[i].prize  # <-


@case(r"the message has no field 'prize' \(did you mean 'price'\?\); its fields are price, volume", batch=True)
def misspelt_column(msgs: Any, outs: Any) -> None:
    outs.value[:] = msgs.prize  # <-


@case(r"the message has no field 'prize' \(did you mean 'price'\?\); its fields are price, volume")
def misspelt_field_in_helper(msg: Any, out: Any) -> None:
    out.value = prize_of(msg)


def prize_of(record: Any) -> Any:
    return record.prize  # <-


@case(r"the output has no field 'valeu' \(did you mean 'value'\?\); its fields are value")
def misspelt_item(msg: Any, out: Any) -> None:
    out["valeu"] = msg["price"]  # <-


# --- what is assigned ------------------------------------------------------------------------------------------------


@case(r"`outs\.value = \.\.\.` cannot replace a field of all outputs.*`outs\.value\[:\] = \.\.\.`", batch=True)
def assigns_a_column(msgs: Any, outs: Any) -> None:
    outs.value = msgs.price * 2  # <-


@case(r"`limits` is an array from outside.*cannot be written to.*`state`")
def writes_to_an_array_from_outside(msg: Any, out: Any) -> None:
    limits[0] = msg.price  # <-
    out.value = limits[0]


@case(r"a float64 cannot be assigned where an array of float64 is; .* in a loop", output_type=VECTOR)
def number_into_an_array(msg: Any, out: Any) -> None:
    out.xs = msg.price  # <-


@case(r"an array is assigned to a field that holds one float64; choose an element", input_type=VECTOR)
def array_into_a_number(msg: Any, out: Any) -> None:
    out.value = msg.xs  # <-


@case(
    r"a float64 is assigned to a place of type int64; convert it explicitly, as in np\.int64\(\.\.\.\)",
    output_type=TICK,
)
def float_into_an_integer(msg: Any, out: Any) -> None:
    out.volume = msg.price  # <-


@case(r"returns True \(emit\).*; this one returns float64: results are written to the fields of `out`")
def returns_the_result(msg: Any, out: Any) -> Any:  # <-
    out.value = 0.0
    return msg.price * 2


# --- types -----------------------------------------------------------------------------------------------------------


@case(r"`x` is text on one way through the code and a float64 on another; .* convert, or use two names")
def two_types_of_one_name(msg: Any, out: Any) -> None:
    x: Any = "none"
    if msg.price > 1:
        x = 1.0
    out.value = len(x)  # <-


@case(r"may be None.*let it begin as an array")
def none_or_an_array(msg: Any, out: Any) -> None:
    x: Any = None
    if msg.price > 1:
        x = np.zeros(3)
    out.value = x[0]  # <-


@case(r"`\+` of a float64 and text has no compiled form; convert one of them first")
def adds_text(msg: Any, out: Any) -> None:
    out.value = msg.price + "a"  # <-


@case(r"`\*` of a record and an int64 has no compiled form.*its fields can: msg\.price, msg\.volume, out\.value")
def calculates_with_the_record(msg: Any, out: Any) -> None:
    out.value = msg * 2  # <-


@case(r"a float64 is one number, which cannot be indexed")
def indexes_a_number(msg: Any, out: Any) -> None:
    out.value = msg.price[0]  # <-


@case(r"a float64 is no index; convert it, as in int\(\.\.\.\)", state=np.zeros(3))
def indexes_with_a_float(msg: Any, out: Any, state: Any) -> None:
    out.value = state[msg.price]  # <-


@case(r"an integer of more than 64 bits has no compiled form")
def writes_a_large_number(msg: Any, out: Any) -> None:
    out.value = msg.price + 0xFFFF_FFFF_FFFF_FFFF_FFFF  # <-


@case(r"a float64 has no attribute 'upper' in a handler")
def calls_a_method(msg: Any, out: Any) -> None:
    out.value = msg.price.upper()  # <-


@case(r"a float64 is called like a function with \(int64\)")
def calls_a_number(msg: Any, out: Any) -> None:
    out.value = msg.price(2)  # <-


@case(r"`factors` is a dict; from outside, a handler can read numbers, .*: make it a named tuple")
def reads_a_dict(msg: Any, out: Any) -> None:
    out.value = factors["a"] * msg.price  # <-


@case(r"`names` is a list of text from outside, which may change; make it a tuple or an array")
def grows_a_list_from_outside(msg: Any, out: Any) -> None:
    names.append("x")  # <-
    out.value = len(names)


@case(r"`thing` is a Thing; .*numbers.*make it part of the `state`")
def reads_an_object(msg: Any, out: Any) -> None:
    out.value = thing.factor * msg.price  # <-


@case(r"`generator` is a Generator; .*use np\.random, or keep a seed in the `state`")
def uses_a_generator(msg: Any, out: Any) -> None:
    out.value = generator.normal()  # <-


# --- what has no compiled form ---------------------------------------------------------------------------------------


@case(r"numpy\.fft\.rfft has no compiled form; .*coroutine kernel.*docs/guide\.md")
def uses_fft(msg: Any, out: Any) -> None:
    out.value = np.fft.rfft(np.zeros(4))[0].real  # <-


@case(r"np\.gradient has no compiled form, or not with these arguments; write it out as a loop", batch=True)
def uses_gradient(msgs: Any, outs: Any) -> None:
    outs.value[:] = np.gradient(msgs.price)  # <-


@case(r"np\.mean cannot be called with \(array of float64, axis=int64, keepdims=bool\) in a handler", batch=True)
def uses_arguments_that_are_not_there(msgs: Any, outs: Any) -> None:
    outs.value[:] = np.mean(msgs.price, axis=0, keepdims=True)  # <-


@case(r"math\.sqrt cannot be called with \(float64, int64\) in a handler")
def calls_with_too_many(msg: Any, out: Any) -> None:
    out.value = math.sqrt(msg.price, 2)  # type: ignore[call-arg]  # <-


@case(r"add_up\(a, b\) is not called so: missing a required argument: 'b'")
def calls_with_too_few(msg: Any, out: Any) -> None:
    out.value = add_up(msg.price)  # type: ignore[call-arg]  # <-


def add_up(a: Any, b: Any) -> Any:
    return a + b


@case(r"an f-string with a format has no compiled form")
def formats(msg: Any, out: Any) -> None:
    print(f"{msg.price:.2f}")  # noqa: T201  # <-
    out.value = 1


@case(r"int64 has no text in a handler, neither by str\(\) nor in an f-string; print the value itself")
def makes_text_of_a_number(msg: Any, out: Any) -> None:
    out.value = len(str(msg.volume))  # <-


@case(r"float64 has no text in a handler")
def makes_text_in_an_f_string(msg: Any, out: Any) -> None:
    print(f"at {msg.price}")  # noqa: T201  # <-
    out.value = 1


@case(r"`except` names nothing but Exception in a handler: write `except Exception:`")
def catches_one_class(msg: Any, out: Any) -> None:
    try:
        out.value = 1 / msg.price
    except ZeroDivisionError:  # <-
        out.value = 0


@case(r"`with` has no compiled form: what it opens belongs in a coroutine kernel")
def opens_a_file(msg: Any, out: Any) -> None:
    with open("x") as file:  # noqa: PTH123  # <-
        out.value = len(file.read())


@case(r"a generator has no compiled form: use a list")
def sums_a_generator(msg: Any, out: Any) -> None:
    out.value = sum(x for x in range(3))  # <-


@case(r"an import inside of a handler cannot be compiled; import at the top of the module")
def imports(msg: Any, out: Any) -> None:
    import datetime as dt  # <-

    out.value = dt.MAXYEAR


@case(r"`del` has no compiled form for this")
def deletes(msg: Any, out: Any) -> None:
    x = [1, 2]
    del x[0]  # <-
    out.value = x[0]


@case(r"a message is read only.*write to the output, or to a copy")
def writes_to_a_message(msg: Any, out: Any) -> None:
    msg.price = 3.0  # <-
    out.value = msg.price


@case(r"float16 has no compiled form: let its field, or the array, be of float32", input_type=np.dtype([("x", "f2")]))
def reads_half_a_float(msg: Any, out: Any) -> None:  # <-
    out.value = msg.x


@case(r"float16 has no compiled form: let its field, or the array, be of float32", state=np.zeros(1, np.float16))
def holds_half_a_float(msg: Any, out: Any, state: Any) -> None:  # <-
    out.value = state[0]
