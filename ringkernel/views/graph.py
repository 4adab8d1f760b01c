"""A runtime's kernels and connections as SVG, in the page's own colours.

Layers from left to right by the longest way from a source, without crossing reduction: the first step of Sugiyama,
Tagawa and Toda, "Methods for visual understanding of hierarchical system structures" (1981). Connections that close a
circle are drawn backwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from .numbers import amount, share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .view import KernelView, RuntimeView, WaitView

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y = 150, 44, 56, 18
_COLOURS = {"ACTIVE": "#2e9f5b", "DEACTIVATED": "#c58f00", "LAUNCHED": "#2c8fb5"}
_FAILED, _OTHER = "#d04040", "#808080"


def svg_of(view: RuntimeView) -> str:
    """Return the graph: each kernel a box with its id, its state in a word and a colour, and how full its input is."""
    layers = _layers({kernel.kernel_id: kernel.targets for kernel in view.kernels})
    rows: dict[int, int] = {}
    places: dict[str, tuple[int, int]] = {}
    for kernel_id, layer in layers.items():
        row = rows[layer] = rows.get(layer, -1) + 1
        places[kernel_id] = layer * (_WIDTH + _GAP_X) + 1, row * (_HEIGHT + _GAP_Y) + 1
    width = max((x for x, _ in places.values()), default=0) + _WIDTH + 2
    height = max((y for _, y in places.values()), default=0) + _HEIGHT + 2
    size = {"width": str(width), "height": str(height), "viewBox": f"0 0 {width} {height}"}
    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "font-size": "12", **size})
    svg.set("font-family", "ui-monospace, Menlo, monospace")
    ET.SubElement(svg, "title").text = _described(view.kernels)
    kernels = {kernel.kernel_id: kernel for kernel in view.kernels}
    for kernel in view.kernels:
        for target in kernel.targets:
            if target in places:
                _connect(svg, kernel, kernels[target], places)
    for kernel in view.kernels:
        _draw(svg, kernel, *places[kernel.kernel_id])
    return ET.tostring(svg, encoding="unicode")


def _layers(targets: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the layer of each kernel: one more than that of the last kernel that feeds it."""
    layers = dict.fromkeys(targets, 0)
    for _ in targets:  # the longest way has no more steps; circles end here
        for source, fed in targets.items():
            for target in fed:
                if target in layers and layers[target] <= layers[source] < len(layers) - 1:
                    layers[target] = layers[source] + 1
    used = sorted(set(layers.values()))
    return {kernel_id: used.index(layer) for kernel_id, layer in layers.items()}


def _described(kernels: Sequence[KernelView]) -> str:
    return "; ".join(
        f"{kernel.kernel_id} is {kernel.state}" + (f" and feeds {', '.join(kernel.targets)}" if kernel.targets else "")
        for kernel in kernels
    )


def _connect(svg: ET.Element, source: KernelView, target: KernelView, places: Mapping[str, tuple[int, int]]) -> None:
    """An arrow; a thick one with the share of the time that the source waits for room there, if that counts. Both
    shares are in its title."""
    left, right = places[source.kernel_id], places[target.kernel_id]
    x, y = left[0] + _WIDTH, left[1] + _HEIGHT // 2
    to_x, to_y = right[0], right[1] + _HEIGHT // 2
    bend = _GAP_X // 2
    blocked, starved = _share_of(source.blocked_by, target), _share_of(target.starved_by, source)
    is_slow = target.kernel_id in source.held_up_by
    line = {"stroke": _FAILED, "stroke-width": "3"} if is_slow else {"stroke": "currentColor", "stroke-opacity": "0.6"}
    path = f"M{x},{y} C{x + bend},{y} {to_x - bend},{to_y} {to_x},{to_y}"
    drawn = ET.SubElement(svg, "path", {"d": path, "fill": "none", **line})
    waits = [f"{source.kernel_id} waits for room {share(blocked)} of the time"] if blocked else []
    waits += [f"{target.kernel_id} waits for messages {share(starved)} of the time"] if starved else []
    if waits:
        ET.SubElement(drawn, "title").text = "; ".join(waits)
    tip = f"M{to_x - 6},{to_y - 4} L{to_x},{to_y} L{to_x - 6},{to_y + 4}"
    ET.SubElement(svg, "path", {"d": tip, "fill": "none", "stroke": "currentColor"})
    if is_slow:
        _write(svg, (x + to_x) // 2 - 12, (y + to_y) // 2 - 6, share(blocked))


def _share_of(waits: Sequence[WaitView], kernel: KernelView) -> float | None:
    """Return the share of the time in which this kernel was waited for."""
    return next((wait.share for wait in waits if wait.kernel_id == kernel.kernel_id), None)


def _draw(svg: ET.Element, kernel: KernelView, x: int, y: int) -> None:
    colour = _FAILED if kernel.error is not None else _COLOURS.get(kernel.state, _OTHER)
    box = {"x": str(x), "y": str(y), "width": str(_WIDTH), "height": str(_HEIGHT), "rx": "5"}
    ET.SubElement(svg, "rect", {**box, "fill": colour, "fill-opacity": "0.12", "stroke": colour, "stroke-width": "1.5"})
    name = kernel.kernel_id if len(kernel.kernel_id) <= 18 else kernel.kernel_id[:17] + "…"
    _write(svg, x + 8, y + 17, name, weight="bold")
    state = "FAILED" if kernel.error is not None else kernel.state
    rate = "" if kernel.rate is None or kernel.state != "ACTIVE" else f" {amount(kernel.rate)}/s"
    _write(svg, x + 8, y + 33, state + rate)
    if kernel.waiting.depth:
        bar = {"x": str(x), "y": str(y + _HEIGHT - 4), "height": "4", "fill": colour}
        ET.SubElement(svg, "rect", {**bar, "width": f"{kernel.waiting.fill * _WIDTH:.0f}"})


def _write(svg: ET.Element, x: int, y: int, text: str, *, weight: str = "normal") -> None:
    where = {"x": str(x), "y": str(y), "fill": "currentColor", "font-weight": weight}
    ET.SubElement(svg, "text", where).text = text
