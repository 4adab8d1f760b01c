"""Random numbers that are the same, bit for bit, in Python and in compiled handlers, on every machine.

One source for both: the functions here work on four words of 64 bits, a list in Python, memory in compiled code, see
`codegen/rng_type.py`. They use nothing but integers, and the operations on floats that IEEE 754 rounds in one way only:
no function of a mathematical library.
"""

from __future__ import annotations

import math
import operator
from collections.abc import MutableSequence
from typing import Any

import numpy as np

from ringkernel.errors import ConfigurationError

Words = MutableSequence[int]
"""The state of a generator."""

_MASK = 0xFFFF_FFFF_FFFF_FFFF
_UNIT = 2.0**-53


def seeded(seed: int) -> list[int]:
    """Return the first words of a generator: by splitmix64, as the authors of xoshiro256++ advise."""
    words = []
    for _ in range(4):
        seed = (seed + 0x9E37_79B9_7F4A_7C15) & _MASK
        mixed = ((seed ^ (seed >> 30)) * 0xBF58_476D_1CE4_E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D0_49BB_1331_11EB) & _MASK
        words.append(mixed ^ (mixed >> 31))
    return words


def next_word(words: Words) -> int:
    """64 random bits: xoshiro256++ 1.0 (Blackman and Vigna, Scrambled linear pseudorandom number generators, ACM
    Transactions on Mathematical Software 47, 2021)."""
    s0, s1, s2, s3 = words[0], words[1], words[2], words[3]
    both = (s0 + s3) & _MASK
    result = ((((both << 23) & _MASK) | (both >> 41)) + s0) & _MASK
    s2 ^= s0
    s3 ^= s1
    words[0] = s0 ^ s3
    words[1] = s1 ^ s2
    words[2] = s2 ^ ((s1 << 17) & _MASK)
    words[3] = ((s3 << 45) & _MASK) | (s3 >> 19)
    return result


def uniform(words: Words) -> float:
    """Return a multiple of 2**-53 in [0, 1)."""
    return (next_word(words) >> 11) * _UNIT


def at_most(words: Words, most: int) -> int:
    """Return a whole number from 0 to `most`, each as likely: of as many bits as that has, until one fits."""
    mask = most
    mask |= mask >> 1
    mask |= mask >> 2
    mask |= mask >> 4
    mask |= mask >> 8
    mask |= mask >> 16
    mask |= mask >> 32
    while True:
        found = next_word(words) & mask
        if found <= most:
            return found


# --- the normal distribution -----------------------------------------------------------------------------------------

_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_HALF_ROOT = 0.7071067811865476


def log(x: float) -> float:
    """Return the logarithm of a number above 0 and at most 1, off by less than one unit of the last place: the method
    and the coefficients of `__ieee754_log` in fdlibm (Sun Microsystems, 1993)."""
    twos = 0.0
    while x < _HALF_ROOT:
        x += x
        twos -= 1.0
    f = x - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01))
    odd = z * (
        6.666666666666735130e-01
        + w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01))
    )
    half = 0.5 * f * f
    return twos * _LN2_HIGH - ((half - (s * (half + (even + odd)) + twos * _LN2_LOW)) - f)


_LAYERS = 256
_R, _AREA, _HEIGHT_AT_R = 3.654152885361009, 0.004928673233974655, 0.0012602859304985975
"""Where the tail begins; the area of each layer; exp(-_R * _R / 2)."""


def _layers() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """How far each layer reaches, from the lowest on, and the density there. The layer above begins at that height. The
    lowest one, with the tail, is taken for a rectangle of the same area."""
    edges, heights = [_AREA / _HEIGHT_AT_R, _R], [0.0, _HEIGHT_AT_R]
    while len(edges) < _LAYERS:
        heights.append(heights[-1] + _AREA / edges[-1])
        edges.append(math.sqrt(-2.0 * log(heights[-1])))
    return np.array([*edges, 0.0]), np.array([*heights, 1.0])


