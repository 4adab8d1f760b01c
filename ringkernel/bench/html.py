"""A report for notebooks: what the terminal shows, as HTML that rich writes."""

from __future__ import annotations

import io
from dataclasses import fields
from typing import Self

from rich.console import Console

from .model import Report
from .table import print_report

WIDTH = 150
PAGE = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace">{code}</pre>'
"""Without the page that rich puts around it: the notebook has one, with its own colours."""


class NotebookReport(Report):
    """A report that notebooks draw."""

    @classmethod
    def of(cls, report: Report) -> Self:
        """The same report."""
        return cls(**{field.name: getattr(report, field.name) for field in fields(report)})

    def _repr_html_(self) -> str:
        return report_html(self)


def report_html(report: Report) -> str:
    """The whole report."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_jupyter=False)
    print_report(report, console)
    return console.export_html(code_format=PAGE, inline_styles=True)
