"""The directions of the house: the core knows no folder, folders know only the core, heavy imports have one door."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lorary
import lorary.eval
import lorary.memories
import lorary.router_training

ROOT = Path(lorary.__file__).parent
FOLDERS = {
    m.__name__.split(".")[1]: Path(m.__file__).parent for m in (lorary.memories, lorary.router_training, lorary.eval)
}
CORE = [path for path in ROOT.glob("*.py") if path.parent == ROOT]
DOORS = {
    "lightning": {"router_training"},
    "peft": {"memories"},
    "faiss": {"index.py"},
    "bm25s": {"lexicon.py"},
    "sentence_transformers": {"encoder.py"},
    "torchmetrics": {"eval"},
    "scipy": {"eval"},
    "matplotlib": {"plots.py"},
    "jinja2": {"page.py"},
    "rouge_score": {"scores.py"},
}
FILES = [("core", path) for path in CORE] + [(f, path) for f, place in FOLDERS.items() for path in place.glob("*.py")]


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at its top or within a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            found.add(node.module)
    return found


@pytest.mark.parametrize(("house", "path"), FILES, ids=lambda x: x.name if isinstance(x, Path) else x)
def test_directions(house, path):
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "lorary" and len(parts) > 1 and parts[1] in FOLDERS:
            assert parts[1] == house, f"{house}/{path.name} imports {name}"
        for heavy, allowed in DOORS.items():
            if parts[0] == heavy:
                assert {house, path.name} & allowed, f"{house}/{path.name} imports {name}"


def test_the_top_level_is_light_and_small():
    assert len(lorary.__all__) <= 6
    heavy = ["lightning", "faiss", "sentence_transformers", "peft"]
    code = f"import sys, lorary; print([m for m in {heavy} if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize("house", [lorary, *(sys.modules[f"lorary.{folder}"] for folder in FOLDERS)])
def test_a_re_export_never_has_its_module_s_name(house):
    modules = {path.stem for path in Path(house.__file__).parent.glob("*.py")}
    assert not modules & set(house.__all__)


def test_folders_hold_no_packages():
    for place in FOLDERS.values():
        assert not list(place.glob("*/__init__.py"))


def test_files_stay_readable():
    for _, path in FILES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 260, f"{path.name}: look for its second idea"
