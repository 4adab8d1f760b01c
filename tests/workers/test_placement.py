"""Where busy kernels run: contiguous pieces of equal load, and no move that makes things worse stays; in simulated
time."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from placement_simulator import Machine, Stage, chain

from ringkernel.devices.cpu.balancer import MAX_WAIT_S
from ringkernel.devices.cpu.placement import Busy, arrange, chains, cuts, gathered, loads

US = 1e-6

# --- how kernels are arranged ----------------------------------------------------------------------------------------


def busy(*shares: float, place: int = 0) -> list[Busy]:
    return [Busy(i, place, share) for i, share in enumerate(shares)]


def row(count: int) -> dict[Any, list[Any]]:
    return {i: [i + 1] for i in range(count - 1)}


def placed(kernels: list[Busy], feeds: Any, places: int) -> list[Any]:
    layout = arrange(kernels, feeds, range(places))
    return [layout[kernel.key] for kernel in kernels]


@pytest.mark.parametrize(
    ("shares", "places", "expected"),
    [
        ([0.25] * 4, 2, [0, 0, 1, 1]),
        ([0.25] * 4, 1, [0, 0, 0, 0]),
        ([0.1, 0.1, 0.1, 0.6], 2, [1, 1, 1, 0]),
        ([0.6, 0.1, 0.1, 0.1], 2, [0, 1, 1, 1]),
        ([0.6, 0.1, 0.1, 0.1], 4, [0, 1, 1, 1]),  # further places would gain nothing
        ([0.125] * 8, 3, [0, 0, 0, 1, 1, 1, 2, 2]),
    ],
)
def test_a_chain_is_cut_into_contiguous_pieces_of_equal_load(shares: Any, places: int, expected: Any) -> None:
    assert placed(busy(*shares), row(len(shares)), places) == expected


def test_a_chain_that_fits_stays_together_beside_others() -> None:
    kernels = busy(0.2, 0.2, 0.2, 0.2, 0.2)
    where = placed(kernels, {0: [1], 2: [3], 3: [4]}, 2)
    assert where[0] == where[1] != where[2] == where[3] == where[4]


def test_what_is_where_it_should_be_does_not_move() -> None:
    kernels = [Busy(0, "b", 0.25), Busy(1, "b", 0.25), Busy(2, "a", 0.25), Busy(3, "a", 0.25)]
    assert arrange(kernels, row(4), ["a", "b"]) == {0: "b", 1: "b", 2: "a", 3: "a"}


def test_branches_stay_in_one_piece() -> None:
    """One kernel feeds two branches of two, and one reads both."""
    kernels = busy(0.1, 0.2, 0.2, 0.2, 0.2, 0.1)
    feeds: Any = {0: [1, 3], 1: [2], 2: [5], 3: [4], 4: [5]}
    where = placed(kernels, feeds, 2)
    assert sorted(loads([Busy(k.key, p, k.share) for k, p in zip(kernels, where, strict=True)]).values()) == [
        pytest.approx(0.5),
        pytest.approx(0.5),
    ]
    assert cuts(kernels, feeds, dict(enumerate(where))) == 2


def test_circles_have_an_order_too() -> None:
    (only,) = chains(busy(0.1, 0.1, 0.1), {0: [1], 1: [2], 2: [0]})
    assert [kernel.key for kernel in only] == [0, 1, 2]


def test_ten_thousand_light_kernels_are_halved() -> None:
    where = placed(busy(*[0.0001] * 10_000), {}, 2)
    assert abs(where.count(0) - where.count(1)) <= 200


def test_idle_kernels_stay() -> None:
    assert arrange([Busy("a", 3, 0.0)], {}, [1, 2]) == {"a": 3}


def test_chains_are_gathered_where_most_of_them_is() -> None:
    kernels = [Busy(0, 0, 0.1), Busy(1, 1, 0.05), Busy(2, 1, 0.1), Busy(3, 2, 0.1)]
    assert gathered(kernels, row(3)) == {0: 1, 1: 1, 2: 1, 3: 2}


shares = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6)


@given(shares, st.integers(1, 4))
def test_no_contiguous_cut_is_much_better(weights: list[float], places: int) -> None:
    where = placed(busy(*weights), row(len(weights)), places)
    changes = [a != b for a, b in itertools.pairwise(where)]
    assert sum(changes) == len(set(where)) - 1, "not contiguous"
    got = max(sum(w for w, p in zip(weights, where, strict=True) if p == place) for place in set(where))
    options = itertools.combinations_with_replacement(range(len(weights) + 1), places - 1)
    bounds = ((0, *inner, len(weights)) for inner in options)
    best = min(max(sum(weights[a:b]) for a, b in itertools.pairwise(bound)) for bound in bounds)
    assert got <= best * 1.051


@given(shares, st.integers(1, 3))
def test_independent_kernels_are_packed_well(weights: list[float], places: int) -> None:
    """MULTIFIT is within 1.22 of the best."""

    def greatest(layout: Any) -> float:
        return max(sum(w for w, p in zip(weights, layout, strict=True) if p == place) for place in set(layout))

    got = greatest(placed(busy(*weights), {}, places))
    best = min(greatest(layout) for layout in itertools.product(range(places), repeat=len(weights)))
    assert got <= 1.22 * 1.051 * best


# --- in simulated time -----------------------------------------------------------------------------------------------


def test_a_saturated_chain_of_four_is_cut_in_halves_where_the_loop_is_idle() -> None:
    machine = Machine(chain(*[1 * US] * 4), loop_cost=0.2 * US)
    alone = Machine(chain(*[1 * US] * 4), loop_cost=0.2 * US, balanced=False)
    assert machine.run(3) > 1.5 * alone.run(3)
    assert machine.layout == [0, 0, 1, 1]
    assert len(machine.trials) == 1


def test_a_chain_stays_together_where_the_loop_needs_the_other_core() -> None:
    """Three busy threads on two cores: 37 ms a round became 170."""
    stages, alone = chain(*[1 * US] * 4), chain(*[1 * US] * 4)
    machine, other = Machine(stages, loop_cost=1.8 * US), Machine(alone, loop_cost=1.8 * US, balanced=False)
    assert machine.run(5) >= 0.99 * other.run(5)
    assert machine.layout == [0, 0, 0, 0]


def test_a_chain_that_is_scattered_comes_together_when_the_loop_gets_busy() -> None:
    stages = chain(*[1 * US] * 4)
    for stage, place in zip(stages, [0, 1, 0, 1], strict=True):
        stage.place = place
    machine = Machine(stages, loop_cost=1.8 * US)
    machine.run(1)
    assert len(set(machine.layout)) == 1


def test_where_a_thread_too_many_costs_time_the_machine_of_these_tests_shows_it() -> None:
    def rate(*places: int) -> float:
        stages = chain(*[1 * US] * 4)
        for stage, place in zip(stages, places, strict=True):
            stage.place = place
        return Machine(stages, loop_cost=2 * US, balanced=False).run(3)

    assert rate(0, 1, 0, 1) < 0.9 * rate(0, 0, 0, 0)


def test_pieces_follow_the_costs() -> None:
    machine = Machine(chain(1 * US, 1 * US, 1 * US, 3 * US), loop_cost=0.2 * US)
    machine.run(2)
    assert machine.layout in ([0, 0, 0, 1], [1, 1, 1, 0])


def test_a_stage_that_becomes_dear_is_left_alone() -> None:
    machine = Machine(chain(*[1 * US] * 4), loop_cost=0.1 * US)
    machine.run(2)
    assert machine.layout == [0, 0, 1, 1]
    machine.stages[0].cost = 3 * US
    machine.run(5)
    assert machine.layout == [0, 1, 1, 1]


def test_four_workers_take_eight_stages_in_pairs() -> None:
    machine = Machine(chain(*[1 * US] * 8), cores=8, workers=4, loop_cost=0.05 * US)
    machine.run(3)
    assert machine.layout == [0, 0, 1, 1, 2, 2, 3, 3]


def test_fan_out_and_fan_in_are_halved() -> None:
    stages = [Stage(1 * US, (1, 2)), Stage(2 * US, (3,)), Stage(2 * US, (3,)), Stage(0.5 * US)]
    machine = Machine(stages, loop_cost=0.2 * US)
    machine.run(3)
    assert machine.layout[1] != machine.layout[2]


def test_independent_kernels_are_spread() -> None:
    stages = [Stage(2 * US) for _ in range(4)]
    machine = Machine(stages, sources=range(4), loop_cost=0.1 * US, cores=4, workers=3)
    alone = Machine([Stage(2 * US) for _ in range(4)], sources=range(4), loop_cost=0.1 * US, balanced=False)
    assert machine.run(3) > 1.7 * alone.run(3)
    assert max(machine.layout.count(place) for place in range(3)) == 2


@pytest.mark.long
def test_a_move_that_gains_nothing_is_undone_and_tried_again_ever_more_seldom() -> None:
    """Messages that come from another core take longer than what is gained by it."""
    machine, alone = far_apart(balanced=True), far_apart(balanced=False)
    got, floor = machine.run(100), alone.run(100)
    assert got >= 0.98 * floor
    assert machine.layout == [0, 0]
    begun, undone = machine.trials[::2], machine.trials[1::2]
    assert len(begun) == len(undone) >= 5
    assert all(end - start <= 0.6 for start, end in zip(begun, undone, strict=True))
    waits = [later - end for end, later in zip(undone, begun[1:], strict=False)]
    assert waits == pytest.approx([min(2.0**n, MAX_WAIT_S) for n in range(len(waits))], abs=0.3)


def far_apart(*, balanced: bool) -> Machine:
    stages = [Stage(1 * US, (1,)), Stage(1 * US, hop=1.5 * US)]
    return Machine(stages, loop_cost=0.1 * US, balanced=balanced)


@pytest.mark.long
def test_after_a_long_time_a_move_is_tried_soon_again() -> None:
    machine = far_apart(balanced=True)
    machine.run(5)
    machine.stages[1].hop = 0.0  # now it pays
    machine._place()
    machine.run(60)
    assert machine.layout == [0, 1]
    machine.loop_cost = 3 * US  # the loop wants its core back
    assert machine.run(1, lambda: machine.layout == [0, 0])
    machine.loop_cost = 0.1 * US
    machine.run(2)
    assert machine.layout == [0, 1]


def test_a_chain_with_little_to_do_comes_together_again() -> None:
    machine = Machine(chain(*[1 * US] * 4), loop_cost=0.1 * US)
    machine.run(2)
    assert machine.layout == [0, 0, 1, 1]
    for stage in machine.stages:
        stage.cost = 0.02 * US
    machine.loop_cost = 0.2 * US
    machine.run(5)
    assert len(set(machine.layout)) == 1


costs = st.lists(st.tuples(st.floats(0.2, 4.0), st.floats(0.0, 3.0)), min_size=1, max_size=6)


@settings(max_examples=20, deadline=None)
@given(costs, st.floats(0.02, 4.0), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2))
@example([(1.0, 0.0), (1.0, 3.0)], 0.02, 4, 4, 0)
@pytest.mark.long
def test_whatever_the_machine_a_chain_is_never_much_slower_than_on_one_worker(
    each: list[tuple[float, float]], loop_cost: float, cores: int, workers: int, neighbours: int
) -> None:
    def rate(workers: int) -> float:
        stages = chain(*[cost * US for cost, _ in each])
        for stage, (_, hop) in zip(stages, each, strict=True):
            stage.hop = hop * US
        return Machine(stages, cores, workers, loop_cost * US, neighbours).run(5)

    assert rate(workers) >= 0.85 * rate(1)
