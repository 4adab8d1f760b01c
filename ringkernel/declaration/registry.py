"""The declarations of this process, by id, and the handlers beside them."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ringkernel.errors import ConfigurationError

from .companions import Companion, EndHandler, InputHandler, TimerHandler

if TYPE_CHECKING:
    from collections.abc import Callable

    from .declaration import Declaration

C = TypeVar("C", InputHandler, TimerHandler, EndHandler)

NAMELESS = ("<lambda>", "_")
"""Names that do not tell whether a function is another one's edited version."""


class Watcher(Protocol):
    """Is told of ids that are declared again."""

    def declared_again(self, declaration: Declaration) -> None:
        """Take note of what an id means from now on. In any thread."""

    def renamed(self, func: Callable[..., Any]) -> None:
        """Take note that a function may have another id than before. In any thread."""


class Registry:
    """The latest declaration of each id.

    `beside` has the handlers beside each kernel, by kind and name, in the order of their first declaration; each with
    the kernel's declaration at that time, or None.
    """

    def __init__(self) -> None:
        self.by_id: dict[str, Declaration] = {}
        self.beside: dict[str, dict[tuple[type, str], tuple[Companion, Declaration | None]]] = {}
        self._watchers: weakref.WeakSet[Any] = weakref.WeakSet()

    def add(self, declaration: Declaration) -> None:
        """Let its id mean this declaration. Raises `ConfigurationError` if that of another module has it."""
        before = self.by_id.get(declaration.kernel_id)
        if before is not None:
            check_module(declaration.kernel_id, before.func, declaration.func)
        self.by_id[declaration.kernel_id] = declaration
        if before is not None:
            self._tell(declaration)

    def add_beside(self, kernel_id: str, companion: Companion) -> None:
        """Let this be the kernel's handler of its kind and name. Raises `ConfigurationError` if another module has
        declared one, or another function is one already of the same declaration."""
        declaration = self.by_id.get(kernel_id)
        of_kernel = self.beside.setdefault(kernel_id, {})
        key = type(companion), companion.name
        if key in of_kernel:
            before, declared_with = of_kernel[key]
            check_module(kernel_id, before.func, companion.func)
            if declared_with in (None, declaration):
                _check_again(kernel_id, before, companion)
        of_kernel[key] = companion, declaration
        if declaration is not None:
            self._tell(declaration)

    def companions(self, kernel_id: str, kind: type[C]) -> tuple[C, ...]:
        """Return the handlers of a kind beside a kernel."""
        return tuple(one for one, _ in self.beside.get(kernel_id, {}).values() if isinstance(one, kind))

    def rename(self, func: Callable[..., Any]) -> None:
        """A function has got an id, and may have had another one."""
        for watcher in list(self._watchers):
            watcher.renamed(func)

    def watch(self, watcher: Watcher) -> None:
        """Tell it of ids that are declared again, and of functions that get one, as long as it exists."""
        self._watchers.add(watcher)

    def _tell(self, declaration: Declaration) -> None:
        for watcher in list(self._watchers):
            watcher.declared_again(declaration)


registry = Registry()


def declared(kernel_id: str) -> Declaration | None:
    """Return the latest declaration of this id."""
    return registry.by_id.get(kernel_id)


def check_module(kernel_id: str, before: Callable[..., Any], after: Callable[..., Any]) -> None:
    """Refuse a function of another module under the same id. Raises `ConfigurationError`."""
    if _module_of(before) != _module_of(after):
        raise ConfigurationError(
            f"kernel {kernel_id!r} is declared in two modules, at {_place_of(before)} and at {_place_of(after)}; "
            f"give one of the two another id"
        )


def _check_again(kernel_id: str, before: Companion, after: Companion) -> None:
    """Refuse a second handler of a kind and name. One of the same name is the first one, edited. Raises
    `ConfigurationError`."""
    one, other = before.func, after.func
    places = _place_of(one), _place_of(other)
    has_name = one.__name__ not in NAMELESS
    is_elsewhere = one.__code__.co_filename == other.__code__.co_filename and places[0] != places[1]
    if one.__qualname__ == other.__qualname__ and (has_name or not is_elsewhere):
        return
    what, remedy = {
        InputHandler: (f"input {before.name!r} is", "give the second input a name of its own"),
        TimerHandler: ("timer is", "a kernel has one timer, so let it do both: its period divides the longer one"),
        EndHandler: ("end is", "a kernel has one on_end(), so let it do both"),
    }[type(before)]
    raise ConfigurationError(
        f"kernel {kernel_id!r}: its {what} handled by {one.__name__}, at {places[0]}, which {other.__name__}, at "
        f"{places[1]}, would replace; {remedy}. To replace it, declare the kernel again first"
    )


def _module_of(func: Callable[..., Any]) -> str:
    """Return a module's file: a module that is run as a script may be imported under its name, too. The cells of a
    notebook are one module, without a file."""
    scope = func.__globals__
    return str(scope.get("__file__") or scope.get("__name__"))


def _place_of(func: Callable[..., Any]) -> str:
    """Return file and line of a function."""
    return f"{func.__code__.co_filename}:{func.__code__.co_firstlineno}"
