"""Numba's errors in the words of a handler's author.

Each reason that it gives is known here by its form. What is not is said in general terms: numba's own text is the
error's cause, for who wants to read it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

GUIDE = "what a handler may contain is in docs/guide.md"
NO_FORM = f"this has no compiled form; {GUIDE}"
_NUMBAS_WORDS = re.compile(
    r"nopython|lower|unify|untyped|implementation of|signature|overload|constraint|numba|reflected|Literal\[|Var\(|\$\d"
    r"|<function |<class |<module |<built-in|opcode|IR |freevar|0x[0-9a-f]{6}",
    re.IGNORECASE,
)
_OPCODES = {
    "IMPORT_NAME": "an import inside of a handler cannot be compiled; import at the top of the module",
    "STORE_GLOBAL": "a handler cannot assign to a global; what it keeps between messages is its `state`",
}
_SIGNS = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "matmul": "@",
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "and_": "&", "or_": "|", "xor": "^",
    "lshift": "<<", "rshift": ">>", "contains": "in", "is_": "is", "neg": "-", "pos": "+", "invert": "~",
    "not_": "not", "iadd": "+=", "isub": "-=", "imul": "*=", "itruediv": "/=", "ifloordiv": "//=", "imod": "%=",
    "ipow": "**=",
}  # fmt: skip
_KINDS: tuple[tuple[str, str], ...] = (
    (r"\x1b\[[0-9;]*m", ""),
    (r"(?:ReadOnly)?Record\((?:[^()]|\([^()]*\))*?;\d+;(?:True|False)\)", "record"),
    (r"Literal\[int\]\(-?\d+\)", "int64"),
    (r"Literal\[bool\]\(\w+\)", "bool"),
    (r"Literal\[str\]\((.*?)\)", "text"),
    (r"unicode_type|\[unichr x \d+\]", "text"),
    (r"\[char x (\d+)\]", r"bytes (S\1)"),
    (r"Module\(<module '([\w.]+)'[^>]*>\)", r"the module \1"),
    (r"type\(CPUDispatcher\(<function (\w+)[^>]*>\)\)", r"the function \1"),
    (r"Function\(<(?:built-in |ufunc )?(?:function|method|class)? ?'?(\w+)[^>]*>\)", r"the function \1"),
    (r"(?:readonly )?nestedarray\(([^()]+), \(([\d, ]+),?\)\)", r"array of \1"),
    (r"(?:readonly |unaligned )*array\(([^()]+), 1d, \w+\)", r"array of \1"),
    (r"(?:readonly |unaligned )*array\(([^()]+), (\d)d, \w+\)", r"\2-D array of \1"),
    (r"(?:reflected )?list\(([^()]+)\)(?:<iv=[^>]*>)?", r"list of \1"),
    (r"(?:reflected )?set\(([^()]+)\)", r"set of \1"),
    (r"DictType\[[^\]]*\](?:<iv=[^>]*>)?|LiteralStrKey\[Dict\]\([^()]*\)", "dict"),
    (r"(?:Uni|Named|NamedUni)?Tuple\([^()]*\)", "tuple"),
    (r"Optional(?:Type)?\(([^()]+)\)", r"\1 or None"),
    (r"\bnone\b", "None"),
)


def kind_of(text: str) -> str:
    """A type of numba's, as its author would call it."""
    before = None
    while before != text:  # from the inside
        before = text
        for pattern, plain in _KINDS:
            text = re.sub(pattern, plain, text)
    return text.strip()


def in_plain_words(text: str, line: str) -> str:
    """Return what numba's error says. `line` is the line of code that it is about."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    for pattern, say in _FORMS:
        found = re.search(pattern, text, re.DOTALL)
        if found is not None:
            return say(found, line)
    reason = _first_reason(text)
    return NO_FORM if not reason or _NUMBAS_WORDS.search(reason) else reason


def _first_reason(text: str) -> str:
    """The line of numba's report that names the problem."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    skipped = ("Failed in", "During:", "- Resolution", "File ", "[", "(", "<source")
    reason = next((line for line in lines if not line.startswith(skipped) and "Traceback" not in line), "")
    return re.sub(r"\.?\s*Raised from .*|, location: .*|, defined at .*", "", reason)


# --- the forms -------------------------------------------------------------------------------------------------------


def _opcode(found: re.Match[str], _: str) -> str:
    return _OPCODES.get(found["name"], NO_FORM)


def _types_differ(found: re.Match[str], _: str) -> str:
    first, second = (kind_of(found[name]) for name in ("one", "other"))
    name = found["name"].partition(".")[0]
    what = "what is combined here" if name.startswith("$") else f"`{name}`"
    return (
        f"{what} is {_a(first)} on one way through the code and {_a(second)} on another; in a handler a name keeps one "
        f"type: convert, or use two names"
    )


