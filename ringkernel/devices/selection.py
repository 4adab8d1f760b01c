"""Which device a kernel runs on: what was asked for, by whom, and what is there."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ringkernel.errors import ConfigurationError, DeviceUnavailableError, MessageTypeError
from ringkernel.messages.records import bytes_field, misaligned_field

from .grid.cuda_probe import cuda_facts

if TYPE_CHECKING:
    from typing import Any

    import numpy as np

    from ringkernel.declaration.declaration import Declaration

    from .device import Device
    from .event_loop.services import Services
    from .grid.hardware import Hardware

logger = logging.getLogger("ringkernel")

_opened: dict[str, Hardware] = {}


def choose(declaration: Declaration, default: str) -> str:
    """The name of the kernel's device: "cpu" or "cuda:N". `default`, the runtime's, is for kernels that say "auto".

    Raises `DeviceUnavailableError`, and for a kernel that the device cannot run `ConfigurationError` or
    `MessageTypeError`.
    """
    kernel_id, asked = declaration.kernel_id, declaration.device
    if declaration.is_coroutine:
        if asked.startswith("cuda"):
            raise DeviceUnavailableError(
                f'kernel {kernel_id!r}: device="{asked}" is not available: a coroutine kernel runs in the event loop; '
                f'use "cpu" or "auto"'
            )
        return "cpu"
    asked = default if asked == "auto" else asked
    if asked == "auto":
        device, reason = automatic(declaration)
        logger.info('kernel %r: device "auto" chose "%s": %s', kernel_id, device, reason)
        return device
    if asked == "cpu":
        return "cpu"
    check_fits(declaration, asked)
    index = int(asked.partition(":")[2] or 0)
    name = f"cuda:{index}"
    problem = None if name in _opened else cuda_facts().problem_of(index)
    if problem is not None:
        raise DeviceUnavailableError(
            f'kernel {kernel_id!r}: device="{asked}" is not available: {problem}; use "cpu" or "auto" to run without it'
        )
    return name


def automatic(declaration: Declaration | None) -> tuple[str, str]:
    """Return what "auto" means for a kernel, or without one in general; and why."""
    reason = None if declaration is None else _why_cpu(declaration)
    if reason is not None:
        return "cpu", reason
    facts = cuda_facts()
    if facts.problem is not None:
        return "cpu", facts.problem
    if facts.simulator:
        return "cpu", "the CUDA simulator is used only where it is asked for"
    index = next(i for i, gpu in enumerate(facts.gpus) if gpu.problem is None)
    return "cpu", (
        f"{facts.gpus[index].name} is there, but no measurement has shown yet which handlers gain by it; "
        f'device="cuda:{index}" asks for it'
    )


def check_fits(declaration: Declaration, device: str) -> None:
    """Raises `ConfigurationError` for a handler that a grid cannot run, `MessageTypeError` for records that it cannot
    read."""
    if declaration.batch:
        raise ConfigurationError(
            f'kernel {declaration.kernel_id!r}: batch=True does not go with device="{device}": there the threads of a '
            f"block take one message each. Write the handler for one message, f(msg, out), returning False to drop "
            f"it, without batch=True; a handler that has to see neighbours keeps them in its state"
        )
    text = _with_bytes(declaration)
    if text is not None:
        raise MessageTypeError(
            f'kernel {declaration.kernel_id!r} cannot run with device="{device}": {text}; device="cpu" or "auto" runs '
            f"it there"
        )
    misaligned = _misaligned(declaration)
    if misaligned is not None:
        raise MessageTypeError(
            f'kernel {declaration.kernel_id!r} cannot run with device="{device}", where fields have to be aligned: '
            f"{misaligned}; np.dtype(..., align=True) would be right"
        )


def _why_cpu(declaration: Declaration) -> str | None:
    """Why a kernel is better off on the CPU, or can run nowhere else."""
    if declaration.batch:
        return "its handler takes batches"
    if (text := _with_bytes(declaration)) is not None:
        return text
    if declaration.state is not None and _misaligned(declaration) is None:
        return "its handler has a state, so it runs in order, and one thread of a CPU is faster at that"
    return _misaligned(declaration)


def _misaligned(declaration: Declaration) -> str | None:
    """Say what of a kernel's records is not aligned, if anything."""
    for what, dtype in _records(declaration).items():
        problem = misaligned_field(dtype)
        if problem is not None:
            return f"in its {what}, {problem}"
    return None


def _with_bytes(declaration: Declaration) -> str | None:
    """Say what of a kernel's records is bytes, which handlers have on the CPU only, if anything."""
    for what, dtype in _records(declaration).items():
        field = bytes_field(dtype)
        if field is not None:
            return f"in its {what}, field {field!r} is bytes, which only handlers on the CPU know"
    return None


def _records(declaration: Declaration) -> dict[str, np.dtype[Any]]:
    """The dtypes that a kernel's handler sees."""
    types: dict[str, Any] = {"input_type": declaration.input_type}
    types |= {f"input {one.name!r}": one.message_type for one in declaration.inputs}
    types |= {"output_type": declaration.output_type, "state": declaration.state, "params": declaration.params}
    return {what: one.dtype for what, one in types.items() if one is not None}


class Devices:
    """The devices of one event loop, each made when it is first needed: the only place that knows every kind."""

    def __init__(self, services: Services, workers: int | None, *, fuse: bool) -> None:
        self._services, self._workers, self._fuse = services, workers, fuse
        self._made: dict[str, Device] = {}

    def of(self, declaration: Declaration, default: str) -> Device:
        """The device that a kernel is to run on; see `choose`, and what that raises."""
        name = choose(declaration, default)
        if declaration.is_coroutine:
            name = "event-loop"
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Device:
        """Imports no more than this device needs."""
        if name == "event-loop":
            from .coroutine.device import CoroutineDevice

            return CoroutineDevice(self._services)
        if name == "cpu":
            from .cpu.cores import default_workers
            from .cpu.device import CpuDevice

            return CpuDevice(self._services, self._workers or default_workers(), fuse=self._fuse)
        from .grid.device import GridDevice

        return GridDevice(self._services, open_hardware(name))


def open_hardware(name: str) -> Hardware:
    """The hardware of this name; `choose` has found it usable. Makes a context, and imports what it takes."""
    if name not in _opened:
        index = int(name.partition(":")[2])
        if cuda_facts().simulator:
            from .grid.cuda_simulator import SimulatedDevice

            _opened[name] = SimulatedDevice(name)
        else:
            from .grid.cuda_driver import CudaDevice

            _opened[name] = CudaDevice(index)
    return _opened[name]
