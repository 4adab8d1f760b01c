"""The kernels: a join, two that follow it, and a last one. Each is ordered by the times in its messages."""

from __future__ import annotations

from typing import Any

import numpy as np

import ringkernel as rk
from ringkernel.demos.market import QUOTE, SYMBOLS, TRADE

KEYS = len(SYMBOLS)
SPAN = 20  # bars that the moving averages go over, as pandas counts them

BOOK = np.dtype([("bid", "f8"), ("ask", "f8")])
PRICED = np.dtype([*TRADE.descr, *BOOK.descr])  # a trade, and the quote that was there
COST = np.dtype([*PRICED.descr, ("cost", "f8")])  # dollars paid more than the middle
BAR = np.dtype([
    ("time", "M8[ms]"),  # where the minute ends
    ("symbol", "i8"),
    *((name, "f8") for name in ("first", "high", "low", "last")),
    ("volume", "i8"),
    ("flow", "i8"),  # shares bought by who was in a hurry, less those sold
])  # fmt: skip
SIGNAL = np.dtype([*BAR.descr, ("pressure", "f8")])  # from -1, all sell, to 1
MEANS = np.dtype([("bars", "i8"), ("volume", "f8"), ("flow", "f8")])


@rk.ring_kernel(
    "priced", input_type=QUOTE, output_type=PRICED, order_by="time", key="symbol", keys=KEYS, state=np.zeros((), BOOK)
)
def priced(msg: Any, out: Any, state: Any) -> bool:
    """Take note of a quote: of equal times this input's goes first, so a trade sees the quotes of its millisecond."""
    state.bid, state.ask = msg.bid, msg.ask
    return False


@rk.on_input("priced", "trades", TRADE)
def price(msg: Any, out: Any, state: Any) -> bool:
    """Emit a trade with the quote that was there, if there was one."""
    if state.ask == 0:
        return False
    out.time, out.symbol, out.price, out.size = msg.time, msg.symbol, msg.price, msg.size
    out.bid, out.ask = state.bid, state.ask
    return True


@rk.ring_kernel("cost", input_type=PRICED, output_type=COST, order_by="time")
def cost(msg: Any, out: Any) -> None:
    """Compute what a trade paid more than the middle of the quote, or got less."""
    out.time, out.symbol, out.price, out.size = msg.time, msg.symbol, msg.price, msg.size
    out.bid, out.ask = msg.bid, msg.ask
    out.cost = msg.size * abs(msg.price - (msg.bid + msg.ask) / 2)


@rk.ring_kernel(
    "bars", input_type=PRICED, output_type=BAR, order_by="time", key="symbol", keys=KEYS, state=np.zeros((), BAR)
)
def bars(msg: Any, out: Any, state: Any) -> bool:
    """Add a trade to the bar of its symbol. One above the middle of the quote was bought, one below was sold."""
    if state.volume == 0:
        state.first = state.high = state.low = msg.price
    state.high, state.low, state.last = max(state.high, msg.price), min(state.low, msg.price), msg.price
    middle = (msg.bid + msg.ask) / 2
    state.volume += msg.size
    state.flow += msg.size * ((msg.price > middle) - (msg.price < middle))
    state.time = msg.time
    return False


@rk.on_timer("bars", every="1min")
def close(time: Any, out: Any, state: Any) -> bool:
    """Emit the bar of the minute that ends here, if there were trades. It is called for each symbol."""
    if state.volume == 0:
        return False
    out.time, out.symbol = time, state.symbol
    out.first, out.high, out.low, out.last = state.first, state.high, state.low, state.last
    out.volume, out.flow = state.volume, state.flow
    state.volume = state.flow = 0
    return True


@rk.ring_kernel(
    "signal", input_type=BAR, output_type=SIGNAL, order_by="time", key="symbol", keys=KEYS, state=np.zeros((), MEANS)
)
def signal(msg: Any, out: Any, state: Any) -> None:
    """Weigh what was bought against what was sold: the moving average of the one by that of all."""
    weight = 2 / (SPAN + 1) if state.bars else 1.0
    state.bars += 1
    state.volume += weight * (msg.volume - state.volume)
    state.flow += weight * (msg.flow - state.flow)
    out.time, out.symbol = msg.time, msg.symbol
    out.first, out.high, out.low, out.last = msg.first, msg.high, msg.low, msg.last
    out.volume, out.flow = msg.volume, msg.flow
    out.pressure = state.flow / state.volume
