"""A report for notebooks: one table, self-contained, that follows the notebook's own colours."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from .words import figure_of, footnotes, judged, mark_of, ratio, spread, target_of

if TYPE_CHECKING:
    from .model import Report, Row

_STYLE = {"met": "color:#2a7f3f", "missed": "color:#b35c00", "unknown": "opacity:.6", "": ""}
_HEAD = ("figure", "ringkernel", "beside it", "ratio", "quartiles", "target", "")


def report_html(report: Report) -> str:
    """The whole report."""
    from .summary import failures, summary

    notes = footnotes(report)
    lines = [f"<p><small>{escape(', '.join(report.machine.values()))}</small></p>", "<table>", _row(_HEAD, "th")]
    for case in report.cases:
        lines.append(f'<tr><td colspan="{len(_HEAD)}" style="text-align:left"><b>{escape(case.name)}</b> ')
        lines.append(f'<span style="opacity:.6">{escape(case.title)}</span></td></tr>')
        lines += [_line(row, notes) for row in case.rows]
    lines.append("</table>")
    lines += [f"<div><small>{mark} {escape(text)}</small></div>" for text, mark in notes.items()]
    lines += [f"<div><small>without {escape(n)}: {escape(why)}</small></div>" for n, why in report.missing.items()]
    lines += [f'<div style="{_STYLE["missed"]}">Warning: {escape(text)}</div>' for text in report.warnings]
    lines += [f'<div style="color:#c00"><b>WRONG</b>: {escape(text)}</div>' for text in failures(report)]
    lines.append(f"<p>{escape(summary(report))}</p>")
    return "\n".join(lines)


def _row(cells: tuple[str, ...], tag: str = "td") -> str:
    return "<tr>" + "".join(f'<{tag} style="text-align:left">{escape(cell)}</{tag}>' for cell in cells) + "</tr>"


def _line(row: Row, notes: dict[str, str]) -> str:
    if row.wrong:
        return _row((row.figure, "wrong", row.wrong, "", "", target_of(row), ""))
    beside = row.missing if row.beside is None else f"{figure_of(row.beside)} {row.beside.name}{mark_of(row, notes)}"
    cells = (row.figure, figure_of(row.ours), beside, ratio(row), spread(judged(row)), target_of(row))
    verdict = f'<td style="{_STYLE[row.verdict]}">{row.verdict}</td>'
    return _row(cells).removesuffix("</tr>") + verdict + "</tr>"
