"""How the site is built: `make docs`."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import ringkernel

HERE = Path(__file__).parent
ROOT = HERE.parent

project = "ringkernel"
author = "ringkernel developers"
release = version = ringkernel.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_design",
]
exclude_patterns = ["_build", "README.md"]
html_theme = "pydata_sphinx_theme"
html_title = project
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
html_sidebars = {name: [] for name in ("index", "tutorial", "guide", "coming-from", "mistakes")}  # no pages below them
default_role = "py:obj"  # what stands in single backticks in a docstring is code, and a link where it is a name
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # `make notebooks` executes them, and looks at what comes out
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "inherited-members": True}
OUTSIDE = {
    "ARCHITECTURE.md": "_project/ARCHITECTURE.md",
    "CHANGELOG.md": "_project/CHANGELOG.md",
    "CONTRIBUTING.md": "_project/CONTRIBUTING.md",
    "SECURITY.md": "_project/SECURITY.md",
    "benchmarks/README.md": "_project/benchmarks.md",
    "examples/README.md": "_project/examples.md",
    "README.md": "_project/README.md",
}
"""Pages that lie where people look for them in the repository, and where they are copied to for the site."""


def gather(*_: object) -> None:
    """Copy what lies elsewhere to where the site's sources are."""
    shutil.copytree(ROOT / "notebooks", HERE / "_notebooks", dirs_exist_ok=True)
    (HERE / "_project").mkdir(exist_ok=True)
    for name, copy in OUTSIDE.items():
        shutil.copyfile(ROOT / name, HERE / copy)


def lead_there(_: Any, page: str, source: list[str]) -> None:
    """Make the links of a page, which are right in the repository, lead to the copies."""
    here = HERE / page
    origin = next((ROOT / name for name, copy in OUTSIDE.items() if page + ".md" == copy), HERE / f"{page}.md")

    def moved(link: re.Match[str]) -> str:
        target = (origin.parent / link[2]).resolve()
        if not target.is_relative_to(ROOT):
            return link[0]
        name = target.relative_to(ROOT).as_posix()
        if name in OUTSIDE:
            target = HERE / OUTSIDE[name]
        elif name.startswith("notebooks/"):
            target = HERE / f"_{name}"
        elif target == HERE / "README.md":
            target = HERE / "index.md"
        elif not name.startswith("docs/"):
            return link[1]  # a file that the site does not have
        return f"[{link[1]}]({os.path.relpath(target, here.parent)}{link[3] or ''})"

    source[0] = re.sub(r"\[([^\]]*)\]\(((?!https?:|#)[^)#\s]+)(#[^)\s]*)?\)", moved, source[0])


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("config-inited", gather)
    app.connect("source-read", lead_there)