def _returns_differ(found: re.Match[str], _: str) -> str:
    kinds = " or ".join(_a(kind_of(one)) for one in _arguments(found["kinds"]))
    return f"it returns {kinds}, depending on the way through the code; a function that is compiled returns one type"


def _value_from_outside(found: re.Match[str], _: str) -> str:
    kind = found["kind"].rpartition(".")[2]
    remedy = {
        "dict": "make it a named tuple, or an array that is indexed by numbers",
        "type": "pass what it would hold by the `state`, or as numbers",
        "ufunc": "of these only NumPy's own are compiled: write it out, or use NumPy or math",
        "Generator": "use np.random, or keep a seed in the `state`",
    }.get(kind, "pass the numbers that it holds, or make it part of the `state`")
    what = {"type": "a class", "ufunc": "a function of another library", "NoneType": "None"}.get(kind, _a(kind))
    return (
        f"`{found['name']}` is {what}; from outside, a handler can read numbers, arrays, tuples and functions: {remedy}"
    )


def _list_from_outside(found: re.Match[str], _: str) -> str:
    return (
        f"`{found['name']}` is a {kind_of(found['kind'])} from outside, which may change; make it a tuple or an array, "
        f"and what the handler changes part of its `state`"
    )


def _no_attribute(found: re.Match[str], _: str) -> str:
    name, kind = found["name"], kind_of(found["kind"].strip())
    if kind.startswith("the module "):
        module = kind.removeprefix("the module ")
        return (
            f"{module}.{name} has no compiled form; use what NumPy and math have, or call it in a coroutine kernel "
            f"(`async def`); {GUIDE}"
        )
    fields = "; fields are had from a record: declare a structured dtype" if kind.startswith("array") else ""
    return f"{_a(kind)} has no attribute {name!r} in a handler{fields}"


def _unsupported(found: re.Match[str], _: str) -> str:
    name = re.sub(r"^numpy\.", "np.", found["name"])
    return f"{name} has no compiled form, or not with these arguments; write it out as a loop, or {_ELSEWHERE}"


_ELSEWHERE = "call it in a coroutine kernel (`async def`)"


def _no_call(found: re.Match[str], line: str) -> str:
    name, arguments = found["name"], [kind_of(one) for one in _arguments(found["arguments"])]
    said = _OF_FUNCTIONS[name](arguments) if name in _OF_FUNCTIONS else ""
    if said:
        return said
    if name in _SIGNS:
        return f"`{_SIGNS[name]}` of {' and '.join(map(_a, arguments))} has no compiled form; convert one of them first"
    called = re.search(rf"([A-Za-z_][\w.]*\.)?\b{name}\s*\(", line)
    full = f"{(called[1] or '') if called else ''}{name}"
    return (
        f"{full} cannot be called with ({', '.join(arguments)}) in a handler; convert them, or write it out as a loop"
    )


def _index(kind: str, index: str) -> str:
    if re.fullmatch(r"(u?int|float|complex)\d+|bool", kind):
        return f"{_a(kind)} is one number, which cannot be indexed; use it as it is"
    if index.startswith("float"):
        return f"{_a(index)} is no index; convert it, as in int(...)"
    return f"{_a(kind)} cannot be indexed with {_a(index)}; convert the index, or write a loop"


def _bounds(given: list[str]) -> str:
    return (
        f"rng.integers(low, high) takes two numbers of type int64, got ({', '.join(given)}); convert them, as in "
        f"np.int64(...)"
    )


def _set_item(arguments: list[str]) -> str:
    if len(arguments) < 3:
        return ""
    return f"{_a(arguments[2])} cannot be assigned to an element of {_a(arguments[0])}; convert it first"


_OF_FUNCTIONS: dict[str, Callable[[list[str]], str]] = {
    "exception_match": lambda _: "`except` names nothing but Exception in a handler: write `except Exception:`",
    "getitem": lambda given: _index(given[0], given[1]) if len(given) > 1 else "",
    "setitem": _set_item,
    "integers_of_rng": lambda given: _bounds(given[1:]),
    "contains": lambda given: f"`in` does not work for {_a(given[0])}; write a loop" if given else "",
}


def _wrong_arguments(found: re.Match[str], line: str) -> str:
    called = re.findall(r"\b([A-Za-z_]\w*)\s*\(", line)
    name = called[-1] if called else "a function"
    return f"{name}{found['wanted']} is not called so: {found['why']}"


def _whole_field(found: re.Match[str], line: str) -> str:
    name = re.match(r"\s*(?:def .*?:\s*)?(\w+)\.(\w+)\s*=", line)
    field = f"{name[1]}.{name[2]}" if name is not None else f"outs.{found['name']}"
    return (
        f"`{field} = ...` cannot replace a field of all outputs; assign to its elements: `{field}[:] = ...`, or "
        f"`{field.replace('.', '[i].')} = ...` in a loop"
    )


