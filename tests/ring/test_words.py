"""Functions of words do what Python does, on words; and what is none is refused."""

from __future__ import annotations

import inspect
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ringkernel.codegen.operations import load, load_acquire, spin_hint, store, store_release
from ringkernel.codegen.targets.cpu import compile_entry
from ringkernel.words.compiler import NotOfWordsError

if TYPE_CHECKING:
    from collections.abc import Callable

FACTOR = 3
FEW = (2, 3, 5)


class Places(NamedTuple):
    first: int
    second: int


PLACES = Places(8, 16)


def arithmetic(a: int, b: int) -> int:
    return (a + b) * FACTOR - (a & b) + (a | 5) + (a ^ b) - (-a) + (~b)


def divided(a: int, b: int) -> int:
    return a // b


def rest(a: int, b: int) -> int:
    return a % b


def shifted(a: int, b: int) -> int:
    return (a >> (b & 63)) + (a << (b & 31))


def compared(a: int, b: int) -> int:
    same = a == b
    less = 1 if a < b <= 10**12 else 0
    return 8 * (a >= b) + 4 * less + 2 * same + (not a > b) + (a != b)


def either(a: int, b: int) -> int:
    if (a > 0 and b > 0) or (a < 0 and b < 0 and a != b):
        return a and b
    return a or b


def extremes(a: int, b: int) -> int:
    return min(a, b, 17) - max(int(a), b)


def among(a: int, b: int) -> int:
    return (a in FEW) + 2 * (b not in FEW)


def looped(a: int, b: int) -> int:
    total, last = 0, -1
    for i in range(a & 15):
        if i == 3:
            continue
        for last in range(i, i + 12, 5):
            if last == (b & 15):
                break
            total += last * i
    while total > b & 255:
        total -= 7
        if total == 11:
            break
    return total * 100 + last


def stepped(a: int, b: int) -> int:
    total = 0
    for i in range(a & 31, b & 15, (a >> 5 & 7) - 4 or 1):
        total = 3 * total + i
    for i in range(b & 15, -4, -3):
        total = 3 * total - i
    return total


def swapped(a: int, b: int) -> int:
    c, d, e, f = b, a, a + b, 1
    c, d, e, f = f, e, d, c
    a, b = b, a
    return c + 3 * d + 5 * e + 7 * f + 11 * a + 13 * b


def both(a: int, b: int) -> tuple[int, int]:
    if a > b:
        return a, 7
    if a == b:
        return 5, 6
    return b - 1, a


def taken_apart(a: int, b: int) -> int:
    larger, smaller = both(a, b)
    return 3 * larger + smaller


def places(a: int, b: int) -> int:
    return a * PLACES.first + b * PLACES.second + divided(a, 7) + nothing(a)


def nothing(a: int) -> int:
    if a > 5:
        return 4
    return 0


def enclosing(number: int) -> Callable[[int, int], int]:
    def inside(a: int, b: int) -> int:
        return a * number + twice(b)

    def twice(b: int) -> int:
        return 2 * b

    return inside


ALL = [
    arithmetic,
    divided,
    rest,
    shifted,
    compared,
    either,
    extremes,
    among,
    looped,
    stepped,
    swapped,
    places,
    enclosing(-4),
]
WORDS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-20, 20))


def as_word(number: int) -> int:
    return (int(number) + 2**63) % 2**64 - 2**63


@pytest.mark.parametrize("function", ALL, ids=lambda one: one.__name__)
def test_a_function_of_words_does_what_python_does(function: Callable[[int, int], int]) -> None:
    compiled = compile_entry(function)

    @given(a=WORDS, b=WORDS)
    @example(a=-(2**63), b=2**63 - 1)
    @example(a=7, b=-2)
    @example(a=-7, b=2)
    def check(a: int, b: int) -> None:
        if function in (divided, rest) and (b == 0 or (a, b) == (-(2**63), -1)):
            return
        assert compiled(a, b) == as_word(function(a, b))

    check()


def test_what_is_divided_by_nothing_is_nothing() -> None:
    assert compile_entry(divided)(5, 0) == 0
    assert compile_entry(rest)(5, 0) == 0


def returns_nothing(address: int) -> None:
    store(address, load(address) + 1)


def test_what_returns_nothing_returns_0() -> None:
    words = np.array([4], np.int64)
    assert compile_entry(returns_nothing)(int(words.ctypes.data)) == 0
    assert words[0] == 5


def test_what_stands_in_is_compiled_instead() -> None:
    assert compile_entry(places, instead={nothing: _nine})(0, 0) == 9


def test_what_stands_in_may_take_anything() -> None:
    assert compile_entry(places, instead={nothing: _ten})(0, 0) == 10


def _nine(_a: int) -> int:
    return 9


def _ten(*_any: int) -> int:
    return 10


# --- as Python calls it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [(), (1,), (1, 2, 3)], ids=len)
def test_another_number_of_arguments_is_an_error(given: tuple[int, ...]) -> None:
    with pytest.raises(TypeError):
        compile_entry(divided)(*given)


@pytest.mark.parametrize("wrong", [1.5, "1", None])
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_no_whole_number_is_an_error(wrong: Any, place: int) -> None:
    arguments: list[Any] = [-1, -1]
    arguments[place] = wrong
    with pytest.raises(TypeError):
        compile_entry(arithmetic)(*arguments)
    with pytest.raises(OverflowError):
        compile_entry(arithmetic)(2**63, 1)


def test_a_number_may_be_minus_one_or_numpys() -> None:
    compiled = compile_entry(divided)
    assert compiled(-1, -1) == 1
    assert compiled(np.int64(-9), np.int32(2)) == -5


def _until_both(words: int, mine: int) -> int:
    store_release(words + 8 * mine, 1)
    while load_acquire(words) + load_acquire(words + 8) < 2:
        spin_hint()
    return 1


def test_without_the_gil_two_threads_are_in_it_at_once() -> None:
    words, answers = np.zeros(2, np.int64), list[int]()
    compiled = compile_entry(_until_both, nogil=True)
    address = int(words.ctypes.data)
    other = threading.Thread(target=lambda: answers.append(compiled(address, 1)))
    other.start()
    answers.append(compiled(address, 0))
    other.join(60)
    assert answers == [1, 1]


# --- what is refused --------------------------------------------------------------------------------------------------


def raises(a: int) -> int:
    if a == 0:
        raise ValueError
    return a


def floats(a: int) -> float:
    return a / 2


def lists(a: int) -> int:
    return len([a])


def named(a: int) -> int:
    return divided(a, b=2)


def one_or_two(a: int) -> Any:
    return (a, a) if a > 3 else a


def chosen(a: int) -> int:
    called = divided if a > 3 else rest
    return called(a, 2)


@pytest.mark.parametrize("function", [raises, floats, lists, named, one_or_two, chosen])
def test_what_is_no_function_of_words_is_refused_by_name(function: Callable[..., Any]) -> None:
    assert inspect.isfunction(function)
    with pytest.raises(NotOfWordsError, match=f"{function.__name__} is no function of words"):
        compile_entry(function)
