"""The models in Promela hold, and do not where they are changed for the worse.

Needs SPIN and a C compiler; `test_proof.py` searches the functions themselves, without either.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from promela import MODELS, NEEDS, is_there, search

pytestmark = pytest.mark.skipif(not is_there(), reason=NEEDS)

SIZES = [(name, size.defines) for name, model in MODELS.items() for size in model.sizes if not size.long]
MUTATIONS = [(name, what) for name, model in MODELS.items() for what in model.mutations]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("name", "defines"), SIZES)
def test_a_model_holds(name: str, defines: dict[str, int]) -> None:
    assert search(MODELS[name].text, defines).errors == 0


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("name", "what"), MUTATIONS)
def test_a_mutated_model_does_not(name: str, what: str) -> None:
    before, after, defines = MODELS[name].mutations[what]
    assert before in MODELS[name].text
    found = search(MODELS[name].text.replace(before, after), defines)
    assert (found.errors == 0) == (what in MODELS[name].uncaught)