def _cast(found: re.Match[str], _: str) -> str:
    given, wanted = kind_of(found["given"]), kind_of(found["wanted"])
    each = "; assign a nested array element by element, in a loop" if wanted.startswith("array") else ""
    return f"{_a(given)} cannot be assigned where {_a(wanted)} is{each}"


def _not_callable(found: re.Match[str], _: str) -> str:
    kind = kind_of(found["kind"])
    return f"{_a(kind)} is called like a function with ({kind_of(found['arguments'])}), which it is not; drop the call"


def _bad_index(found: re.Match[str], _: str) -> str:
    return f"{_a(kind_of(found['kind']))} is no index; convert it, as in int(...)"


def _no_such_number(found: re.Match[str], _: str) -> str:
    smaller = "complex128" if found["kind"].startswith("complex") else "float32 or float64"
    return f"{found['kind']} has no compiled form: let its field, or the array, be of {smaller}"


def _fixed(words: str) -> Callable[[re.Match[str], str], str]:
    return lambda _found, _line: words


_CALL = r"found for signature:\s+>>> (?P<name>\w+)\((?P<arguments>.*?)\)\s*\n\s*\n"
_FORMS: tuple[tuple[str, Callable[[re.Match[str], str], str]], ...] = (
    (r"unsupported opcode \((?P<name>\w+)\)", _opcode),
    (r"Cannot unify (?P<one>.+?) and (?P<other>.+?) for '(?P<name>[^']+)'", _types_differ),
    (r"Can't unify return type from the following types: (?P<kinds>[^\n]+)", _returns_differ),
    (r"Untyped (?:global name|freevar) ?'?(?P<name>\w+)'?:?.*?Cannot determine Numba type of <class '(?P<kind>[\w.]+)'",
     _value_from_outside),
    (r"use of a (?P<kind>.+?) type, assigned to variable '(?P<name>\w+)'", _list_from_outside),
    (r"Unknown attribute '(?P<name>\w+)' of type (?P<kind>[^\n]+)", _no_attribute),
    (r"unsupported NumPy function '(?P<name>[\w.]+)'", _unsupported),
    (_CALL, _no_call),
    (r"Cannot bind 'args=.*?' to signature '(?P<wanted>[^']*)' due to \"TypeError: (?P<why>[^\"\n]*?)\.?\"",
     _wrong_arguments),
    (r"No definition for lowering array\(.*?\)\.(?P<name>\w+) = ", _whole_field),
    (r"Cannot cast (?P<given>.+?) to (?P<wanted>[^\n:]+(?:\([^\n]*?\))?)", _cast),
    (r"Invalid use of (?P<kind>.+?) with parameters \((?P<arguments>[^\n]*)\)", _not_callable),
    (r"\*args in function call should be a tuple", _fixed("after `*` a call takes a tuple: write its arguments out")),
    (r"OverloadSelector object .*? = (?:global|freevar)\((?P<name>\w+): (?P<kind>\w+)", _value_from_outside),
    (r"Illegal IR, del found", _fixed("`del` of a name has no compiled form here: leave it out, or use another name")),
    (r"Int value is too large",
     _fixed("an integer of more than 64 bits has no compiled form: write it as a float, or in parts")),
    (r"unsupported array index type (?P<kind>[^\n]+?) in", _bad_index),
    (r"use of yield in a closure|yield in a generator",
     _fixed("a generator has no compiled form: use a list, `[... for ...]`, or a loop")),
    (r"\A(?P<kind>float16|float128|complex256)\Z", _no_such_number),
    (r"format spec in f-strings",
     _fixed("an f-string with a format has no compiled form: print the values themselves")),
    (r"with-context|context manager",
     _fixed("`with` has no compiled form: what it opens belongs in a coroutine kernel (`async def`)")),
    (r"Type of variable '(?P<name>[^']+)' cannot be determined", _fixed("the type of this value cannot be found out: "
     "give what it is made of a name, in a statement of its own")),
)  # fmt: skip


def _arguments(text: str) -> list[str]:
    """The types that are listed in a signature."""
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character in "([<{") - (character in ")]>}")
        if character == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [part.strip() for part in (*parts, text[start:]) if part.strip()]


def _a(kind: str) -> str:
    """A kind with its article."""
    if kind in ("text", "None") or kind.startswith(("bytes", "the ")):
        return kind
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def operands(text: str) -> list[Any]:
    """The kinds that a call that numba does not know is given."""
    found = re.search(_CALL, re.sub(r"\x1b\[[0-9;]*m", "", text), re.DOTALL)
    return [] if found is None else [kind_of(one) for one in _arguments(found["arguments"])]
