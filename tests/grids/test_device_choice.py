"""Who chooses a kernel's device, and what a device refuses, with what to write instead."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from grid_kernels import (
    double,
    running_sum,
)
from inside import (
    use_devices,
)
from thread_device import ThreadDevice

from ringkernel import (
    ConfigurationError,
    DeviceUnavailableError,
    KernelState,
    MessageTypeError,
    RingKernelRuntime,
    ring_kernel,
)
from ringkernel.devices import selection
from ringkernel.devices.grid import cuda_probe


async def test_who_chooses_the_device(device: ThreadDevice, loop_errors: list[dict[str, Any]]) -> None:
    async with RingKernelRuntime(workers=1, device="cuda") as runtime:
        assert (await runtime.launch("a", double)).device == "cuda:0"
        assert (await runtime.launch("b", double, device="cpu")).device == "cpu"
        on_the_cpu = ring_kernel("c", input_type=int, device="cpu")(lambda msg: None)
        assert (await runtime.launch("c", on_the_cpu)).device == "cpu"
        assert (await runtime.launch("d", on_the_cpu, device="cuda:0")).device == "cuda:0"


GPU = cuda_probe.GpuFacts("A GPU", (9, 0), 132, None)


def facts(*gpus: cuda_probe.GpuFacts, problem: str | None = None, simulator: bool = False) -> cuda_probe.CudaFacts:
    return cuda_probe.CudaFacts({}, simulator, gpus, problem)


@pytest.mark.workers
@pytest.mark.parametrize(
    ("found", "handler", "chosen", "reason"),
    [
        (facts(problem="no driver"), double, "cpu", "no driver"),
        (facts(GPU), double, "cpu", "A GPU is there, but no measurement has shown yet"),
        (facts(cuda_probe.GpuFacts("Old", (7, 0), 80, "too old"), GPU), double, "cpu", 'device="cuda:1" asks for it'),
        (facts(GPU), running_sum, "cpu", "state"),
        (facts(simulator=True), double, "cpu", "simulator"),
    ],
)
async def test_auto_says_what_it_chose_and_why(
    runtime: RingKernelRuntime,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    found: Any,
    handler: Any,
    chosen: str,
    reason: str,
) -> None:
    monkeypatch.setattr(selection, "cuda_facts", lambda: found)
    use_devices(monkeypatch, ThreadDevice(chosen))
    caplog.set_level(logging.INFO, "ringkernel")
    assert (await runtime.launch("k", handler)).device == chosen
    said = [record.getMessage() for record in caplog.records]
    assert any(f'chose "{chosen}"' in text and reason in text for text in said)


@pytest.mark.workers
@pytest.mark.parametrize(
    ("found", "asked", "reason"),
    [
        (facts(problem='numba-cuda not installed: pip install "numba-ringkernel[cuda]"'), "cuda", "pip install"),
        (facts(GPU), "cuda:3", "there is no GPU 3; found are 1: A GPU"),
        (facts(cuda_probe.GpuFacts("Screen", (9, 0), 80, "watchdog")), "cuda", "watchdog"),
    ],
)
async def test_a_device_that_is_not_there_says_what_is_missing(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch, found: Any, asked: Any, reason: Any
) -> None:
    monkeypatch.setattr(selection, "cuda_facts", lambda: found)
    use_devices(monkeypatch)
    with pytest.raises(DeviceUnavailableError, match=reason):
        await runtime.launch("k", double, device=asked)


@pytest.mark.workers
@pytest.mark.parametrize("asked", ["cuda", "cuda:1"])
async def test_a_device_that_is_not_there_is_refused_and_all_else_goes_on(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setattr(selection, "cuda_facts", lambda: facts(problem="no driver"))
    use_devices(monkeypatch)
    with pytest.raises(DeviceUnavailableError, match=f"'k'.*{asked}"):
        await runtime.launch("k", double, device=asked)
    declared = ring_kernel(kernel_id="dc_cuda", input_type=int, device=asked)(lambda msg: None)
    with pytest.raises(DeviceUnavailableError, match="'dc_cuda'"):
        await runtime.launch("dc_cuda", declared)
    assert runtime.get_state("dc_cuda") is KernelState.CREATED
    assert (await runtime.launch("k", double, device="cpu")).device == "cpu"
    assert (await runtime.launch("auto", double, device="auto")).device == "cpu"


async def test_a_batch_handler_is_refused_with_what_to_write_instead(
    runtime: RingKernelRuntime, device: ThreadDevice
) -> None:
    batch = ring_kernel("k", input_type=int, output_type=int, batch=True)(lambda msgs, outs: None)
    with pytest.raises(ConfigurationError, match="Write the handler for one message"):
        await runtime.launch("k", batch, device="cuda")


INNER = np.dtype([("n", "i4"), ("x", "f8")])


class Packed:
    dtype = np.dtype([("flag", "?"), ("price", "f8")])


class Nested:
    dtype = np.dtype([("id", "i8"), ("part", INNER)])


class Odd:
    dtype = np.dtype([("price", "f8"), ("flag", "?")])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"input_type": Packed}, r"input_type, field 'price' lies at byte 1 .* no multiple of 8"),
        ({"input_type": int, "output_type": Nested}, r"output_type, field 'part\.x' lies at byte 12 .* multiple of 8"),
        ({"input_type": Odd}, r"input_type, field 'price' lies at byte 0 of a record of 9 bytes, .* at byte 9, "),
        ({"input_type": int, "state": np.zeros(3, INNER)}, r"state, field 'x' lies at byte 4 .* multiple of 8"),
        (
            {"input_type": int, "state": np.zeros(3, [("k", "i8"), ("parts", INNER, (4,))])},
            r"state, field 'parts\.x' lies at byte 12 ",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*never mentions `out`")
async def test_records_that_are_not_aligned_are_refused(
    runtime: RingKernelRuntime, device: ThreadDevice, options: Any, reason: Any
) -> None:
    handlers: dict[str, Any] = {"output_type": lambda msg, out: None, "state": lambda msg, state: None}
    handler = next((one for option, one in handlers.items() if option in options), lambda msg: None)
    declared = ring_kernel("k", **options)(handler)
    for _ in range(2):
        with pytest.raises(MessageTypeError, match=rf"'k'.*\"cuda:0\".*{reason}.*align=True\) would be right"):
            await runtime.launch("k", declared, device="cuda:0")
    assert "k" not in runtime.kernels
    assert device.grids == []
    assert (await runtime.launch("k", declared, device="cpu")).device == "cpu"


async def test_auto_keeps_what_is_not_aligned_on_the_cpu(
    runtime: RingKernelRuntime, device: ThreadDevice, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(selection, "cuda_facts", lambda: facts(GPU))
    caplog.set_level(logging.INFO, "ringkernel")
    assert (await runtime.launch("k", ring_kernel("k", input_type=Packed)(lambda msg: None))).device == "cpu"
    assert any("'price' lies at byte 1" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    "dtype",
    [
        [("a", "i4"), ("b", "i4"), ("c", "f8")],  # as it happens
        [("flag", "?"), ("part", INNER), ("many", "i1", (3,)), ("x", "c16")],  # aligned by the message type
    ],
)
async def test_records_that_are_aligned_need_not_say_so(
    runtime: RingKernelRuntime, device: ThreadDevice, dtype: Any
) -> None:
    function = ring_kernel("k", input_type=np.dtype(dtype))(lambda msg: None)
    assert (await runtime.launch("k", function, device="cuda")).device == "cuda:0"


@pytest.mark.parametrize("fma", [1, None, "yes"])
def test_fma_is_yes_or_no(fma: Any) -> None:
    with pytest.raises(ConfigurationError, match="'k'.*fma is .*True or False"):
        ring_kernel("k", input_type=int, fma=fma)(lambda msg: None)


async def test_a_grid_is_compiled_for_each_choice_of_fma(
    runtime: RingKernelRuntime, device: ThreadDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, compile_ = [], device.compile

    def compile_and_note(declaration: Any, span: Any) -> Any:
        asked.append(declaration.fma)
        return compile_(declaration, span)

    monkeypatch.setattr(device, "compile", compile_and_note)

    def twice(msg: Any, out: Any) -> None:
        out.value = msg.value * 2.0 + 1.0

    for i, fma in enumerate((False, True, False)):
        function = ring_kernel("k", input_type=float, output_type=float, fma=fma)(twice)
        await runtime.launch(f"k{i}", function, device="cuda")
    assert asked == [False, True]


@pytest.mark.parametrize("size", [0, 31, 48, 2048, "128", True])
def test_a_bad_block_size(size: int) -> None:
    with pytest.raises(ConfigurationError, match="multiple of 32"):
        ring_kernel("k", input_type=int, block_size=size)(lambda msg: None)
