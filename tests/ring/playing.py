"""Compiled code, played: its functions are made generators that give way at each operation, and a schedule says who
goes on. Memory is that of a machine without reordering: `test_orders.py` looks at fences."""

from __future__ import annotations

import ast
import functools
import inspect
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from ringkernel.codegen import operations

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping
    from types import ModuleType

    Steps = Generator[None, None, Any]

OPERATIONS = {name for name, value in vars(operations).items() if inspect.isfunction(value)}


def source_of(modules: Iterable[ModuleType]) -> str:
    """All functions of these modules."""
    return "".join(source[source.index("\ndef ") :] for source in map(inspect.getsource, modules))


class Giving(ast.NodeTransformer):
    """Makes functions generators: an operation gives way before it is carried out, a call goes on in what is called."""

    def __init__(self, own: set[str], atomic: set[str]) -> None:
        self.own, self.atomic = own, atomic

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in self.own:
            return ast.YieldFrom(node)
        if name in self.atomic:
            node.func = ast.Name("step", ast.Load())
            node.args.insert(0, ast.Constant(name))
            return ast.YieldFrom(node)
        return node


def generators(
    source: str, modules: Iterable[ModuleType], given: Iterable[str], atomic: Iterable[str] = ()
) -> dict[str, Any]:
    """The functions of a source, as generators, among the constants of modules. `given`: further generators that they
    call, which a world defines; `atomic`: what counts as one operation."""
    namespace = {name: value for module in modules for name, value in vars(module).items()}
    namespace = {name: value for name, value in namespace.items() if not inspect.isfunction(value)}
    exec(giving(source, frozenset(given), frozenset(atomic)), namespace)
    return namespace


@functools.lru_cache(maxsize=8)
def giving(source: str, given: frozenset[str], atomic: frozenset[str]) -> Any:
    """The functions of a source made generators, compiled."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    own = {function.name for function in functions} | given
    for function in functions:
        function.returns = None
        Giving(own - atomic, OPERATIONS | atomic).visit(function)
        function.body.insert(0, ast.parse("if 0: yield").body[0])
    module = ast.fix_missing_locations(ast.Module(list(functions), []))
    return compile(module, "<played>", "exec")  # a name in brackets has no source, so coverage lets it be


def caught(mutations: Mapping[str, tuple[str, str]], mutation: str, sources: str, play: Callable[[str], None]) -> None:
    """What is played does not hold any more if the code is changed so: a text, and what is there instead."""
    before, after = mutations[mutation]
    assert before in sources
    with pytest.raises(AssertionError):
        play(sources.replace(before, after))


class Memory:
    """Shared words, and the operations on them. `now` counts operations, and is the time."""

    def __init__(self) -> None:
        self.memory: defaultdict[int, int] = defaultdict(int)
        self.now = 0

    def step(self, name: str, *arguments: int) -> Steps:
        yield
        self.now += 1
        return getattr(self, name)(*arguments)

    def load(self, address: int) -> int:
        return self.memory[address]

    load_acquire = load

    def store(self, address: int, value: int) -> None:
        self.memory[address] = value

    store_release = store

    def compare_exchange(self, address: int, expected: int, value: int) -> int:
        seen = self.memory[address]
        if seen == expected:
            self.memory[address] = value
        return seen

    def exchange(self, address: int, value: int) -> int:
        seen, self.memory[address] = self.memory[address], value
        return seen

    def fetch_add(self, address: int, amount: int) -> int:
        return self.exchange(address, self.memory[address] + amount)

    def ticks(self) -> int:
        return self.now

    def this_cpu(self) -> int:
        return -1

    def fence(self) -> None: ...

    def spin_hint(self) -> None: ...

    def nap(self, ns: int) -> None: ...
