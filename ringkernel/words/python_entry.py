"""The entry from Python: a function of words as a builtin that takes and returns whole numbers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core.cgutils import get_or_insert_function

I64 = ir.IntType(64)
_OBJECT = ir.IntType(8).as_pointer()
_VOID = ir.VoidType()


def write_entry(module: ir.Module, function: ir.Function, name: str, *, nogil: bool) -> None:
    """Write the C function behind a builtin: `name(self, arguments, count)`, as METH_FASTCALL has it. It raises for
    another number of arguments, and for what is no whole number. `nogil`: the function runs without the GIL."""
    entry = ir.Function(module, ir.FunctionType(_OBJECT, [_OBJECT, _OBJECT.as_pointer(), I64]), name)
    build = ir.IRBuilder(entry.append_basic_block("entry"))
    fail = entry.append_basic_block("fail")

    def call(symbol: str, result: Any, *given: Any) -> Any:
        kind = ir.FunctionType(result, [one.type for one in given])
        return build.call(get_or_insert_function(module, kind, symbol), given)

    n_arguments = len(function.args)
    wrong = entry.append_basic_block("wrong")
    right = entry.append_basic_block("right")
    build.cbranch(build.icmp_signed("==", entry.args[2], I64(n_arguments)), right, wrong)
    build.position_at_end(wrong)
    call("PyErr_BadArgument", ir.IntType(32))
    build.branch(fail)
    build.position_at_end(right)
    given = [build.load(build.gep(entry.args[1], [I64(i)])) for i in range(n_arguments)]
    words = [call("PyLong_AsLongLong", I64, one) for one in given]
    # -1 may be a number, or say that there is none
    suspicious: Any = ir.IntType(1)(0)
    for word in words:
        suspicious = build.or_(suspicious, build.icmp_signed("==", word, I64(-1)))
    ask, run = entry.append_basic_block("ask"), entry.append_basic_block("run")
    build.cbranch(suspicious, ask, run)
    build.position_at_end(ask)
    build.cbranch(build.icmp_unsigned("==", call("PyErr_Occurred", _OBJECT), _OBJECT(None)), run, fail)
    build.position_at_end(run)
    thread = call("PyEval_SaveThread", _OBJECT) if nogil else None
    result = build.call(function, words)
    if nogil:
        call("PyEval_RestoreThread", _VOID, thread)
    build.ret(call("PyLong_FromLongLong", _OBJECT, result))
    build.position_at_end(fail)
    build.ret(_OBJECT(None))