def _table(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    values = values.copy()
    values.flags.writeable = False
    return values


_edges, _heights = _layers()
_OUTER, _INNER, _LOWER, _UPPER = map(_table, (_edges[:-1], _edges[1:], _heights[:-1], _heights[1:]))


def normal(words: Words) -> float:
    """Return a number of the standard normal distribution: Marsaglia and Tsang, The ziggurat method for generating
    random variables, Journal of Statistical Software 5, 2000, with layer and sign from other bits than the place in the
    layer (Doornik, An improved ziggurat method to generate normal random samples, 2005)."""
    word = next_word(words)
    layer = word & 0xFF
    x = (word >> 11) * _UNIT * _OUTER[layer]
    if x >= _INNER[layer]:  # once in 67 times
        x = _at_the_edge(words, layer, x)
    return float(x * (1.0 - 2.0 * ((word >> 8) & 1)))  # a branch would be foretold half of the time


def _at_the_edge(words: Words, layer: int, x: float) -> float:
    """`x`, of this layer, if it is below the curve, else another. A function of its own: `normal` is inlined."""
    while layer > 0:
        height = _LOWER[layer] + (_UPPER[layer] - _LOWER[layer]) * uniform(words)
        if -2.0 * log(height) > x * x:
            return x
        word = next_word(words)
        layer = word & 0xFF
        x = (word >> 11) * _UNIT * _OUTER[layer]
        if x < _INNER[layer]:
            return x
    return _beyond(words)


def _beyond(words: Words) -> float:
    """Return a number of the tail (Marsaglia, Generating a variable from the tail of the normal distribution,
    Technometrics 6, 1964)."""
    while True:
        x = -log(1.0 - uniform(words)) / _R
        y = -log(1.0 - uniform(words))
        if y + y > x * x:
            return _R + x


# --- for Python ------------------------------------------------------------------------------------------------------

EMPTY = "integers(low, high) needs a low below high, which is excluded"
_LEAST, _MOST = -(2**63), 2**63 - 1


class Rng:
    """The random numbers that a handler gets by `rng=seed`, for calling its function in Python: the same, bit for bit.

    A generator of its own (xoshiro256++): neither NumPy's nor Python's global one has a part in it.

    Raises `ConfigurationError` for a seed that is no integer from 0 to 2**64 - 1.

    Example:
        >>> rng = rk.Rng(7)
        >>> rng.random(), rng.integers(0, 100)
        (0.05536043647833311, 20)
    """

    __slots__ = ("_words",)

    def __init__(self, seed: int) -> None:
        self._words: Words = seeded(check_seed("Rng", "seed", seed))

    def __getstate__(self) -> list[int]:
        return list(self._words)

    def __setstate__(self, words: Any) -> None:
        self._words = [int(word) for word in words]

    def random(self) -> float:
        """Return a float in [0, 1), a multiple of 2**-53, each as likely.

        Example:
            >>> rk.Rng(1).random()
            0.8116121588818848
        """
        return uniform(self._words)

    def normal(self) -> float:
        """Return a float of the standard normal distribution: mean 0, standard deviation 1.

        Example:
            >>> rk.Rng(1).normal()
            1.0991219651934043
        """
        return normal(self._words)

    def integers(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high - 1`, each as likely; both are int64.

        Raises `ValueError` if there is none.

        Example:
            >>> rk.Rng(1).integers(1, 7)
            4
        """
        low, high = operator.index(low), operator.index(high)
        if not (_LEAST <= low <= _MOST and _LEAST <= high <= _MOST):
            raise OverflowError(f"integers({low}, {high}) is beyond int64")
        if low >= high:
            raise ValueError(EMPTY)
        return low + at_most(self._words, high - low - 1)


def rng_of(words: Any) -> Rng:
    """Return a generator that goes on from these words."""
    made = Rng.__new__(Rng)
    made.__setstate__(words)
    return made


def check_seed(where: str, name: str, seed: Any) -> int:
    """Return a seed. Raises `ConfigurationError` if it is none."""
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool) and 0 <= seed <= _MASK:
        return int(seed)
    raise ConfigurationError(f"{where}: {name} is {seed!r:.100}; it must be an integer from 0 to 2**64 - 1")
