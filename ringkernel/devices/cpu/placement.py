"""Decides where busy kernels should run, so that the busiest place has as little to do as possible. Pure: no clock, no
threads.

A **chain** is a group of connected kernels, sources before targets. It stays in one place while it fits there; one that
is too much for a place is cut into contiguous pieces of about equal load, each in a place of its own. Whole chains and
pieces are packed into places by MULTIFIT (Coffman, Garey, Johnson 1978: first fit decreasing, with the smallest limit
that works). A place is anything that runs kernels, one core's worth of them: a worker.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    Key: TypeAlias = Hashable
    Place: TypeAlias = Hashable
    Layout: TypeAlias = dict[Key, Place]
    Chain: TypeAlias = "list[Busy]"
    Feeds: TypeAlias = Mapping[Key, Sequence[Key]]  # whom each kernel feeds

_HALVINGS = 16
_CRUMB, _BUNDLE = 0.01, 1_000
"""Chains of less than this share of a core are packed in bundles, of so many kernels at most: ten thousand of them are
no more to pack than a hundred."""
_NEAR = 1.05
"""Places that lower the greatest load by less are not used."""


@dataclass(frozen=True, slots=True)
class Busy:
    """One kernel over a period: where it ran, the share of a core that it took, and messages a second; `waiting` are in
    its inputs."""

    key: Key
    place: Place
    share: float
    rate: float = 0.0
    waiting: int = 0


def chains(kernels: Sequence[Busy], feeds: Feeds) -> list[Chain]:
    """Connected kernels together, each group with sources before targets and branches in one piece. In a circle, any
    kernel may be the first."""
    by_key = {kernel.key: kernel for kernel in kernels}
    targets = {key: [t for t in feeds.get(key, ()) if t in by_key] for key in by_key}
    sources: dict[Key, list[Key]] = defaultdict(list)
    for key, fed in targets.items():
        for target in fed:
            sources[target].append(key)
    seen: set[Key] = set()
    result = []
    for key in by_key:
        if key not in seen:
            group = _reachable(key, lambda k: targets[k] + sources[k], seen)
            result.append([by_key[k] for k in _sources_first(group, targets, sources)])
    return result


def _reachable(start: Key, neighbours: Any, seen: set[Key]) -> list[Key]:
    """`start` and what can be reached from it and has not been seen, in order of discovery."""
    seen.add(start)
    found = [start]
    for key in found:  # grows
        for other in neighbours(key):
            if other not in seen:
                seen.add(other)
                found.append(other)
    return found


def _sources_first(group: list[Key], targets: dict[Key, list[Key]], sources: dict[Key, list[Key]]) -> list[Key]:
    """A topological order (Kahn 1962) that follows a branch to its end before it takes the next."""
    missing = {key: len(sources[key]) for key in group}
    ready = [key for key in reversed(group) if missing[key] == 0]
    left = dict.fromkeys(group)
    order = []
    while left:
        key = ready.pop() if ready else next(iter(left))  # the latter: a circle
        if key not in left:
            continue
        del left[key]
        order.append(key)
        for target in reversed(targets[key]):
            missing[target] -= 1
            if missing[target] == 0:
                ready.append(target)
    return order


def load(kernels: Sequence[Busy]) -> float:
    """The share of a core that they take together."""
    return sum(kernel.share for kernel in kernels)


def loads(kernels: Sequence[Busy]) -> dict[Place, float]:
    """The load of each place."""
    result: dict[Place, float] = defaultdict(float)
    for kernel in kernels:
        result[kernel.place] += kernel.share
    return dict(result)


def arrange(kernels: Sequence[Busy], feeds: Feeds, places: Sequence[Place]) -> Layout:
    """Return where each kernel should run: in as few of these places as bring the greatest load down, with few
    moves."""
    groups = _bundled(chains([kernel for kernel in kernels if kernel.share > 0], feeds))
    if not groups:
        return {kernel.key: kernel.place for kernel in kernels}
    best, bins = _packed(groups, len(places))
    for count in range(max(1, int(load(kernels) / (best * _NEAR))), len(places)):
        limit, fewer = _packed(groups, count)
        if limit <= best * _NEAR:
            bins = fewer
            break
    return {kernel.key: kernel.place for kernel in kernels} | _assigned(bins, places)


def gathered(kernels: Sequence[Busy], feeds: Feeds) -> Layout:
    """Each chain in one place: that in which most of it is."""
    layout: Layout = {}
    for chain in chains(kernels, feeds):
        heaviest = max(loads(chain).items(), key=lambda item: item[1])[0]
        layout.update((kernel.key, heaviest) for kernel in chain)
    return layout


def moved(kernels: Sequence[Busy], layout: Layout) -> Layout:
    """Those that a layout has elsewhere."""
    return {kernel.key: layout[kernel.key] for kernel in kernels if layout[kernel.key] != kernel.place}


def cuts(kernels: Sequence[Busy], feeds: Feeds, layout: Layout | None = None) -> int:
    """Return how often one kernel feeds another in a different place."""
    where = layout or {kernel.key: kernel.place for kernel in kernels}
    return sum(where[key] != where[target] for key in where for target in feeds.get(key, ()) if target in where)


def _bundled(groups: list[Chain]) -> list[Chain]:
    """Light chains of the same place together, as if they were one."""
    result: list[Chain] = []
    open_bundles: dict[Place, Chain] = {}
    for chain in groups:
        place = chain[0].place
        if load(chain) >= _CRUMB or any(kernel.place != place for kernel in chain):
            result.append(chain)
            continue
        bundle = open_bundles.setdefault(place, [])
        bundle.extend(chain)
        if len(bundle) >= _BUNDLE or load(bundle) >= _CRUMB:
            result.append(open_bundles.pop(place))
    return result + list(open_bundles.values())


def _packed(groups: list[Chain], count: int) -> tuple[float, list[list[Chain]]]:
    """The lowest limit with which `count` bins take all, and what is in them."""
    total = sum(load(chain) for chain in groups)
    low, high, bins = total / count, total, [groups]
    for _ in range(_HALVINGS):
        limit = (low + high) / 2
        found = _first_fit(groups, limit, count)
        if found is None:
            low = limit
        else:
            high, bins = limit, found
    return max(sum(load(chain) for chain in content) for content in bins), bins


def _first_fit(groups: list[Chain], limit: float, count: int) -> list[list[Chain]] | None:
    """The heaviest first, each in the first bin with room; no bin has two pieces of a chain. None if that fails."""
    pieces = [(load(piece), index, piece) for index, chain in enumerate(groups) for piece in _pieces(chain, limit)]
    pieces.sort(key=lambda item: (-item[0], item[1]))
    room = [limit] * count
    bins: list[list[Chain]] = [[] for _ in room]
    has: list[set[int]] = [set() for _ in room]
    for weight, index, piece in pieces:
        fitting = (i for i in range(count) if room[i] >= weight and index not in has[i])
        chosen = next(fitting, None)
        if chosen is None:
            return None
        room[chosen] -= weight
        has[chosen].add(index)
        bins[chosen].append(piece)
    return bins


def _pieces(chain: Chain, limit: float) -> list[Chain]:
    """A chain in contiguous pieces, each up to the limit or of one kernel."""
    pieces: list[Chain] = []
    room = 0.0
    for kernel in chain:
        if not pieces or kernel.share > room:
            pieces.append([])
            room = limit
        pieces[-1].append(kernel)
        room -= kernel.share
    return pieces


def _assigned(bins: list[list[Chain]], places: Sequence[Place]) -> Layout:
    """Each bin to the place in which most of it is already."""
    contents = [[kernel for chain in content for kernel in chain] for content in bins]
    there = [(load_, i, place) for i, content in enumerate(contents) for place, load_ in loads(content).items()]
    there.sort(key=lambda item: -item[0])
    of_bin: dict[int, Place] = {}
    for _, i, place in there:
        if i not in of_bin and place in places and place not in of_bin.values():
            of_bin[i] = place
    free = (place for place in places if place not in of_bin.values())
    layout: Layout = {}
    for i, content in enumerate(contents):
        if content:
            place = of_bin[i] if i in of_bin else next(free)
            layout.update((kernel.key, place) for kernel in content)
    return layout
