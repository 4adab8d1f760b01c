"""An empty compile cache for one test."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringkernel.cache import code_cache, settings


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    directory = tmp_path / "cache"
    monkeypatch.setenv(settings.DIRECTORY_VARIABLE, str(directory))
    monkeypatch.delenv(settings.SIZE_VARIABLE, raising=False)
    monkeypatch.setattr(code_cache, "_warned", False)
    monkeypatch.setattr(code_cache, "_said", set())
    return directory
