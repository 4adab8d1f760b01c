"""A hash of values and of all that they lead to: what is added, how it is kept apart, and what was added before.

Which values can be added is a table of kinds, see `values.py` and `functions.py`. What is of none of them raises
`UnkeyableError`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from .libraries import is_foreign, is_library

if TYPE_CHECKING:
    from types import ModuleType


class UnkeyableError(Exception):
    """Code reads a value without a hash, so a change of it could go unseen."""


class Fingerprint:
    """A hash that values are added to. The first of the kinds that matches a value says how."""

    def __init__(self, kinds: tuple[Kind, ...]) -> None:
        self._kinds = kinds
        self._hash = hashlib.sha256()
        self._seen: dict[int, tuple[int, Any]] = {}  # the objects, too: an address serves again when its object is gone
        self._modules: list[ModuleType] = []
        self._done: set[tuple[int, str]] = set()
        self.attributes: set[str] = set()
        """Names of the attributes that any of the code reads."""
        self.texts: set[str] = set()
        self.texts_are_names = False
        """True once some code calls `getattr`: then any of the texts may be the name of an attribute."""

    def hexdigest(self) -> str:
        """Return the hash of all that was added. What is read from modules is added here.

        A module may be handed on to a helper, or come out of one: so it is every attribute, of every module in sight,
        that is called like something that any of the code reads from anything.
        """
        while pending := self._pending():
            for module, name in pending:
                self._done.add((id(module), name))
                self._add_attribute(module, name)
        return self._hash.hexdigest()

    def _pending(self) -> list[tuple[ModuleType, str]]:
        names = sorted(self.attributes | (self.texts if self.texts_are_names else set()))
        found = []
        for module in self._modules:
            is_lazy = "__getattr__" in vars(module) and not is_library(module.__name__)
            new = (name for name in names if (id(module), name) not in self._done)
            found += [(module, name) for name in new if is_lazy or name in vars(module)]
        return found

    def add(self, value: Any) -> None:
        """Add a value and all that it leads to, but for the attributes of modules: see `hexdigest`."""
        for matches, add in self._kinds:
            if matches(value):
                add(self, value)
                return
        raise UnkeyableError(f"{type(value).__qualname__} objects have no key: {value!r:.80}")

    def put(self, tag: str, payload: bytes | str = b"") -> None:
        """Add bytes or text under a tag. The length goes along, so that nothing can pass for something else."""
        content = payload.encode("utf-8", "backslashreplace") if isinstance(payload, str) else payload
        self._hash.update(f"{tag} {len(content)}\n".encode() + content)

    def add_all(self, tag: str, values: Any) -> None:
        """Add a sequence of values."""
        self.put(tag, str(len(values)))
        for value in values:
            self.add(value)

    def is_new(self, value: Any) -> bool:
        """Return True if this object was not added before; otherwise add a reference to it and return False."""
        if id(value) in self._seen:
            self.put("again", str(self._seen[id(value)][0]))
            return False
        self._seen[id(value)] = (len(self._seen), value)
        return True

    def of_its_own(self, value: Any) -> str:
        """Return the hash of a value alone."""
        alone = Fingerprint(self._kinds)
        alone.add(value)
        return alone.hexdigest()

    def add_module(self, module: ModuleType) -> None:
        """Add a module: its name, and later what is read from it."""
        if self.is_new(module):
            self.put("module", module.__name__)
            self._modules.append(module)

    def _add_attribute(self, module: ModuleType, name: str) -> None:
        if name not in vars(module):
            raise UnkeyableError(f"module {module.__name__} makes attributes when they are asked for")
        value = vars(module)[name]
        if not is_library(module.__name__) or is_foreign(value):
            self.put("attribute", f"{module.__name__} {name}")
            self.add(value)


Kind: TypeAlias = tuple[Callable[[Any], bool], Callable[[Fingerprint, Any], None]]
"""A test whether a value is of this kind, and a function that adds it."""


def exactly(*kinds: type) -> Callable[[Any], bool]:
    """Values of these classes; an instance of a subclass may do anything."""
    return lambda value: type(value) in kinds
