"""Functions of this package, linked and optimised all at once.

Numba optimises every function together with all that it calls, makes machine code of it, and does the same again for
each of its callers: for the worker's loop, four times over. What this package compiles for itself is only put together
here when all of it is there, and optimised and compiled once, as one object file. A function that something else wants
to call is finished as numba does it, when that is compiled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from numba import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

if TYPE_CHECKING:
    from collections.abc import Iterable


class Part(JITCodeLibrary):  # type: ignore[misc]
    """The code of one function, without those that it calls; nothing of it can be run yet."""

    @property
    def codegen(self) -> Any:
        """The code generator, for which these functions have no Python objects."""
        return _WithoutEnvironments(self._codegen)

    def add_linking_library(self, library: Any) -> None:
        """Note what is called, and leave it as it is."""
        if isinstance(library, Part):
            self._linking_libraries.append(library)
        else:
            super().add_linking_library(library)

    def finalize(self) -> None:
        """Nothing: a caller of another kind asks for it by `_ensure_finalized`."""

    def _ensure_finalized(self) -> None:
        if not self._finalized:
            super().finalize()

    def add_llvm_module(self, ll_module: Any) -> None:
        """Add code: it is optimised later, with everything else."""
        self._final_module.link_in(ll_module)

    def get_pointer_to_function(self, name: str) -> int:  # noqa: ARG002 (numba's method)
        """There is no such machine code."""
        return 0


class _WithoutEnvironments:
    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, env_name: str, env: Any) -> None:
        """Compiled protocol code uses none: see `machine_code.emit`."""


_SKIPPED = frozenset(
    """
    DeadBranchPrune FindLiterallyCalls GenericRewrites InlineClosureLikes InlineInlinables InlineOverloads LiteralUnroll
    LiteralPropagationSubPipelinePass MakeFunctionToJitFunction NopythonRewrites NoPythonSupportedFeatureValidation
    RewriteDynamicRaises RewriteSemanticConstants WithLift
    """.split()  # noqa: SIM905 (a page of them)
)
"""Passes of numba's for what this package's own functions do not have: closures, array expressions, literals."""


class LinkedLater(Compiler):  # type: ignore[misc]
    """Numba's compiler for this package's own functions, which become `Part`s."""

    def define_pipelines(self) -> list[Any]:
        """The passes."""
        pipelines: list[Any] = super().define_pipelines()
        for one in pipelines:
            one.passes = [(kind, text) for kind, text in one.passes if kind.__name__ not in _SKIPPED]
            one.finalize()
        return pipelines

    def compile_extra(self, func: Any) -> Any:
        """Compile a function."""
        self.state.library = Part(self.state.targetctx.codegen(), func.__qualname__)
        self.state.typingctx = _TypedOnce(self.state.typingctx)
        return super().compile_extra(func)


class _TypedOnce:
    """Numba's typing context, which is asked once what comes of a function of whole numbers: nearly all that is called
    here, a few operators of a few thousand calls. Each time it would try every way to add numbers, arrays and texts."""

    _known: ClassVar[dict[Any, Any]] = {}

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        """The signature of a call."""
        whole = isinstance(func, types.Function) and all(
            isinstance(kind, types.Integer | types.Boolean) for kind in args
        )
        if kws or not whole:
            return self._context.resolve_function_type(func, args, kws)
        key = (func, tuple(args))
        if key not in self._known:
            self._known[key] = self._context.resolve_function_type(func, args, kws)
        return self._known[key]


def linked(parts: Iterable[Part], names: set[str]) -> Any:
    """The parts, with all that they call, as one optimised library. Only the symbols `names` are kept as they are.

    The caller holds the compiler's lock.
    """
    found: dict[int, Any] = {}
    pending: list[Any] = list(parts)
    library = JITCodeLibrary(pending[0]._codegen, "ringkernel")
    while pending:
        one = pending.pop()
        if id(one) not in found:
            found[id(one)] = one
            if isinstance(one, Part):
                pending += one._linking_libraries
    for one in found.values():
        module = one._final_module.clone() if isinstance(one, Part) else one._get_module_for_linking().clone()
        library._final_module.link_in(module)
        library._dynamic_globals += one._dynamic_globals
    for function in library._final_module.functions:
        if not function.is_declaration and function.name not in names:
            function.linkage = "internal"
    library._optimize_final_module()
    library._finalized = True  # and is not run from here: `machine_code` makes an object file of it
    return library
