"""The list of what handlers may do: operations, and functions with arguments, that stay inside of what they are given,
whatever values come, and write to none of it.

Each was fed hostile indices and values with index checks on, see `tests/handlers/test_handler_functions.py`: it gives
what NumPy gives, or raises, and changes nothing. Numba has more; what is not here has not been shown to be safe, or is
not.

Functions are written as they may be called: in the parentheses are the arguments that may be given, by position or by
name; those after a `*` by name only; `*any` stands for any number of them. An argument that is not here is refused, as
one that a new version of numba brings.
"""

from __future__ import annotations

import builtins
import cmath
import functools
import math
import operator
import random
import re
from typing import Any, NamedTuple

import numpy as np
from numba import types

_BUILTINS = """
    abs(x) bool(x) complex(real, imag) divmod(x, y) enumerate(xs, start) filter(function, xs) float(x) hash(x) int(x)
    isinstance(x, types) iter(xs) len(xs) list(xs) map(function, *any) max(*any) min(*any) next(xs) pow(x, y)
    print(*any) range(*any) reversed(xs) round(x, ndigits) set(xs) slice(*any) sorted(xs, key, reverse) str(x)
    sum(xs, start) tuple(xs) type(x) zip(*any) getattr(x, name, default) hasattr(x, name)
"""
_NUMPY = """
    all(a) allclose(a, b, rtol, atol, equal_nan) amax(a) amin(a) angle(z, deg) any(a) append(arr, values, axis)
    arange(start, stop, step, dtype) argmax(a, axis) argmin(a, axis) argsort(a, kind) argwhere(a)
    around(a, decimals, out) array(object, dtype) array_equal(a1, a2) asarray(a, dtype) atleast_1d(*any)
    atleast_2d(*any) atleast_3d(*any) average(a, axis, weights) broadcast_to(array, shape) clip(a, a_min, a_max, out)
    column_stack(tup) concatenate(arrays, axis) convolve(a, v, mode) copy(a) corrcoef(x, y, rowvar)
    correlate(a, v, mode) count_nonzero(a, axis) cov(m, y, rowvar, bias, ddof) cross(a, b) cumprod(a)
    cumsum(a, axis, dtype) diff(a, n) digitize(x, bins, right) dot(a, b) empty(shape, dtype) empty_like(arr, dtype)
    expand_dims(a, axis) eye(N, M, k, dtype) finfo(dtype) flatnonzero(a) flip(m) fliplr(m) flipud(m)
    full(shape, fill_value, dtype) full_like(a, fill_value, dtype) hstack(tup) identity(n, dtype) iinfo(int_type)
    imag(val) interp(x, xp, fp) isclose(a, b, rtol, atol, equal_nan) iscomplexobj(x)
    isin(element, test_elements, assume_unique, invert) isneginf(x, out) isposinf(x, out) isrealobj(x)
    isscalar(element) linspace(start, stop, num) max(a) mean(a) median(a) min(a) nan_to_num(x, *, nan, posinf, neginf)
    nanargmax(a, axis) nanargmin(a, axis) nancumprod(a) nancumsum(a) nanmax(a) nanmean(a) nanmedian(a) nanmin(a)
    nanpercentile(a, q) nanprod(a) nanquantile(a, q) nanstd(a, axis, dtype, *, ddof) nansum(a)
    nanvar(a, axis, dtype, *, ddof) ndenumerate(arr) ndindex(*any) nonzero(a) ones(shape, dtype) ones_like(a, dtype)
    outer(a, b) percentile(a, q) prod(a) ptp(a) quantile(a, q) ravel(a) real(val) reshape(a, shape) roll(a, shift)
    round(a, decimals, out) row_stack(tup) searchsorted(a, v, side) shape(a) sign(x) size(a) sort(a)
    stack(arrays, axis) std(a) sum(a, axis, dtype) swapaxes(a, axis1, axis2) take(a, indices, axis) trace(a)
    transpose(a) trapezoid(y, x, dx) tri(N, M, k) tril(m, k) triu(m, k) unique(ar) var(a) vdot(left, right) vstack(tup)
    where(condition, x, y) zeros(shape, dtype) zeros_like(a, dtype)
"""
_LINALG = """
    cholesky(a) cond(x, p) det(a) eig(a) eigh(a) eigvals(a) eigvalsh(a) inv(a) lstsq(a, b, rcond) matrix_power(a, n)
    matrix_rank(A, tol) norm(x, ord) pinv(a, rcond) qr(a) slogdet(a) solve(a, b) svd(a, full_matrices)
"""
_RANDOM = """
    beta(a, b, size) binomial(n, p, size) chisquare(df, size) choice(a, size, replace) dirichlet(alpha, size)
    exponential(scale, size) f(dfnum, dfden, size) gamma(shape, scale, size) geometric(p, size)
    gumbel(loc, scale, size) hypergeometric(ngood, nbad, nsample, size) laplace(loc, scale, size)
    logistic(loc, scale, size) lognormal(mean, sigma, size) logseries(p, size) multinomial(n, pvals, size)
    negative_binomial(n, p) noncentral_chisquare(df, nonc, size) normal(loc, scale, size) pareto(a, size)
    permutation(x) poisson(lam, size) power(a, size) rand(*any) randint(low, high, size) randn(*any) random(size)
    random_sample(size) ranf(size) rayleigh(scale, size) sample(size) seed(seed) shuffle(x) standard_cauchy(size)
    standard_exponential(size) standard_gamma(shape, size) standard_normal(size) standard_t(df, size)
    triangular(left, mode, right, size) uniform(low, high, size) vonmises(mu, kappa, size) wald(mean, scale, size)
    weibull(a, size) zipf(a, size)
"""
_PLAIN_RANDOM = """
    betavariate(alpha, beta) expovariate(lambd) gammavariate(alpha, beta) gauss(mu, sigma) getrandbits(k)
    lognormvariate(mu, sigma) normalvariate(mu, sigma) paretovariate(alpha) randint(low, high) random()
    randrange(start, stop, step) seed(a) shuffle(x) triangular(low, high, mode) uniform(a, b) vonmisesvariate(mu, kappa)
    weibullvariate(alpha, beta)
"""
_ARRAY = """
    T dtype flat imag itemsize nbytes ndim real shape size strides
    all() any() argmax(axis) argmin(axis) argsort(kind) astype(dtype) clip(a_min, a_max, out) conj() conjugate() copy()
    cumprod() cumsum(axis, dtype) dot(other) fill(val) flatten() item() max() mean() min() nonzero() prod() ravel()
    reshape(*any) sort(kind) std() sum(axis, dtype) take(indices, axis) transpose() var() view(dtype)
"""
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

