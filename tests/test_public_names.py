"""`import lorary`: it is cheap, its names come when asked for, and transformers knows its classes in either order."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lorary

pytestmark = pytest.mark.wheel
NAMES = [
    *("Answer", "Fact", "LoraryConfig", "LoraryForCausalLM", "Memory", "MemoryBank", "Policy", "Route"),
    *("build", "forget", "recall", "refresh", "train_router"),
]
BEFORE = "from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer; import lorary"
AFTER = "import lorary; from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer"
OURS_FIRST = "from lorary import LoraryForCausalLM; from transformers import AutoModelForCausalLM"
REGISTERED = """
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
config = CONFIG_MAPPING["lorary"]
print(config.__module__, MODEL_FOR_CAUSAL_LM_MAPPING[config].__module__)
"""


def python(code: str) -> str:
    """What a new process prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_public_names():
    assert lorary.__all__ == NAMES
    assert set(NAMES) <= set(dir(lorary))
    for name in NAMES:
        assert getattr(lorary, name).__name__ == name
    with pytest.raises(AttributeError, match="offers"):
        lorary.Memories  # noqa: B018


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(lorary.__file__).read_text(encoding="utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    homes = {alias.name: node.module for node in checked.body for alias in node.names}
    assert homes == lorary._HOMES


def test_importing_it_imports_neither_torch_nor_transformers():
    heavy = ["torch", "transformers", "numpy", "jaxtyping", "rich", "tqdm"]
    assert python(f"import sys, lorary; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_a_fact_needs_no_torch():
    assert python("import sys, lorary; lorary.Fact; print('torch' in sys.modules)") == "False"


def test_a_module_of_ours_may_be_the_first_to_import_transformers():
    """Its own imports are half way then, so none of ours may be imported in return."""
    first = "import lorary.answering.heatmap, lorary.routing.router"
    assert python(first + "\n" + REGISTERED) == "lorary.model.configuration lorary.model.modeling"


@pytest.mark.parametrize(
    "order", [BEFORE, AFTER, OURS_FIRST], ids=["transformers-first", "lorary-first", "a-class-first"]
)
def test_transformers_knows_the_classes(order):
    assert python(order + "\n" + REGISTERED) == "lorary.model.configuration lorary.model.modeling"


@pytest.mark.parametrize("first", ["bank.bank", "bank.origin", "base.loading", "model.composite"])
def test_any_module_may_be_the_first_that_is_imported(first):
    """The Auto classes import ours in the middle of whatever asked for them, which must not be half imported then."""
    assert python(f"import lorary.{first}\n" + REGISTERED) == "lorary.model.configuration lorary.model.modeling"


def test_the_registries_keep_their_own_loaders():
    """What reads a module's source through its loader (inspect, pickling tools) must not meet ours."""
    code = "import lorary, inspect, transformers.models.auto.modeling_auto as m; "
    assert "SourceFileLoader" in python(code + "print(type(m.__loader__).__name__, len(inspect.getsource(m)) > 1000)")
