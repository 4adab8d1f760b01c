"""What may change without a trace has no key, and is not cached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cache_tools import built, key
from numba import extending
from numba import types as numba_types
from numba.core.imputils import lower_constant
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.extending import overload

from ringkernel.cache import environment
from ringkernel.cache.fingerprint import key_of
from ringkernel.cache.hashing import UnkeyableError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.compiles

UNKEYABLE = {
    "an object": "THING = object()\ndef handler(msg): return THING",
    "a list": "THING = [1, 2]\ndef handler(msg): return THING[0]",
    "a dict": "THING = {1: 2}\ndef handler(msg): return THING[1]",
    "a class": "class Thing: x = 1\ndef handler(msg): return Thing.x",
    "an array subclass": "import numpy as np\nT = np.ma.array([1.0])\ndef handler(msg): return T[0]",
    "an array of objects": "import numpy as np\nT = np.array([None])\ndef handler(msg): return T[0]",
    "a large array": "import numpy as np\nT = np.zeros(200_000)\ndef handler(msg): return T[0]",
    "an int subclass": "class I(int): pass\nT = I(3)\ndef handler(msg): return T",
    "a ufunc of somebody": "import numpy as np\nT = np.frompyfunc(abs, 1, 1)\ndef handler(msg): return T(1)",
    "a method": "T = 'abc'.find\ndef handler(msg): return T('a')",
    "a ctypes function": "import ctypes\nT = ctypes.pythonapi.Py_IsInitialized\ndef handler(msg): return T()",
    "an import": "def handler(msg):\n    import math\n    return math.pi",
    "an exception of __main__": "class E(Exception):\n    __module__ = '__main__'\ndef handler(msg): raise E",
    "an intrinsic": "from numba.extending import intrinsic\n@intrinsic\ndef T(ctx):\n    return None\n"
    "def handler(msg): return T()",
    "a vectorized function": "from numba import vectorize\n@vectorize\ndef T(x):\n    return x\n"
    "def handler(msg): return T(1)",
    "an object in a helper": "T = object()\ndef helper(): return T\ndef handler(msg): return helper()",
    "an empty cell": "def make():\n    def handler(msg): return later\n    return handler\n    later = 1\n"
    "handler = make()",
}


@pytest.mark.parametrize("what", UNKEYABLE)
def test_what_is_not_known_has_no_key(what: str) -> None:
    with pytest.raises(UnkeyableError):
        key(built(UNKEYABLE[what]))


def test_a_module_that_makes_attributes_has_no_key() -> None:
    source = "def handler(msg): return library.depth"
    assert key(built(source, "depth = 1")) != key(built(source, "depth = 2"))
    with pytest.raises(UnkeyableError):
        key(built(source, "def __getattr__(name): return 1"))


def extended() -> None: ...


def _without_a_module() -> None:
    exec("@overload(extended)\ndef text(): return lambda: 1", {"overload": overload, "extended": extended})


def _template() -> None:
    infer_global(extended)(type("Theirs", (ConcreteTemplate,), {"cases": [], "__module__": __name__}))


EXTENSIONS: dict[str, Callable[[], Any]] = {
    "overload": lambda: overload(extended)(lambda: lambda: 1),
    "overload without a module": _without_a_module,
    "overload_method": lambda: extending.overload_method(numba_types.Float, "mine")(lambda x: lambda x: 1),
    "overload_attribute": lambda: extending.overload_attribute(numba_types.Float, "mine")(lambda x: lambda x: 1),
    "register_jitable": lambda: extending.register_jitable(fastmath=True)(extended),
    "type_callable": lambda: extending.type_callable(extended)(lambda context: lambda: None),
    "lower_builtin": lambda: extending.lower_builtin(extended)(lambda *_: None),
    "lower_cast": lambda: extending.lower_cast(object, object)(lambda *_: None),
    "lower_getattr": lambda: extending.lower_getattr(numba_types.Float, "mine")(lambda *_: None),
    "lower_setattr": lambda: extending.lower_setattr(numba_types.Float, "mine")(lambda *_: None),
    "lower_constant": lambda: lower_constant(object)(lambda *_: None),
    "infer_global": _template,
}


@pytest.mark.parametrize("how", EXTENSIONS)
def test_numba_extensions_turn_the_cache_off(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core.imputils import builtin_registry as lowerings
    from numba.core.typing.templates import builtin_registry as templates

    assert key_of("x")
    with monkeypatch.context() as scoped:
        for registry in (lowerings, templates):
            for name, table in vars(registry).items():
                if isinstance(table, list):
                    scoped.setattr(registry, name, list(table))
        EXTENSIONS[how]()
        with pytest.raises(UnkeyableError, match="extended"):
            key_of("x")
    assert key_of("x")


def test_without_the_sources_of_the_package_there_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    environment.sources.cache_clear()
    monkeypatch.setattr(environment, "__file__", "/nowhere/cache/environment.py")
    with pytest.raises(UnkeyableError, match="the sources of ringkernel are not in"):
        key_of("x")
    monkeypatch.undo()
    assert key_of("x")


def test_sources_that_were_upgraded_under_a_process_make_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not what was imported, and what that compiles must not be kept as theirs."""
    environment.sources.cache_clear()
    monkeypatch.setattr(environment, "IMPORTED_AT_S", 0.0)
    with pytest.raises(UnkeyableError, match=r"__init__\.py has changed since ringkernel was imported"):
        key_of("x")
    monkeypatch.undo()
    assert key_of("x")


def test_the_version_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of("x")
    monkeypatch.setattr(environment, "__version__", "another")
    assert key_of("x") != before


@pytest.mark.parametrize("error", [RuntimeError, RecursionError, AttributeError])
def test_what_fails_when_it_is_looked_at_has_no_key(error: type[Exception]) -> None:
    class Evil:
        def __repr__(self) -> str:
            raise error("no")

    handler = built("def handler(msg): return library.value")
    handler.__globals__["library"].value = Evil()
    with pytest.raises(UnkeyableError, match=error.__name__):
        key_of(handler)
