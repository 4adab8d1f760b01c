"""Functions of words: plain Python over int64, made into LLVM IR without numba's types.

The protocol, the turn and the loops know one type, and nothing in them raises. Numba would find the type of each of
their thousands of operations, and pass exceptions on from every call: 4 s where this takes a fraction of one. Numba
reads the bytecode, so that all versions of Python look alike; each of its statements is an instruction or two here.
Variables are words on the stack, which LLVM keeps in registers.

What such a function may use: whole numbers, arithmetic, comparisons, `in` a constant tuple, `if`, `while`, `for` over a
`range`, tuples that are taken apart or returned at once, `min`, `max`, `int`; fields of named tuples, such as the
offsets of a record; operations, functions of words, and those of the C library. Numbers wrap. `//` and `%` round down,
and are 0 where the divisor is. A function that returns nothing returns 0.
"""

from __future__ import annotations

import operator
import weakref
from collections import defaultdict
from inspect import CO_VARARGS
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from llvmlite import ir
from numba.core import ir as statements
from numba.core.bytecode import ByteCode, FunctionIdentity
from numba.core.interpreter import Interpreter
from numba.core.types import ExternalFunction

from .operators import BINARY, I64, UNARY, call_of_c, compared, extreme, is_among

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

F = TypeVar("F", bound="Callable[..., Any]")

_UNKNOWN = object()
_BUILTINS = (range, int, bool, min, max)


_seldom_called: weakref.WeakSet[Any] = weakref.WeakSet()


def seldom(function: F) -> F:
    """A function of words that is called so seldom that it should be kept out of the loops around."""
    _seldom_called.add(function)
    return function


class NotOfWordsError(Exception):
    """A function does what functions of words do not; the message names it."""


class WordCompiler:
    """Compiles such functions, each once, into a module: a new one, unless it is given.

    `operations` has what stands for a function: another one, or what has an `emit(builder, *words)` that writes
    instructions and returns a word or None.
    """

    def __init__(self, operations: Mapping[Any, Any], module: ir.Module | None = None) -> None:
        self.module = ir.Module("ringkernel") if module is None else module
        self.functions: dict[Any, ir.Function] = {}
        self._operations = operations

    def meant_by(self, function: Any) -> Any:
        """Return the operation that stands for a function, or the function itself."""
        return self._operations.get(function, function)

    def function(self, python: Callable[..., Any]) -> ir.Function:
        """The compiled function."""
        if python not in self.functions:
            body = _Body(self, python)
            name = self.module.get_unique_name(python.__qualname__)
            kind = ir.FunctionType(_returned(body.n_returned), [I64] * python.__code__.co_argcount)
            self.functions[python] = compiled = ir.Function(self.module, kind, name)
            compiled.linkage = "internal"
            compiled.attributes.add("nounwind")
            if python in _seldom_called:
                compiled.attributes.add("noinline")
                compiled.attributes.add("cold")
            for argument, name in zip(compiled.args, python.__code__.co_varnames, strict=False):
                argument.name = name
            body.write(compiled)
        return self.functions[python]


def _returned(count: int) -> Any:
    """The type of what a function returns: a word, or so many in a tuple."""
    return ir.LiteralStructType([I64] * count) if count else I64


class _Range(NamedTuple):
    """A `range`: its arguments; and, once it is gone through, where the next number is kept."""

    start: Any
    stop: Any
    step: Any
    place: Any = None


