"""What is drawn of a report: table, HTML, pictures, README."""

from __future__ import annotations

import dataclasses
import io
import re
from html import unescape
from pathlib import Path

import pytest
from reports import case, full_report, report, row
from rich.console import Console

import ringkernel.bench
from ringkernel.bench import page, plots
from ringkernel.bench.compare import print_comparison
from ringkernel.bench.model import Report, Series, at_least
from ringkernel.bench.table import NotebookReport, print_report
from ringkernel.bench.words import footnotes, number

ROOT = Path(__file__).parent.parent.parent


def printed(shown: Report, width: int = 160) -> str:
    text = io.StringIO()
    print_report(shown, Console(file=text, width=width))
    return text.getvalue()


def html_of(shown: Report) -> str:
    return NotebookReport(**vars(shown))._repr_html_()


def test_numbers_have_three_digits() -> None:
    assert [number(x) for x in (0.012345, 1.2345, 12.345, 123.45, 12345.6)] == [
        "0.0123",
        "1.23",
        "12.3",
        "123",
        "12,346",
    ]


def test_the_table_says_everything() -> None:
    text = printed(full_report())
    for fact in ("A processor", "figure p50", "8.5x", "≥ 8 x met", "≤ 50 M/s missed", "≥ 1 x unknown"):
        assert fact in text
    for fact in ("C++ ring: no compiler", "2 cores: few", "without Ray", "PyDotCompute 0.2.0", "nothing was cached"):
        assert fact in text
    assert "6 cases in 12 s, of which 2 s compiling; targets: 1 met, 1 missed, 1 unknown." in text


def test_a_row_that_is_not_like_for_like_carries_a_mark_and_a_footnote() -> None:
    text = printed(full_report())
    assert footnotes(full_report()) == {"another thread": "*"}
    assert re.search(r"33 M/s plain loop \*", text)
    assert "* another thread" in text


def test_a_noisy_row_is_marked() -> None:
    assert "~" in printed(report(case(row(beside=(1.0, 3.0, 2.0)))))
    assert "~" not in printed(report())


