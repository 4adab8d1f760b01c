"""What handlers may compute of hostile values, one expression a line, and what they may not."""

from __future__ import annotations

import math

INTEGERS = [
    -(2**63),
    -(2**63) + 1,
    -(2**40),
    -(2**31),
    -17,
    -16,
    -5,
    -1,
    0,
    1,
    3,
    4,
    15,
    16,
    17,
    2**31,
    2**40,
    2**60 + 1,
]
INTEGERS += [2**62, 2**63 - 1]
FLOATS = [math.nan, math.inf, -math.inf, 1e300, -1e300, 0.0, -1.0, 0.5, 3.5, 100.0, 100.5, 5e-324]

HOSTILE = """
np.allclose(state, msg.f)
np.append(state, msg.f)
np.arange(msg.i)
np.arange(0, msg.i, 3)
np.array([msg.f, 1.0])
np.broadcast_to(state, (2, msg.i))
np.cross(state[:msg.i], state[:3])
np.cumprod(state * msg.f)
np.empty((msg.i, 2)).shape[0]
np.empty(msg.i).size
np.empty((msg.i, msg.i)).size
np.expand_dims(state, msg.i)
np.eye(3, 3, msg.i)
np.eye(msg.i % 5)
np.full(msg.i, msg.f).size
np.interp(msg.f, state, state)
np.interp(msg.f, state[:0], state[:0])
np.interp(msg.f, state * msg.f, state)
np.isclose(state, msg.f)
np.isneginf(state * msg.f)
np.linspace(0.0, 1.0, msg.i)
np.nan_to_num(state * msg.f)
np.nanpercentile(state, msg.f)
np.ones(msg.i).size
np.percentile(state, msg.f)
np.percentile(state, float(msg.i))
np.quantile(state, msg.f)
state.reshape(msg.i)
state.reshape(msg.i, -1)
np.searchsorted(state, msg.f)
np.searchsorted(state[:0], msg.f)
np.searchsorted(state * msg.f, msg.f, 'right')
np.sort(state * msg.f)
np.sum(state.reshape(4, 4), msg.i)
state.reshape(4, 4).sum(axis=msg.i)
np.swapaxes(state.reshape(4, 4), msg.i, 0)
np.take(state, msg.i)
np.take(state, np.array([0, 1, 2, 3, 4]) * msg.i)
np.take(state[:0], msg.i)
state.take(msg.i)
state.reshape(4, 4).take(msg.i)
np.tri(msg.i % 7, 4, 1)
np.unique(state * msg.f)
np.where((state > 0.5), state, msg.f)
np.zeros(msg.i).size
np.roll(state, msg.i)
np.roll(state[:0], msg.i)
np.digitize(msg.f, state)
np.digitize(state * msg.f, state)
np.digitize(state, state * msg.f)
np.digitize(msg.f, state[:0])
np.nanmin(state * msg.f)
np.nanargmin(state * msg.f)
np.isposinf(state * msg.f)
np.sign(msg.f)
state[msg.i]
state[msg.i:msg.i+5]
state[::msg.i]
state[msg.i::msg.i]
state[:msg.i:-3]
state[-3::msg.i]
state.reshape(4, 4)[msg.i, msg.i]
state.reshape(4, 4)[msg.i]
state.reshape(4, 4)[1:, msg.i]
state.reshape(4, 4)[:, ::msg.i]
state.reshape(4, 4)[msg.i:, msg.i:]
state[np.array([0, 1, 2, 3, 4]) * msg.i]
state.reshape(4, 4)[np.array([0, 1, 2, 3, 4]) * msg.i]
state.reshape(4, 4)[np.array([0, 1, 2, 3, 4]) * msg.i, 1]
state.reshape(4, 4)[1, np.array([0, 1, 2, 3, 4]) * msg.i]
state.reshape(4, 4)[np.array([0, 1, 2, 3, 4])[:2] * msg.i, :]
(1.0, 2.0, 3.0)[msg.i]
[1.0, 2.0][msg.i]
[1.0, 2.0, 3.0][::msg.i][0]
state[msg.i:].item()
state.reshape(4, 4).T[msg.i, 0]
state.reshape(4, 4).flatten()[msg.i]
state.reshape(4, 4).ravel()[msg.i]
state.astype(np.int64)[msg.i]
state.view(np.int64)[msg.i]
state.view(np.int32)[msg.i]
state.argsort()[msg.i]
len(range(0, msg.i, 3))
sum([k for k in range(0, 5, msg.i)][:3])
[1.0, 2.0].pop(msg.i)
[1.0, 2.0].index(msg.f)
np.float_power(msg.f, msg.f)
divmod(msg.i, 7)
state.reshape(-1, 4)[msg.i, msg.i]
([1.0] * 8)[msg.i]
np.transpose(state.reshape(4, 4))[msg.i, 0]
state[np.array([0, 1]) * msg.i]
np.ones(min(abs(msg.i), 40) + 17, np.bool_).sum() + state[np.ones(40, np.bool_)].sum()
""".strip().splitlines()

