"""What a handler may do: the operations and functions that stay inside of their arguments, whatever values come.

Each was fed hostile indices and values with index checks on, see `tests/test_handler_functions.py`: it gives what NumPy
gives, or raises. Numba has more; what is not here has not been shown to be safe, or is not.
"""

from __future__ import annotations

import builtins
import cmath
import functools
import math
import operator
import random
from typing import Any

import numpy as np
from numba import types

_BUILTINS = """
    abs bool complex divmod enumerate filter float hash int isinstance iter len list map max min next pow print range
    reversed round set slice sorted str sum tuple type zip getattr hasattr
"""
_NUMPY = """
    all allclose amax amin angle any append arange argmax argmin argsort argwhere around array array_equal asarray
    atleast_1d atleast_2d atleast_3d average broadcast_to clip column_stack
    concatenate convolve copy corrcoef correlate count_nonzero cov cross cumprod cumsum diff digitize dot empty
    empty_like expand_dims eye finfo flatnonzero flip fliplr flipud full full_like hstack identity iinfo imag
    interp isclose iscomplexobj isin isneginf isposinf isrealobj isscalar linspace max mean median min nan_to_num
    nanargmax nanargmin nancumprod nancumsum nanmax nanmean nanmedian nanmin nanpercentile nanprod nanquantile nanstd
    nansum nanvar ndenumerate ndindex nonzero ones ones_like outer percentile prod ptp quantile ravel real reshape
    roll round row_stack searchsorted shape sign size sort stack std sum swapaxes take trace transpose trapezoid tri
    tril triu unique var vdot vstack where zeros zeros_like
"""
_LINALG = (
    "cholesky cond det eig eigh eigvals eigvalsh inv lstsq matrix_power matrix_rank norm pinv qr slogdet solve svd"
)
_RANDOM = """
    beta binomial chisquare choice dirichlet exponential f gamma geometric gumbel hypergeometric laplace logistic
    lognormal logseries multinomial negative_binomial noncentral_chisquare normal pareto permutation poisson power rand
    randint randn random random_sample ranf rayleigh sample seed shuffle standard_cauchy standard_exponential
    standard_gamma standard_normal standard_t triangular uniform vonmises wald weibull zipf
"""
_PLAIN_RANDOM = """
    betavariate expovariate gammavariate gauss getrandbits lognormvariate normalvariate paretovariate randint random
    randrange seed shuffle triangular uniform vonmisesvariate weibullvariate
"""
ARRAY_ATTRIBUTES = frozenset(
    """
    T all any argmax argmin argsort astype clip conj conjugate copy cumprod cumsum dot dtype fill flat flatten
    imag item itemsize max mean min nbytes ndim nonzero prod ravel real reshape shape size sort std
    strides sum take transpose var view
    """.split()  # noqa: SIM905 (a page of them)
)
INDEXED = (types.Array, types.BaseTuple, types.List, types.ListType, types.DictType, types.Record, types.UnicodeType,
            types.CharSeq, types.UnicodeCharSeq, types.LiteralStrKeyDict, types.LiteralList)  # fmt: skip
EXPRESSIONS = frozenset(
    """
    arrayexpr binop build_list build_map build_set build_tuple call cast exhaust_iter getattr getitem getiter
    inplace_binop iternext null pair_first pair_second phi static_getitem typed_getitem unary undef
    """.split()  # noqa: SIM905 (a page of them)
)

_MODULES: tuple[tuple[Any, str], ...] = (
    (builtins, _BUILTINS),
    (np, _NUMPY),
    (np.linalg, _LINALG),
    (np.random, _RANDOM),
    (random, _PLAIN_RANDOM),
)

MOST_ARGUMENTS = {
    "dot": 2,  # numba does not look whether a third may be written to
    "trace": 1,  # nor where a diagonal begins
    "transpose": 1,  # nor at the axes
    "array.transpose": 0,
    "array.dot": 1,
}
"""Functions and methods that are safe as far as they are given no more than this."""

INSTEAD = {
    "ascontiguousarray": "make a copy: what it returns may be its argument itself, and could be written to",
    "asfortranarray": "make a copy: what it returns may be its argument itself, and could be written to",
    "repeat": "write the copies in a loop",
    "split": "use slices",
    "array_split": "use slices",
    "trace": "add up the elements of the diagonal in a loop",
    "transpose": "use .T or np.swapaxes",
    "reshape": "give constants, or one length and -1 for the other, as in reshape(-1, n)",
    "flat": "index the array itself, or a copy of it as np.ravel makes one",
    "bincount": "count in a loop: `counts[i] += 1` is checked",
    "take_along_axis": "take elements in a loop, or with np.take",
    "as_strided": "use slices",
    "view": "convert with astype, or field by field",
    "ctypes": "a handler has no use for addresses",
}
"""What to write for it; otherwise `LOOP`."""
LOOP = "write it out as a loop, in which indices are checked"


@functools.cache
def functions() -> frozenset[Any]:
    """The functions that a handler may call. Methods are in `ARRAY_ATTRIBUTES`."""
    found = [getattr(module, name, None) for module, names in _MODULES for name in names.split()]
    found += [value for module in (math, cmath) for value in vars(module).values() if callable(value)]
    found += [value for value in vars(operator).values() if callable(value)]
    found += [value for value in vars(np).values() if isinstance(value, np.ufunc)]
    return frozenset(found)
