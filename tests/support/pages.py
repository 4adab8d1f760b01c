"""The pages that a user reads, and what is in their fenced blocks."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = [
    *(ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING", "SECURITY")),
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "/_" not in path.as_posix()),  # as the site's copies are
]
ONE_SCRIPT = ("docs/tutorial.md",)
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in FILES}


def blocks(language: str) -> dict[str, str]:
    """The fenced blocks of all pages, by page and number in it; those that go on from each other are one."""
    found = {name: re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) for name, text in TEXTS.items()}
    if language == "python":
        found |= {name: ["\n\n".join(found[name])] for name in ONE_SCRIPT}
    return {f"{name}-{number}": block for name, parts in found.items() for number, block in enumerate(parts)}


def promised(example: str) -> list[str]:
    """What an example prints, by the comments behind its calls of `print`."""
    return re.findall(r"print\(.*?#\s*(\S.*)$", example, re.MULTILINE)