class _Body:
    """One function, while it is written."""

    def __init__(self, compiler: WordCompiler, python: Callable[..., Any]) -> None:
        self._compiler, self._name = compiler, python.__qualname__
        identity = FunctionIdentity.from_function(python)
        self._source = Interpreter(identity).interpret(ByteCode(identity)).blocks
        self._places: dict[str, Any] = {}
        self._parts: dict[str, Any] = {}  # ranges, tuples, pairs
        self._constants: dict[str, Any] = {}
        self._definitions: dict[str, list[Any]] = defaultdict(list)
        for block in self._source.values():
            for one in block.find_insts(statements.Assign):
                self._definitions[one.target.name].append(one.value)
        ends = [end for block in self._source.values() for end in block.find_insts(statements.Return)]
        self.n_returned = self._length_of_all([end.value for end in ends])

    def write(self, compiled: ir.Function) -> None:
        """Write all of it."""
        self._compiled = compiled
        self._entry = compiled.append_basic_block("entry")
        self._blocks = {label: compiled.append_basic_block(f"at{label}") for label in sorted(self._source)}
        for label, block in sorted(self._blocks.items()):
            self._builder = ir.IRBuilder(block)
            for statement in self._source[label].body:
                self._statement(statement)
        ir.IRBuilder(self._entry).branch(self._blocks[min(self._blocks)])

    def _refuse(self, what: Any) -> NotOfWordsError:
        return NotOfWordsError(f"{self._name} is no function of words: {what}")

    def _statement(self, statement: Any) -> None:
        if isinstance(statement, statements.Assign):
            self._assign(statement.target.name, statement.value)
        elif isinstance(statement, statements.Jump):
            self._builder.branch(self._blocks[statement.target])
        elif isinstance(statement, statements.Branch):
            is_true = self._builder.icmp_signed("!=", self._word(statement.cond), I64(0))
            self._builder.cbranch(is_true, self._blocks[statement.truebr], self._blocks[statement.falsebr])
        elif isinstance(statement, statements.Return):
            self._builder.ret(self._result(statement.value))
        else:
            raise self._refuse(statement)

    def _assign(self, name: str, value: Any) -> None:
        if self._constant(name) is not _UNKNOWN:
            return
        if isinstance(value, statements.Var) and value.name in self._parts:
            result = self._parts[value.name]
        elif isinstance(value, statements.Expr):
            result = self._expression(value)
        elif isinstance(value, statements.Arg):
            if value.index == len(self._compiled.args):  # `*args`, which a function may have, but not look at
                return
            result = self._compiled.args[value.index]
        else:
            result = self._word(value)
        if isinstance(result, ir.Value):
            self._builder.store(result, self._place(name))
        else:
            self._parts[name] = result

    # --- values ---------------------------------------------------------------------------------------------------

    def _constant(self, name: str) -> Any:
        """Return the value that a variable always has, if it is known: a function, a named tuple, a number."""
        if name not in self._constants:
            self._constants[name] = _UNKNOWN  # while it is looked for
            found = [self._constant_of(value) for value in self._definitions[name]]
            if found and all(one is found[0] for one in found):
                self._constants[name] = found[0]
        return self._constants[name]

    def _constant_of(self, value: Any) -> Any:
        if isinstance(value, statements.Const | statements.Global | statements.FreeVar):
            return value.value
        if isinstance(value, statements.Var):
            return self._constant(value.name)
        if isinstance(value, statements.Expr) and value.op == "getattr":
            owner = self._constant(value.value.name)
            return _UNKNOWN if owner is _UNKNOWN else getattr(owner, value.attr)
        return _UNKNOWN

    def _word(self, value: Any) -> Any:
        """A value as a word."""
        constant = self._constant_of(value)
        if constant is None:
            return I64(0)
        if isinstance(constant, int):
            return I64(int(constant))
        if constant is not _UNKNOWN or not isinstance(value, statements.Var):
            raise self._refuse(value)
        return self._builder.load(self._place(value.name))

    def _place(self, name: str) -> Any:
        if name not in self._places:
            self._places[name] = self._new_place()
        return self._places[name]

    def _new_place(self) -> Any:
        return ir.IRBuilder(self._entry).alloca(I64)

    def _expression(self, expression: Any) -> Any:
        write = getattr(self, f"_{expression.op}", None)
        if write is None:
            raise self._refuse(expression)
        return write(expression)

    def _cast(self, expression: Any) -> Any:
        name = expression.value.name
        return self._parts[name] if name in self._parts else self._word(expression.value)

    # --- tuples and loops -------------------------------------------------------------------------------------------

    def _length_of_all(self, values: list[Any]) -> int:
        lengths = {self._length(one) for one in values}
        if len(lengths) > 1:
            raise self._refuse("it returns a word, or several")
        return max(lengths, default=0)

    def _length(self, value: Any) -> int:
        """How many words are in what is returned, if it is a tuple; else 0."""
        if isinstance(value, statements.Var):
            return self._length_of_all(self._definitions[value.name])
        if isinstance(value, statements.Expr) and value.op == "cast":
            return self._length(value.value)
        if isinstance(value, statements.Expr) and value.op == "build_tuple":
            return len(value.items)
        constant = self._constant_of(value)
        return len(constant) if isinstance(constant, tuple) else 0

    def _result(self, value: Any) -> Any:
        """Return the value of a return statement: a word, or a struct of words."""
        if not self.n_returned:
            return self._word(value)
        constant = self._constant_of(value)
        words = self._part(value) if constant is _UNKNOWN else [I64(number) for number in constant]
        result: Any = ir.Constant(_returned(self.n_returned), ir.Undefined)
        for i, word in enumerate(words):
            result = self._builder.insert_value(result, word, i)
        return result

    def _part(self, value: Any) -> Any:
        if value.name not in self._parts:
            raise self._refuse(value)
        return self._parts[value.name]

    def _build_tuple(self, expression: Any) -> Any:
        return [self._word(item) for item in expression.items]

    def _exhaust_iter(self, expression: Any) -> Any:
        return self._part(expression.value)

    def _static_getitem(self, expression: Any) -> Any:
        return self._part(expression.value)[expression.index]

    def _getiter(self, expression: Any) -> Any:
        numbers = self._part(expression.value)
        place = self._new_place()
        self._builder.store(numbers.start, place)
        return numbers._replace(place=place)

    def _iternext(self, expression: Any) -> Any:
        numbers = self._part(expression.value)
        number = self._builder.load(numbers.place)
        self._builder.store(self._builder.add(number, numbers.step), numbers.place)
        is_below, is_above = (compared(self._builder, how, number, numbers.stop) for how in "<>")
        goes_up = self._builder.icmp_signed(">", numbers.step, I64(0))
        return number, self._builder.select(goes_up, is_below, is_above)

    def _pair_first(self, expression: Any) -> Any:
        return self._part(expression.value)[0]

    def _pair_second(self, expression: Any) -> Any:
        return self._part(expression.value)[1]

    # --- operators and calls --------------------------------------------------------------------------------------

    def _binop(self, expression: Any) -> Any:
        if expression.fn is operator.contains:
            return self._contains(expression)
        return self._computed(expression, expression.fn)

    def _inplace_binop(self, expression: Any) -> Any:
        return self._computed(expression, expression.immutable_fn)

    def _computed(self, expression: Any, how: Any) -> Any:
        if how not in BINARY:
            raise self._refuse(expression)
        return BINARY[how](self._builder, self._word(expression.lhs), self._word(expression.rhs))

    def _unary(self, expression: Any) -> Any:
        if expression.fn not in UNARY:
            raise self._refuse(expression)
        return UNARY[expression.fn](self._builder, self._word(expression.value))

    def _contains(self, expression: Any) -> Any:
        numbers = self._constant(expression.lhs.name)
        if not isinstance(numbers, tuple):
            raise self._refuse(expression)
        return is_among(self._builder, self._word(expression.rhs), numbers)

    def _call(self, expression: Any) -> Any:
        called = self._compiler.meant_by(self._constant_of(expression.func))
        if expression.kws or expression.vararg or called is _UNKNOWN:
            raise self._refuse(expression)
        words = [self._word(argument) for argument in expression.args]
        if called in _BUILTINS:
            return self._builtin(called, words)
        if isinstance(called, ExternalFunction):
            return call_of_c(self._builder, called, words)
        if hasattr(called, "emit"):
            written = called.emit(self._builder, *words)
            return I64(0) if written is None else written
        compiled = self._compiler.function(called)
        takes_any = called.__code__.co_flags & CO_VARARGS
        result = self._builder.call(compiled, words[: len(compiled.args)] if takes_any else words)
        if result.type == I64:
            return result
        return [self._builder.extract_value(result, i) for i in range(len(result.type))]

    def _builtin(self, called: Any, words: list[Any]) -> Any:
        if called is range:
            return self._range(words)
        if called is int:
            return words[0]
        if called is bool:
            return compared(self._builder, "!=", words[0], I64(0))
        return extreme(self._builder, "<" if called is min else ">", words)

    def _range(self, words: list[Any]) -> _Range:
        start, stop, *steps = words if len(words) > 1 else [I64(0), *words]
        return _Range(start, stop, steps[0] if steps else I64(1))
