"""Reading LLVM IR: instructions with the offsets they access, blocks that lie on a cycle; and compiling to it.

`mutant` compiles without atomics, so that a test can show that its check may fail."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core.codegen import JITCPUCodegen

from ringkernel.codegen import operations as ops
from ringkernel.codegen.operations import load_acquire
from ringkernel.codegen.targets import cpu
from ringkernel.codegen.targets.cpu_memory import operation
from ringkernel.words.compiler import WordCompiler

if TYPE_CHECKING:
    from collections.abc import Callable


class Instruction:
    """One line of IR, and the lines that define what it uses."""

    def __init__(self, text: str, scope: dict[str, str]) -> None:
        self.text = text.strip()
        self._scope = scope
        name, equals, rest = self.text.partition(" = ")
        if equals and name.startswith("%"):
            scope[name] = rest
        else:
            rest = self.text
        self.opcode = re.sub(r"^(tail|musttail|notail) ", "", rest).split(" ")[0]

    def _pointer(self) -> str:
        found = re.findall(r"ptr (%[^\s,)]+)", self.text)
        return str(found[-1]) if found else ""

    def offset(self) -> int:
        """Of the address of a load or store: the sum of its constants, the field's offset in its record."""
        pointer = self._pointer()
        return self._constants(pointer) if pointer else -1

    def address(self) -> str:
        """How the address of a load or store is defined, all the way."""
        return self._way_to(self._pointer())

    def _way_to(self, pointer: str) -> str:
        text, seen = "", set[str]()
        todo = [pointer]
        while todo:
            name = todo.pop()
            definition = self._scope.get(name, name)
            text += f"{definition}; "
            if re.match(r"add |inttoptr |getelementptr ", definition) and name not in seen:
                seen.add(name)
                todo += re.findall(r"%[^\s,)]+", definition)
        return text

    def is_private(self) -> bool:
        """Whether this is an access to the stack."""
        return self._is_on_stack(self._pointer())

    def _is_on_stack(self, pointer: str) -> bool:
        either = re.match(r"phi ptr (.*)", self._scope.get(pointer, ""))
        if either:
            return all(self._is_on_stack(one) for one in re.findall(r"\[ (%[^\s,]+),", either[1]))
        return bool(re.search(r"alloca", self._way_to(pointer)))

    def _constants(self, name: str) -> int:
        definition = self._scope.get(name, "")
        if not re.match(r"add |inttoptr |getelementptr ", definition):
            return 0
        names = re.findall(r"%[^\s,)]+", definition)
        numbers = re.findall(r"(?<=, )(?:i64 )?(-?\d+)\b", definition)
        return sum(map(int, numbers)) + sum(self._constants(one) for one in names)


class Function:
    """A compiled function: its instructions block by block, and which blocks lie on a cycle."""

    def __init__(self, value: Any) -> None:
        self.name = value.name
        self.blocks: dict[str, list[Instruction]] = {}
        scope: dict[str, str] = {}
        body = re.sub(r"\[\n(.*?)\n\s*\]", lambda m: m[0].replace("\n", " "), str(value), flags=re.DOTALL)  # switch
        block: list[Instruction] = self.blocks.setdefault("", [])
        for line in body.split("{", 1)[1].splitlines():
            if label := re.match(r'("[^"]+"|[\w.$-]+):', line):
                block = self.blocks.setdefault(label[1].strip('"'), [])
            elif line.startswith("  "):
                block.append(Instruction(line, scope))
        self._after = {name: _targets(code[-1]) for name, code in self.blocks.items() if code}
        self.cyclic = {name for name in self._after if self._leads_to(name, name)}

    def _leads_to(self, start: str, end: str) -> bool:
        seen: set[str] = set()
        todo = list(self._after[start])
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += self._after[name]
        return end in seen

    def in_order(self, first: Instruction, second: Instruction) -> bool:
        """Whether the second can run after the first, and never before it."""
        (a, b) = (next(name for name, code in self.blocks.items() if one in code) for one in (first, second))
        if a == b:
            return self.blocks[a].index(first) < self.blocks[a].index(second) and not self._leads_to(a, a)
        return self._leads_to(a, b) and not self._leads_to(b, a)

    def instructions(self) -> list[Instruction]:
        return [one for code in self.blocks.values() for one in code]

    def in_cycles(self) -> list[Instruction]:
        return [one for name, code in self.blocks.items() if name in self.cyclic for one in code]


def _targets(terminator: Instruction) -> list[str]:
    return [name.strip('"') for name in re.findall(r'label %("[^"]+"|[\w.$-]+)', terminator.text)]


class Code:
    """An optimised module."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._module = llvm.parse_assembly(text)
        self.functions = {f.name: Function(f) for f in self._module.functions if not f.is_declaration}

    def named(self, name: str) -> Function:
        """The function of this Python name."""
        return self.functions[name]

    def repeated(self, root: str) -> list[Instruction]:
        """The instructions that run again and again: on a cycle of `root`, or in what is called from there."""
        code, called, found = self.named(root).in_cycles(), set[str](), list[Instruction]()
        while code:
            found += code
            names = {callee for one in code if (callee := _callee(one)) in self.functions} - called
            called |= names
            code = [one for name in names for one in self.functions[name].instructions()]
        return found


def _callee(instruction: Instruction) -> str:
    match = re.search(r'\bcall\b[^@]*@"?([\w.$]+)', instruction.text)
    return match[1] if match else ""


def loads(code: list[Instruction], offset: int, order: str | None = "acquire") -> list[Instruction]:
    """The loads from this offset that are atomic with this order; `order=None`: not atomic at all."""
    found = [one for one in code if one.opcode == "load" and one.offset() == offset]
    if order is None:
        return [one for one in found if "load atomic" not in one.text and not one.is_private()]
    return [one for one in found if re.search(rf"load atomic i64, ptr .* {order}, align 8", one.text)]


def stores(code: list[Instruction], offset: int, order: str) -> list[Instruction]:
    found = [one for one in code if one.opcode == "store" and one.offset() == offset]
    return [one for one in found if re.search(rf"store atomic .* {order}, align 8", one.text)]


def position(code: list[Instruction], part: str) -> int:
    """Where the first instruction with this text stands."""
    return next(i for i, one in enumerate(code) if part in one.text)


# --- compiling ---------------------------------------------------------------------------------------------------


def compiled(function: Callable[..., Any], operations: dict[Any, Any] | None = None) -> Code:
    """The function and all that it calls, each of which keeps its name, optimised as the product's own."""
    compiler = WordCompiler(operations or cpu.operations("eventfd"))
    compiler.function(function)
    for one in compiler.functions.values():
        one.linkage = "external"
    return Code(str(cpu.optimised(compiler, JITCPUCodegen("test"))))


def plain_load(builder: Any, address: Any) -> Any:
    return builder.load(builder.inttoptr(address, ir.IntType(64).as_pointer()))


def plain_store(builder: Any, address: Any, value: Any) -> None:
    builder.store(value, builder.inttoptr(address, ir.IntType(64).as_pointer()))


def mutant() -> dict[Any, Any]:
    """The CPU's operations without their atomics: what the checks have to catch."""
    load, store, no_fence = operation(plain_load), operation(plain_store), operation(lambda _builder: None)
    replaced = {ops.load: load, ops.load_acquire: load, ops.store: store, ops.store_release: store}
    return {**cpu.operations("eventfd"), **replaced, ops.fence: no_fence, ops.fence_release: no_fence}


def watch(flag: int) -> int:
    """The smallest polling loop."""
    passes = 0
    while load_acquire(flag + 128) == 0:
        passes += 1
    return passes
