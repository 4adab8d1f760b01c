"""A fixture for tests of code with kernels; pytest finds it where ringkernel is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .runtime.session import Session


@pytest.fixture
def ringkernel_session() -> Iterator[Session]:
    """A session for one test: `launch`, `map`, `call` and the others block. Closed after it."""
    from .runtime.session import Session

    with Session(workers=1) as session:
        yield session
