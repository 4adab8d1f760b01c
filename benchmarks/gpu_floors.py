"""What a GPU kernel is compared with: launch and synchronize, and a bare ping-pong over mapped memory."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numba import types
from numba.cuda import compiler

from ringkernel.codegen.operations import load, peek, poke, store_release, thread_index
from ringkernel.codegen.specialise import Specializer
from ringkernel.codegen.targets import cuda as target
from ringkernel.ring.host_api import host_api

STOP = -1
# words of the ping-pong: the host's turn, its payload; on the next lines the GPU's
PING, PAYLOAD, PONG, ANSWER = 0, 8, 128, 136


THREADS = 128


def double(address: int) -> None:
    """A batch over the threads of a block: a count, so many words, and room for as many results."""
    count = peek(address)
    i = thread_index()
    while i < count:
        poke(address + 8 * (1 + count + i), 2 * peek(address + 8 * (1 + i)))
        i += THREADS


def ping_pong(address: int) -> None:
    """Answer each new turn with twice the payload."""
    seen = 0
    while seen != STOP:
        turn = load(address + PING)
        if turn != seen:
            seen = turn
            poke(address + ANSWER, 2 * load(address + PAYLOAD))
            store_release(address + PONG, turn)


def compile_plain(function: Any, cc: tuple[int, int]) -> tuple[str, str]:
    """PTX and entry of a kernel of one thread over an address."""
    bound = Specializer(target.jit, target.operations()).rebind(function)
    with target.settings(cc, check=False):
        library, _ = compiler._compile_pyfunc_with_fixup(
            bound, types.void(types.int64), device=False, abi="numba", cc=cc
        )
    return library.get_asm_str(cc=cc), library._entry_name


def load_plain(function: Any, device: Any) -> Any:
    """The same, loaded."""
    from cuda.core import Linker, LinkerOptions, ObjectCode

    ptx, entry = compile_plain(function, device.cc)
    cubin = Linker(ObjectCode.from_ptx(ptx.encode()), options=LinkerOptions(arch=device.arch)).link("cubin")
    return cubin.get_kernel(entry)


def launch_and_synchronize(device: Any, memory: Any, count: int, rounds: int) -> list[float]:
    """Seconds per round: a launch over a batch of messages, and waiting for it."""
    from cuda.core import LaunchConfig, StreamOptions, launch

    kernel = load_plain(double, device)
    stream = device._device.create_stream(options=StreamOptions(nonblocking=True))
    config, address = LaunchConfig(grid=1, block=THREADS), np.int64(memory.address)
    words, times = memory.view(np.dtype(np.int64), 1 + 2 * count), []
    words[0] = count
    for i in range(rounds):
        words[1 : 1 + count] = i
        begin = time.perf_counter()
        launch(stream, config, kernel, address)
        stream.sync()
        times.append(time.perf_counter() - begin)
        assert (words[1 + count :] == 2 * i).all()
    return times


def bare_ping_pong(device: Any, memory: Any, rounds: int) -> list[float]:
    """Seconds per round: a turn with its payload there, the answer with its payload back."""
    from cuda.core import LaunchConfig, StreamOptions, launch

    kernel = load_plain(ping_pong, device)
    stream = device._device.create_stream(options=StreamOptions(nonblocking=True))
    words, api, times = memory.view(np.dtype(np.int64), 32), host_api(), []
    launch(stream, LaunchConfig(grid=1, block=1), kernel, np.int64(memory.address))
    try:
        for i in range(1, rounds + 1):
            words[PAYLOAD // 8] = i
            begin = time.perf_counter()
            api.write_word(memory.address + PING, i)
            while api.read_word(memory.address + PONG) != i:
                if time.perf_counter() - begin > 5:
                    raise TimeoutError("the ping-pong kernel does not answer")
            times.append(time.perf_counter() - begin)
            assert words[ANSWER // 8] == 2 * i
    finally:
        api.write_word(memory.address + PING, STOP)
    stream.sync()
    return times
