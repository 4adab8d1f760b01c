"""The declarations of this process, by id."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ringkernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable


class Declared(Protocol):
    """A kernel as it was declared."""

    @property
    def kernel_id(self) -> str:
        """Its name."""

    @property
    def func(self) -> Callable[..., Any]:
        """Its handler."""


D = TypeVar("D", bound=Declared)


class Watcher(Protocol[D]):  # type: ignore[misc]  # it is only ever one type
    """Is told of ids that are declared again."""

    def declared_again(self, declaration: D) -> None:
        """This is what the id means from now on. In whatever thread."""


class Registry(Generic[D]):
    """Declarations by id: the latest one of each."""

    def __init__(self) -> None:
        self.by_id: dict[str, D] = {}
        self._watchers: weakref.WeakSet[Any] = weakref.WeakSet()

    def add(self, declaration: D) -> None:
        """Let its id mean this declaration. Raises `ConfigurationError` if that of another module has it."""
        before = self.by_id.get(declaration.kernel_id)
        if before is not None:
            check_module(declaration.kernel_id, before.func, declaration.func)
        self.by_id[declaration.kernel_id] = declaration
        if before is not None:
            self.tell(declaration)

    def tell(self, declaration: D) -> None:
        """Something about a declaration is another now."""
        for watcher in list(self._watchers):
            watcher.declared_again(declaration)

    def watch(self, watcher: Watcher[D]) -> None:
        """Tell it of what is declared again, as long as it is there."""
        self._watchers.add(watcher)


def check_module(kernel_id: str, before: Callable[..., Any], after: Callable[..., Any]) -> None:
    """Refuse a function of another module under the same id. Raises `ConfigurationError`."""
    if _module_of(before) != _module_of(after):
        raise ConfigurationError(
            f"kernel {kernel_id!r} is declared in two modules, at {place_of(before)} and at {place_of(after)}; "
            f"give one of the two another id"
        )


def _module_of(func: Callable[..., Any]) -> str:
    """A module's file; a module that is run as a script may be imported under its name, too. The cells of a notebook
    are one module, and have no file."""
    scope = func.__globals__
    return str(scope.get("__file__") or scope.get("__name__"))


def place_of(func: Callable[..., Any]) -> str:
    """File and line of a function."""
    return f"{func.__code__.co_filename}:{func.__code__.co_firstlineno}"
