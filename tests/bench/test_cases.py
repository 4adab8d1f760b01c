"""The command as a whole: cases in processes of their own, results that do not hold, wrong calls, an interrupt.

A test of function, never of speed: everything is scaled down to a few messages.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ringkernel.bench import Report, bench, runner
from ringkernel.bench.cases import CASES
from ringkernel.bench.model import CaseResult, Row, Series
from ringkernel.bench.process import Child
from ringkernel.bench.runner import Options
from ringkernel.bench.wrong_tool import INSTEAD
from ringkernel.cli import main
from ringkernel.errors import ConfigurationError, DeviceUnavailableError

TINY = ("--quick", "--rounds", "1", "--scale", "0.01", "--rivals", "none")


def ringkernel(*arguments: str, timeout: float = 110) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ringkernel.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.mark.parametrize("name", CASES)
def test_each_case_has_a_diagram_and_its_title(name: str) -> None:
    text = inspect.getdoc(CASES[name].function)
    assert text is not None
    assert text.splitlines()[0] == CASES[name].title
    assert any(line.startswith("    ") for line in text.splitlines()[1:]), "no diagram"


def test_ids_of_the_benchmark_are_nobody_elses() -> None:
    sources = [path.read_text() for path in Path(runner.__file__).parent.rglob("*.py")]
    found = [name for text in sources for name in re.findall(r'rk\.ring_kernel\((?:kernel_id=)?f?"([^"]*)"', text)]
    assert len(found) == sum(text.count("rk.ring_kernel(") for text in sources)
    assert [name for name in found if not name.startswith("bench.")] == []


def test_list_names_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(CASES)


def test_an_unknown_case_is_a_wrong_call_that_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--case", "nonsense"]) == 2
    error = capsys.readouterr().err
    assert "no case 'nonsense'" in error
    assert all(name in error for name in CASES)


def test_a_device_that_is_not_there_is_said_in_the_runtimes_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DeviceUnavailableError) as unavailable:
        runner.check_device("cuda")
    assert main(["bench", "--case", "map", "--device", "cuda"]) == 2
    assert str(unavailable.value) in capsys.readouterr().err


def test_figures_of_the_cpu_are_not_taken_for_another_devices() -> None:
    with pytest.raises(ConfigurationError, match="launched on 'auto', but the cases measure only the CPU"):
        runner.check_device("auto")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"rounds": 0}, "1 round or more"),
        ({"scale": 0.0}, "a finite scale above 0"),
        ({"rivals": "some"}, "none, default, all"),
    ],
)
def test_options_out_of_their_range(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        bench("map", **options)


def test_a_report_of_another_kind_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.json").write_text("{}")
    assert main(["bench", "--case", "map", "--compare", str(tmp_path / "old.json")]) == 2
    assert "old.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        (["--json", "nowhere/new.json"], "No such file or directory: 'nowhere/new.json'"),
        (["--json", "."], "Is a directory: '.'"),
        (["--json", ""], "No such file or directory: ''"),
        (["--case", "saxpy", "--plot", "nowhere/new.png"], "No such file or directory: 'nowhere/new.png'"),
        (["--plot", "new.png"], "nothing to plot: only ring_one_way"),
        (["--case", "saxpy", "--plot", "new.svg"], "'new.svg' is the name of something else; pictures are PNG"),
        (["--compare", "old.json"], "old.json: this is no report"),
        (["--compare", "nowhere.json"], "nowhere.json: cannot be read"),
        (["--scale", "nan"], "a finite scale above 0"),
        (["--scale", "inf"], "a finite scale above 0"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_runs(
    option: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(*_: Any) -> Any:
        raise AssertionError("it has begun to measure")

    monkeypatch.setattr(runner, "run_case", measured)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.json").write_text('{"kind": "another"}')
    assert main(["bench", "--case", "map", *option]) == 2
    err = capsys.readouterr().err
    assert reason in err
    assert err.startswith("ringkernel")
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]


def test_wrong_settings_are_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RINGKERNEL_CACHE_SIZE", "much")
    assert main(["bench", "--case", "map", *TINY]) == 2
    assert "RINGKERNEL_CACHE_SIZE is 'much'; it must be" in capsys.readouterr().err


def test_a_saved_report_without_pictures_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Report("", {}, {"cpu": "one"}, ()).save(tmp_path / "empty.json")
    assert main(["bench", "--from", str(tmp_path / "empty.json"), "--plot", str(tmp_path / "new.png")]) == 2
    assert "--plot: there is nothing to plot" in capsys.readouterr().err


def test_the_json_is_there_although_nobody_reads_the_table(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    saved, new = Path(__file__).parent.parent.parent / "benchmarks" / "results" / "quick.json", tmp_path / "new.json"
    with os.fdopen(writing, "w") as nobody:
        done = subprocess.run(
            [sys.executable, "-m", "ringkernel.cli", "bench", "--from", str(saved), "--json", str(new)],
            stdout=nobody, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 141
    assert Report.load(new) == Report.load(saved)


def test_what_a_case_says_and_is_no_number_is_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    rate = Row("r", "figure", Series("ringkernel", "M/s", (math.inf,)))
    answer = {"result": asdict(CaseResult("map", "title", (rate,))), "about": {}, "missing": {}}
    monkeypatch.setattr(Child, "answer", lambda *_: answer)
    options = Options(budget=runner.budget_of(full=False, rounds=1, scale=0.01), rivals="none").checked()
    result = runner.run_case("map", options, lambda *_: None).result
    assert result.error == "its answer.result.rows[0].ours.values[0] is inf: Input should be a finite number"


@pytest.mark.parametrize("module", ["rich", "hdrh", "pydantic"])
def test_without_the_extra_it_says_how_to_install_it(module: str) -> None:
    script = (
        f"import sys; sys.modules[{module!r}] = None\n"
        f"from ringkernel.cli import main; sys.exit(main(['bench', *sys.argv[1:]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "--case", "map", *TINY], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.strip().endswith('pip install ".[bench]" in the checkout')
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_cases_of_the_first_promises_run_and_hold(tmp_path: Path) -> None:
    saved = tmp_path / "report.json"
    options = ("--case", "latency", "--case", "batch", "--json", str(saved))
    done = ringkernel("bench", *TINY, *options, timeout=200)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert all(case.holds for case in Report.load(saved).cases)


@pytest.mark.long
@pytest.mark.timeout(400)  # a process each, which compiles what is not in the cache
def test_every_case_runs_and_holds(tmp_path: Path) -> None:
    """All of them, scaled down, in one run; that their results were right is what the exit code says."""
    done = ringkernel(
        "bench", *TINY, "--json", str(tmp_path / "all.json"), "--plot", str(tmp_path / "all.png"), timeout=380
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    report = Report.load(tmp_path / "all.json")
    assert [case.name for case in report.cases] == list(CASES)
    assert all(case.rows and not case.error for case in report.cases)
    assert all(row.ours.values for case in report.cases for row in case.rows)
    keys = [(case.name, row.key) for case in report.cases for row in case.rows]
    assert len(set(keys)) == len(keys)
    assert INSTEAD.keys() - set(keys) == {("ewma", "one by one-csp")}, "a rival's row, and no other, needs one"
    assert sum(case.compile_s for case in report.cases) > 0
    (pauses,) = next(case for case in report.cases if case.name == "pause").notes
    assert re.fullmatch(r"[1-9]\d* of \d+ pauses came while the kernel was at work, with .* messages waiting", pauses)
    assert (tmp_path / "all.png").stat().st_size > 10_000
    again = ringkernel("bench", "--from", str(tmp_path / "all.json"), "--compare", str(tmp_path / "all.json"))
    assert again.returncode == 0
    assert f"{len(keys)} within noise" in again.stdout


def run_sabotaged(change: str, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with a `sitecustomize` that changes what the case's process imports."""
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(change))
    return subprocess.run(
        [sys.executable, "-m", "ringkernel.cli", "bench", *TINY, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )


@pytest.mark.long
def test_a_result_that_is_wrong_marks_its_row_and_the_others_go_on(tmp_path: Path) -> None:
    change = """
        import sys
        if "ringkernel.bench.child" in sys.orig_argv:
            import ringkernel.bench.floors as floors
            floors.plain_loop = lambda records: records.copy()  # not scaled
    """
    saved = tmp_path / "report.json"
    done = run_sabotaged(change, tmp_path, "--case", "map", "--case", "coroutine", "--json", str(saved))
    assert done.returncode == 1
    assert "WRONG: map: map of 30,000 records of 16 B: plain loop: the plain loop brought something else" in done.stdout
    report = Report.load(saved)
    assert report.row("map", "loop").wrong
    assert not report.row("map", "memcpy").wrong
    assert report.cases[1].holds


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise ZeroDivisionError('by hand')", "ZeroDivisionError: by hand"),
        ("import os; os._exit(7)", "its process ended with status 7"),
    ],
)
@pytest.mark.long
def test_a_case_that_breaks_is_reported_and_the_others_go_on(body: str, reason: str, tmp_path: Path) -> None:
    change = f"""
        import sys
        if "ringkernel.bench.child" in sys.orig_argv:
            import ringkernel.bench.cases.arrays as arrays
            async def run(bench):
                {body}
            arrays.map = run
    """
    saved = tmp_path / "report.json"
    done = run_sabotaged(change, tmp_path, "--case", "map", "--case", "coroutine", "--json", str(saved))
    assert done.returncode == 1
    assert reason in json.loads(saved.read_text())["cases"][0]["error"]
    assert Report.load(saved).cases[1].holds