def test_a_narrow_terminal_gets_fewer_columns_and_no_longer_lines() -> None:
    text = printed(full_report(), width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "quartiles" not in text
    assert "missed" in text
    assert "quartiles" in printed(full_report())


def test_a_wrong_result_is_said_aloud() -> None:
    bad = dataclasses.replace(row(), ours=Series("ringkernel", "M/s", (), "sum [1] is 3"))
    text = printed(report(case(bad), case(name="send", error="did not end within 3 s")))
    assert "WRONG: map: figure loop: ringkernel: sum [1] is 3" in text
    assert "WRONG: send: did not end within 3 s" in text
    assert "NOT every result held" in text


def test_comparison_shows_what_changed() -> None:
    old = report(case(row("slower", ours=[10.0] * 3), row("same")))
    new = report(case(row("slower", ours=[5.0] * 3), row("same")), machine={**old.machine, "cpu": "Another"})
    text = io.StringIO()
    print_comparison(old, new, Console(file=text, width=160))
    assert re.search(r"figure slower.*ratio.*1\s+0.5\s+-50 %.*worse", text.getvalue())
    assert "figure same" not in text.getvalue()
    assert "1 worse, 1 within noise" in text.getvalue()
    assert "cpu: A processor then, Another now" in text.getvalue()


def test_texts_are_no_markup() -> None:
    odd = dataclasses.replace(row("[/]"), ours=Series("[bold", "[/b]", (1.0,)), beside=Series("[red]", "[/b]", (2.0,)))
    shown = report(
        case(odd, name="[/case]", notes=("[/note]",), error="[/error]"),
        machine={"[/cpu]": "[/value]"}, created="[/when]", warnings=("[/warning]",),
    )  # fmt: skip
    text = printed(shown)
    for part in ("figure [/]", "[/b] [red]", "[/case]", "[/note]", "[/error]", "[/cpu]", "[/value]", "[/warning]"):
        assert part in text
    compared = io.StringIO()
    print_comparison(shown, report(case(row("[/]"), name="[/case]")), Console(file=compared, width=160))
    assert "[/when]" in compared.getvalue()
    assert "figure [/]" in compared.getvalue()


def test_a_report_of_nothing() -> None:
    assert "0 cases" in printed(Report("", {}, {}, ()))


def test_html_for_notebooks() -> None:
    bad = dataclasses.replace(row("<b>"), ours=Series("ringkernel", "M/s", (), "a < b"))
    html = html_of(report(case(bad, row(target=at_least(0.5)), name="map")))
    for fact in ("A processor", "title of map", "1x", "met", "figure &lt;b&gt;", "a &lt; b", "WRONG"):
        assert fact in html


def test_html_says_what_the_table_says() -> None:
    html = html_of(full_report())
    told = [line.rstrip() for line in unescape(re.sub("<[^>]+>", "", html)).splitlines()]
    titles = [f"{case.name:12}  {case.title}" for case in full_report().cases]
    assert told == titles + [line.rstrip() for line in printed(full_report(), width=150).splitlines()]


def test_a_report_does_not_draw_itself_unless_a_notebook_asks(tmp_path: Path) -> None:
    full_report().save(tmp_path / "saved.json")
    assert not hasattr(Report, "_repr_html_")
    assert "8.5x" in ringkernel.bench.Report.load(tmp_path / "saved.json")._repr_html_()


def test_pictures(tmp_path: Path) -> None:
    figure = plots.figure_of(full_report())
    batches, latencies, kernels, chain = figure.axes
    assert batches.get_xscale() == batches.get_yscale() == "log"
    labels = [text.get_text() for text in batches.get_legend().get_texts()]
    assert sorted(labels) == [
        "C++ ring, one by one, 1,024 slots",
        "C++ ring, one by one, 65,536 slots",
        "ringkernel, 1,024 slots",
        "ringkernel, 65,536 slots",
    ]
    assert [line.get_label() for line in latencies.lines] == ["ringkernel", "PyDotCompute", "ringkernel at 10,000/s"]
    assert list(latencies.lines[0].get_xdata()) == pytest.approx([1, 2, 10, 100, 1000])
    assert latencies.lines[0].get_ydata()[0] == 1.0  # microseconds
    assert list(kernels.lines[0].get_xdata()) == [1, 8, 100, 10_000]
    assert list(chain.lines[0].get_ydata()) == pytest.approx([0.8] * 4)
    plots.save(full_report(), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_of_one_case_and_of_none() -> None:
    (saxpy,) = [found for found in full_report().cases if found.name == "saxpy"]
    assert len([axes for axes in plots.figure_of(report(saxpy)).axes if axes.axison]) == 1
    with pytest.raises(plots.NothingToPlotError, match="none of ring_one_way, latency, many, saxpy"):
        plots.figure_of(report())


def test_the_page_is_in_step_with_the_results_that_it_quotes() -> None:
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    results = Report.load(ROOT / page.RESULTS)
    assert page.put(text, page.section(results, f"../{page.RESULTS.as_posix()}")) == text
    assert results.holds
    measured = [name for name in page.LINES if results.case(name[0])]  # later cases come with the next run
    assert len(page.quoted(results)) >= len(measured) - 2  # the machine may lack a compiler or a rival


def test_a_launch_without_a_cache_is_not_quoted_as_a_cached_one() -> None:
    launch = case(row("cached"), name="launch")
    assert page.quoted(report(launch)) == [("launch", "cached")]
    assert page.quoted(report(dataclasses.replace(launch, notes=("there is no cache",)))) == []


def test_the_section_is_put_between_its_comments(tmp_path: Path) -> None:
    target, results, promises = tmp_path / "README.md", tmp_path / "results.json", tmp_path / "promises.md"
    promises.write_text("| fast | `a.py::b` | latency/p50: 9 ns |\n| sure | `a/b.py::c` | |\n", encoding="utf-8")
    target.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n", encoding="utf-8")
    full_report().save(results)
    assert page.main([str(results), str(target), str(promises)]) == 0
    quoted = promises.read_text(encoding="utf-8")
    assert quoted == "| fast | `a.py::b` | latency/p50: 2 M/s |\n| sure | `a/b.py::c` | |\n"
    text = target.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{page.BEGIN}\nMeasured by")
    assert text.endswith(f"{page.END}\nafter\n")
    assert "old" not in text
    assert "| 2 M/s | plain loop: 17 M/s | 8.5x | ≥ 8 x: met |" in text
    with pytest.raises(page.OutOfPlaceError, match="bench:begin"):
        page.put("nothing", "text")
