"""A service: ticks in by HTTP, volume-weighted prices out by websocket, compiled kernels in between.

    POST /ticks     a JSON list of [symbol, price, volume]; answers how many were accepted
    GET  /prices    a websocket; a JSON object {"symbol", "price"} for each tick that counts
    GET  /metrics   for Prometheus

Run it: python examples/price_service.py, and stop it with Ctrl-C: it then takes no more ticks, handles those that it
has accepted, tells the prices, and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

import ringkernel as rk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SYMBOLS = 64
TICK = np.dtype([("symbol", "i4"), ("price", "f8"), ("volume", "f8")])
PRICE = np.dtype([("symbol", "i4"), ("price", "f8")])


@rk.ring_kernel("valid", input_type=TICK, output_type=TICK)
def valid(msg: Any, out: Any) -> Any:
    """Drop what is no tick."""
    out.symbol = msg.symbol
    out.price = msg.price
    out.volume = msg.volume
    return 0 <= msg.symbol < SYMBOLS and msg.price > 0 and msg.volume > 0


@rk.ring_kernel("vwap", input_type=TICK, output_type=PRICE, state=np.zeros((SYMBOLS, 2)))
def vwap(msg: Any, out: Any, state: Any) -> None:
    """The price so far of each symbol, weighted by volume."""
    sums = state[msg.symbol]
    sums[0] += msg.price * msg.volume
    sums[1] += msg.volume
    out.symbol = msg.symbol
    out.price = sums[0] / sums[1]


RUNNING = web.AppKey("running", rk.RunningPipeline)
LISTENERS = web.AppKey("listeners", set[web.WebSocketResponse])
REGISTRY = web.AppKey("registry", CollectorRegistry)


def new_app() -> web.Application:
    """The service."""
    app = web.Application()
    app[LISTENERS] = set()
    app.router.add_post("/ticks", take_ticks)
    app.router.add_get("/prices", tell_prices)
    app.router.add_get("/metrics", show_metrics)
    app.cleanup_ctx.append(run_kernels)
    app.on_shutdown.append(finish)
    return app


async def run_kernels(app: web.Application) -> AsyncIterator[None]:
    """The kernels, for as long as the service runs."""

    async def publish(ctx: rk.KernelContext[Any, Any]) -> None:
        while True:
            price = await ctx.receive()
            message = {"symbol": int(price.symbol), "price": float(price.price)}
            sending = [listener.send_json(message) for listener in app[LISTENERS]]
            await asyncio.gather(*sending, return_exceptions=True)  # who has gone hears nothing

    async with rk.RingKernelRuntime() as runtime, runtime.run(rk.pipeline(valid, vwap, publish)) as running:
        app[RUNNING] = running
        app[REGISTRY] = CollectorRegistry()
        app[REGISTRY].register(runtime.collector())
        with contextlib.suppress(rk.ConfigurationError):  # no Unix sockets here
            await runtime.serve_stats()  # `ringkernel top` in another terminal
        yield


async def finish(app: web.Application) -> None:
    """End the kernels, source by source, so that what was accepted goes all the way to the listeners; then let go of
    these."""
    await app[RUNNING].finish()
    listeners = app[LISTENERS]
    for listener in tuple(listeners):
        await listener.close()


async def take_ticks(request: web.Request) -> web.Response:
    """Accept a list of ticks. Waits while the kernels have no room: that is the backpressure."""
    try:
        ticks = np.array([tuple(tick) for tick in await request.json()], TICK)
    except (TypeError, ValueError) as error:
        raise web.HTTPBadRequest(text=f"a list of [symbol, price, volume] is wanted: {error}") from error
    try:
        await request.app[RUNNING].send_batch(ticks)
    except rk.KernelStateError as error:
        raise web.HTTPServiceUnavailable(text=str(error)) from error
    return web.json_response({"accepted": len(ticks)}, status=202)


async def tell_prices(request: web.Request) -> web.WebSocketResponse:
    """A websocket that hears all prices from now on."""
    listener = web.WebSocketResponse()
    await listener.prepare(request)
    request.app[LISTENERS].add(listener)
    try:
        async for _ in listener:
            pass
    finally:
        request.app[LISTENERS].discard(listener)
    return listener


async def show_metrics(request: web.Request) -> web.Response:
    """The kernels' figures."""
    return web.Response(body=generate_latest(request.app[REGISTRY]), headers={"Content-Type": "text/plain"})


if __name__ == "__main__":
    web.run_app(new_app(), host="localhost")