@pytest.mark.long
def test_a_pause_of_a_kernel_that_is_not_at_work_does_not_count(tmp_path: Path) -> None:
    change = """
        import sys
        if "ringkernel.bench.child" in sys.orig_argv:
            import ringkernel.bench.cases.lifecycle as lifecycle
            lifecycle.BACKLOG = 1  # nothing is left once it has begun
    """
    saved = tmp_path / "report.json"
    done = run_sabotaged(change, tmp_path, "--case", "pause", "--json", str(saved))
    assert done.returncode == 1
    report = Report.load(saved)
    assert report.row("pause", "pause").wrong == "ringkernel: no pause came while the kernel was at work"
    assert report.cases[0].notes[0].startswith("0 of ")
    assert report.row("pause", "resume").ours.values


def test_a_case_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    options = runner.Options(cases=("latency",), case_deadline_s=0.2, rivals="none").checked()
    answer = runner.run_case("latency", options, lambda _case, _done, _total: None)
    assert answer.result.error == "did not end within 0.2 s"


def test_bench_returns_a_report_that_draws_itself() -> None:
    report = bench("map", rounds=1, scale=0.01, rivals="none")
    assert report.holds
    assert [case.name for case in report.cases] == ["map"]
    assert "map of 30,000 records" in report._repr_html_()
    assert isinstance(report, Report)


@pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups of POSIX")
def test_an_interrupt_ends_everything(tmp_path: Path) -> None:
    """While a case runs; its process, and what that has started, are gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ringkernel.cli", "bench", "--case", "idle", "--rivals", "none"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        process.communicate()
        pytest.skip("this system does not list a process's children")
    child = wait_for_child(children, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "")
    assert not Path(f"/proc/{child}").exists()


def wait_for_child(children: Path, process: subprocess.Popen[str]) -> int:
    import time

    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        for child in children.read_text().split():
            with contextlib.suppress(FileNotFoundError):  # it was another one, and is over
                if b"ringkernel.bench.child" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
        time.sleep(0.01)
    raise AssertionError("no case was started")
