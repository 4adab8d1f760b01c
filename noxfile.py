"""The tests on every Python: `nox`, or `nox -s tests-3.12 -- tests/behaviour`. A missing interpreter is skipped."""

import nox

nox.needs_version = ">=2024.10.9"
nox.options.error_on_missing_interpreters = False


@nox.session(python=["3.11", "3.12", "3.13", "3.14"], venv_backend="venv")
def tests(session: nox.Session) -> None:
    """Everything that `make test-all` runs, or what is named after `--`."""
    groups = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "test")
    session.install("-e", ".", *groups)
    session.run("python", "-m", "pytest", "--ignore", "tests/project/test_notebooks.py", *session.posargs)
