"""The example service takes ticks, tells prices, shows metrics, refuses nonsense, and loses nothing at its end."""

from __future__ import annotations

import asyncio
import importlib.util
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from helpers import within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SERVICE = Path(__file__).parents[2] / "examples" / "price_service.py"


@pytest.fixture
async def client() -> AsyncIterator[Any]:
    spec = importlib.util.spec_from_file_location("price_service", SERVICE)
    assert spec is not None
    assert spec.loader is not None
    service = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(service)
    async with TestClient(TestServer(service.new_app())) as client:
        yield client


async def test_ticks_go_in_and_prices_come_out(client: Any) -> None:
    async with client.ws_connect("/prices") as prices:
        answer = await client.post("/ticks", json=[[1, 10.0, 1], [2, 5.0, 1], [1, 13.0, 2], [1, -1.0, 1], [99, 1.0, 1]])
        assert (answer.status, await answer.json()) == (202, {"accepted": 5})
        got = [await within(prices.receive_json()) for _ in range(3)]
        assert got == [{"symbol": 1, "price": 10}, {"symbol": 2, "price": 5}, {"symbol": 1, "price": 12}]
        metrics = await (await client.get("/metrics")).text()
        assert 'ringkernel_dropped_total{device="cpu",kernel="valid"} 2.0' in metrics
        assert 'ringkernel_processed_total{device="cpu",kernel="vwap"} 3.0' in metrics


@pytest.mark.parametrize("body", ["[[1, 2]]", "{", '[["a", 1, 1]]', "7"])
async def test_nonsense_is_refused_and_changes_nothing(client: Any, body: str) -> None:
    answer = await client.post("/ticks", data=body)
    assert answer.status == 400
    assert "a list of [symbol, price, volume] is wanted" in await answer.text()
    assert (await client.post("/ticks", json=[[1, 1.0, 1]])).status == 202


async def test_what_was_accepted_is_told_before_the_end(client: Any) -> None:
    async with client.ws_connect("/prices") as prices:
        await client.post("/ticks", json=[[1, float(i + 1), 1] for i in range(2_000)])
        closing = asyncio.ensure_future(client.server.close())
        got = 0
        async for message in prices:
            got += message.json()["symbol"]
        await within(closing)
        assert got == 2_000


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
async def test_ctrl_c_ends_it_quietly() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-c", f"import runpy, sys; from aiohttp import web; run = web.run_app; "
        f"web.run_app = lambda app, host: run(app, port=0); runpy.run_path({str(SERVICE)!r}, run_name='__main__')",
        stdout=-1, stderr=-1,
    )  # fmt: skip
    assert process.stdout is not None
    while b"Running on" not in await within(process.stdout.readline(), 60):
        pass
    process.send_signal(signal.SIGINT)
    _, err = await within(process.communicate(), 30)
    assert (process.returncode, err.decode()) == (0, "")
