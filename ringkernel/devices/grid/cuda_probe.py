"""The CUDA that is there, found out without starting anything: the driver is asked, no context is made."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from ringkernel.extras import installing

logger = logging.getLogger("ringkernel")

INSTALL = installing("cuda")
PACKAGES = ("numba-cuda", "cuda-core", "cuda-bindings", "nvidia-nvvm", "nvidia-cuda-nvrtc", "nvidia-nvjitlink")
_NEEDED = ("numba-cuda", "cuda-core", "cuda-bindings", "nvidia-nvvm", "nvidia-nvjitlink")
_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
MINIMUM_CC = (8, 0)
_MINIMUM_DRIVER = 13000
_NOT_INITIALIZED = 3
_SETTINGS = {"CUDA_MODULE_LOADING": "EAGER", "CUDA_DEVICE_MAX_CONNECTIONS": "32"}
_ATTRIBUTES = {"major": 75, "minor": 76, "watchdog": 17, "multiprocessors": 16, "host_pointers": 91}
"""CU_DEVICE_ATTRIBUTE_*: compute capability, KERNEL_EXEC_TIMEOUT, MULTIPROCESSOR_COUNT, and
CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM."""


@dataclass(frozen=True)
class GpuFacts:
    """One GPU. `problem` says why ringkernel does not use it, or None."""

    name: str
    cc: tuple[int, int]
    multiprocessors: int
    problem: str | None


@dataclass(frozen=True)
class CudaFacts:
    """The facts that were found. `problem` says why no kernel can run on `cuda`, and what to do, or None; `was_asked`
    whether the driver was asked for GPUs."""

    packages: dict[str, str]
    simulator: bool
    gpus: tuple[GpuFacts, ...]
    problem: str | None
    was_asked: bool = True

    def as_dict(self) -> dict[str, Any]:
        """For `ringkernel info`."""
        return asdict(self)

    def problem_of(self, index: int) -> str | None:
        """Why no kernel can run on this GPU, or None."""
        if self.problem is not None or self.simulator:
            return self.problem
        if index >= len(self.gpus):
            return f"there is no GPU {index}; found are {len(self.gpus)}: {', '.join(gpu.name for gpu in self.gpus)}"
        return self.gpus[index].problem


@functools.cache
def cuda_facts() -> CudaFacts:
    """Look once."""
    packages = {name: found for name in PACKAGES if (found := _version(name)) is not None}
    simulator = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")
    missing = [name for name in _NEEDED if name not in packages]
    if simulator:
        problem = None if "numba-cuda" in packages else f"numba-cuda is not installed: {INSTALL}"
        return CudaFacts(packages, simulator, (), problem, was_asked=False)
    if missing:  # nothing can run there, and asking the driver for GPUs starts CUDA in this process
        problem = f"{', '.join(missing)} not installed: {INSTALL}"
        return CudaFacts(packages, simulator, (), problem, was_asked=False)
    gpus, problem = _ask_driver()
    if problem is None and all(gpu.problem is not None for gpu in gpus):
        problem = "; ".join(f"{gpu.name}: {gpu.problem}" for gpu in gpus)
    return CudaFacts(packages, simulator, gpus, problem)


def driver_version() -> str | None:
    """The CUDA version that the installed driver is for, None without a driver. Does not start CUDA."""
    try:
        return _version_of(_load_driver())[1]
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _ask_driver() -> tuple[tuple[GpuFacts, ...], str | None]:
    """The driver's GPUs, and what is wrong."""
    try:
        library = _load_driver()
    except OSError:
        return (), f"no NVIDIA driver is installed ({_DRIVER} is missing)"
    _set_environment(library)
    code = library.cuInit(0)
    if code != 0:
        return (), f"the NVIDIA driver refuses (cuInit says {code}): is a GPU there, and visible to this process?"
    count = ctypes.c_int()
    library.cuDeviceGetCount(ctypes.byref(count))
    gpus = tuple(_ask_about(library, index) for index in range(count.value))
    if not gpus:
        return gpus, "the driver knows no GPU (CUDA_VISIBLE_DEVICES?)"
    number, version = _version_of(library)
    if number < _MINIMUM_DRIVER:
        return gpus, f"the driver is for CUDA {version}; the installed compiler needs 13.0 (driver 580 or newer)"
    return gpus, None


def _load_driver() -> Any:
    """The driver's library. Raises `OSError` without one."""
    return ctypes.CDLL(_DRIVER)


def _version_of(library: Any) -> tuple[int, str]:
    """The newest CUDA that a driver serves, as it says itself and as people write it."""
    number = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(number))  # it may be called before cuInit
    return number.value, f"{number.value // 1000}.{number.value % 1000 // 10}"


def _set_environment(library: Any) -> None:
    """Set what CUDA has to know before it starts: load kernels at once, since a load in the middle may wait behind one
    that keeps running; and as many hardware queues as there can be, since each running kernel takes one."""
    context = ctypes.c_void_p()
    if library.cuCtxGetCurrent(ctypes.byref(context)) != _NOT_INITIALIZED:
        logger.info("CUDA was started by others in this process: its settings are theirs")
        return
    for name, value in _SETTINGS.items():
        if os.environ.setdefault(name, value) == value:
            logger.info("%s=%s is set for this process", name, value)


def max_connections() -> int:
    """Hardware queues of this process: kernels that can run at the same time on a GPU."""
    text = os.environ.get("CUDA_DEVICE_MAX_CONNECTIONS", "")
    return min(int(text), 32) if text.isdecimal() and int(text) > 0 else 8


def _ask_about(library: Any, index: int) -> GpuFacts:
    device, text, value = ctypes.c_int(), ctypes.create_string_buffer(100), ctypes.c_int()
    library.cuDeviceGet(ctypes.byref(device), index)
    library.cuDeviceGetName(text, len(text), device)
    found = {}
    for name, number in _ATTRIBUTES.items():
        library.cuDeviceGetAttribute(ctypes.byref(value), number, device)
        found[name] = value.value
    cc = (found["major"], found["minor"])
    problem = None
    if cc < MINIMUM_CC:
        problem = f"compute capability {cc[0]}.{cc[1]} is below {MINIMUM_CC[0]}.{MINIMUM_CC[1]}"
    elif found["watchdog"]:
        problem = "it drives a display, and its watchdog would end a kernel that keeps running"
    elif not found["host_pointers"]:
        problem = "it cannot use the addresses of host memory"
    return GpuFacts(text.value.decode(), cc, found["multiprocessors"], problem)