LINEAR = """
np.cov(state * msg.f)
np.dot(state, state)
np.dot(state.reshape(4, 4), state[:4])
np.dot(state.reshape(4, 4), state)
np.dot(state.reshape(4, 4), state.reshape(4, 4))
state @ state[:3]
state.reshape(4, 4) @ state.reshape(4, 4)
state.reshape(4, 4) @ state[:msg.i]
np.linalg.inv(state.reshape(4, 4))
np.linalg.inv(state.reshape(4, 4)[:3])
np.linalg.det(state.reshape(4, 4) * msg.f)
np.linalg.solve(state.reshape(4, 4), state)
np.linalg.solve(state.reshape(4, 4), state[:4])
np.linalg.solve(state.reshape(4, 4), state[:msg.i])
np.linalg.eigvals(state.reshape(4, 4))
np.linalg.eigh(state.reshape(4, 4))[0]
np.linalg.svd(state.reshape(4, 4))[1]
np.linalg.svd(state.reshape(4, 4) * msg.f)[1]
np.linalg.norm(state)
np.linalg.norm(state.reshape(4, 4), msg.f)
np.linalg.cond(state.reshape(4, 4))
np.linalg.cholesky(state.reshape(4, 4))
np.linalg.lstsq(state.reshape(4, 4), state)[0]
np.linalg.lstsq(state.reshape(4, 4), state[:4])[0]
np.linalg.matrix_power(state.reshape(4, 4), msg.i % 9-4)
np.linalg.matrix_rank(state.reshape(4, 4))
np.linalg.pinv(state.reshape(4, 4))
np.linalg.qr(state.reshape(4, 4))[1]
np.linalg.slogdet(state.reshape(4, 4))[1]
np.linalg.inv(np.ones((0, 0)))
np.linalg.eigvalsh(state.reshape(4, 4))
state.dot(state[:3])
""".strip().splitlines()
"""They need SciPy, whose BLAS numba calls."""

REFUSED = """
state.flat[msg.i]
np.bincount(np.array([msg.i])).sum()
np.take_along_axis(state, np.full(3, msg.i), 0).sum()
np.lib.stride_tricks.as_strided(state, (1 << 30,), (8,))[msg.i]
np.repeat(state, msg.i).sum()
state.repeat(msg.i).sum()
np.delete(state, msg.i).sum()
np.partition(state, msg.i)[0]
np.argpartition(state, msg.i)[0]
np.trace(state.reshape(4, 4), msg.i)
np.transpose(state.reshape(4, 4), (msg.i, 0)).sum()
state.reshape(4, 4).transpose((msg.i, 1)).sum()
np.diag(state, msg.i).sum()
np.resize(state, msg.i).sum()
np.split(state, msg.i)[0].sum()
np.array_split(state, msg.i)[0].sum()
np.rot90(state.reshape(4, 4), msg.i).sum()
np.histogram(state, 4)[0].sum()
np.ascontiguousarray(state)[0]
state[:0].reshape((msg.i, msg.i))[5, 5]
state.reshape((msg.i, 4))[5, 3]
np.reshape(state, (16, msg.i))[1, 1]
len([1.0, 2.0] * msg.i)
len(([1.0] * 3) * int(msg.f))
state.ctypes.data
vectorized(msg.f)
np.nan_to_num(state * msg.f, copy=False)
np.dot(state.reshape(4, 4), state.reshape(4, 4), state.reshape(4, 4))
operator.getitem(state.flat, msg.i)
len(operator.mul([1.0, 2.0], msg.i))
sorted([3.0, 1.0], key=lambda x: -x)[0]
""".strip().splitlines()
