"""A handler's source, rewritten so that each operation on numbers is one of `emulation.py`."""

from __future__ import annotations

import ast
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from emulation import binary, call, compare, index, unary

if TYPE_CHECKING:
    from collections.abc import Callable


class Rewriter(ast.NodeTransformer):
    """Puts the functions above in the place of operations and calls. `own` are functions that are rewritten, too."""

    def __init__(self, own: set[str]) -> None:
        self.own = own

    def _made(self, node: ast.expr, function: str, *parts: Any) -> ast.expr:
        arguments = [part if isinstance(part, ast.expr) else ast.Constant(part) for part in parts]
        made = ast.Call(ast.Name(function, ast.Load()), arguments, [])
        return ast.fix_missing_locations(ast.copy_location(made, node))

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        return self._made(node, "_binary", type(node.op).__name__, node.left, node.right)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        if isinstance(node.operand, ast.Constant):
            return node  # a negative literal
        self.generic_visit(node)
        return self._made(node, "_unary", type(node.op).__name__, node.operand)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        return self._made(node, "_compare", type(node.ops[0]).__name__, node.left, node.comparators[0])

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        name = ast.unparse(node.func)
        if name in self.own or name.endswith("Error"):
            return node
        if isinstance(node.func, ast.Attribute) and not name.startswith(("np.", "math.")):
            return self._made(node, "_call", "." + node.func.attr, node.func.value, *node.args)
        return self._made(node, "_call", name, *node.args)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        made = [self._made(part, "_index", part) for part in parts]
        node.slice = ast.Tuple(made, ast.Load()) if isinstance(node.slice, ast.Tuple) else made[0]
        return ast.fix_missing_locations(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        target = ast.parse(ast.unparse(node.target), mode="eval").body
        plain = ast.Assign([node.target], ast.BinOp(target, node.op, node.value))
        return ast.fix_missing_locations(ast.copy_location(self.visit(plain), node))


def emulated(source: str, handler: str) -> Callable[..., Any]:
    """The function of this name in `source`, with the listed differences."""
    tree = ast.parse(source)
    own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    tree = ast.fix_missing_locations(Rewriter(own).visit(tree))
    scope: dict[str, Any] = {
        "np": np,
        "math": math,
        "_binary": binary,
        "_unary": unary,
        "_compare": compare,
        "_call": call,
        "_index": index,
    }
    exec(compile(tree, f"<{handler}, emulated>", "exec"), scope)
    return scope[handler]  # type: ignore[no-any-return]