INSTEAD = {
    "ascontiguousarray": "make a copy: what it returns may be its argument itself, and could be written to",
    "asfortranarray": "make a copy: what it returns may be its argument itself, and could be written to",
    "repeat": "write the copies in a loop",
    "split": "use slices",
    "array_split": "use slices",
    "nan_to_num": "leave out `copy`, or write to a copy: what it returns is one",
    "getitem": "index it, as in xs[i]",
    "setitem": "assign to it, as in xs[i] = x",
    "delitem": "use `del`",
    "mul": "write it with *",
    "imul": "write it with *=",
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


class Arguments(NamedTuple):
    """The arguments that a function may be given: names by position, then names only by name; `any_number` of them
    by position."""

    positional: tuple[str, ...]
    named: frozenset[str]
    any_number: bool = False

    def refused(self, count: int, names: list[str]) -> str | None:
        """Of `count` arguments by position, and `names`, the first that it may not be given, in words."""
        if count > len(self.positional) and not self.any_number:
            return f"{count} arguments by position"
        return next((f"`{name}`" for name in names if name not in self.named), None)


_ANY = Arguments((), frozenset(), any_number=True)
_CALLS = re.compile(r"(\w+)(?:\((.*?)\))?", re.DOTALL)
_UNCHECKED_OPERATORS = (operator.getitem, operator.setitem, operator.delitem, operator.mul, operator.imul)
"""As functions they would pass by what is checked of `xs[i]`, `xs[i] = x`, and `xs * n`."""


def _read(page: str) -> dict[str, Arguments]:
    """A page of the above."""
    read = {}
    for name, arguments in _CALLS.findall(page):
        by_position, _, by_name = arguments.partition("*,")
        positional = tuple(re.findall(r"(?<!\*)\b\w+", by_position))
        named = frozenset((*positional, *re.findall(r"\w+", by_name)))
        read[name] = Arguments(positional, named, any_number="*any" in arguments)
    return read


METHODS = _read(_ARRAY)
"""What may be read of an array, and called."""
ARRAY_ATTRIBUTES = frozenset(METHODS)


OPERATORS = frozenset(value for value in vars(operator).values() if callable(value))


@functools.cache
def functions() -> dict[Any, Arguments]:
    """The functions that a handler may call."""
    numbers = [value for module in (math, cmath) for value in vars(module).values() if callable(value)]
    found = dict.fromkeys([*numbers, *OPERATORS.difference(_UNCHECKED_OPERATORS)], _ANY)
    ufuncs = [value for value in vars(np).values() if isinstance(value, np.ufunc)]
    found |= {ufunc: Arguments(("",) * ufunc.nargs, frozenset()) for ufunc in ufuncs}
    for module, page in _MODULES:
        found |= {getattr(module, name): arguments for name, arguments in _read(page).items() if hasattr(module, name)}
    return found


@functools.cache
def drawing() -> frozenset[Any]:
    """Those of them that draw random numbers, or seed their generator. In Python the whole process shares that."""
    pages = ((np.random, _RANDOM), (random, _PLAIN_RANDOM))
    return frozenset(getattr(module, name, None) for module, page in pages for name in _read(page))
