"""The directions of the house: the core knows no folder, folders know only the core, heavy imports have one door."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lorary
import lorary.eval
import lorary.intake
import lorary.memories
import lorary.research
import lorary.router_training
import lorary.serving

REPOSITORY = Path(__file__).parent.parent
ROOT = Path(lorary.__file__).parent
HOUSES = (lorary.intake, lorary.memories, lorary.router_training, lorary.eval, lorary.research, lorary.serving)
FOLDERS = {m.__name__.split(".")[1]: Path(m.__file__).parent for m in HOUSES}
PACKAGES = ("bank", "base", "routing", "model", "answering")
CORE = [path for place in (ROOT, *(ROOT / package for package in PACKAGES)) for path in place.glob("*.py")]
DOORS = {
    "distributed": {"cluster.py"},
    "gguf": {"gguf_adapter.py"},
    "lightning": {"router_training", "research"},
    "peft": {"memories", "research"},
    "faiss": {"index.py"},
    "bm25s": {"lexicon.py"},
    "sentence_transformers": {"encoder.py"},
    "torchmetrics": set(),
    "scipy": {"statistics.py"},
    "sklearn": {"clustering.py"},
    "spacy": {"grammar.py"},
    "lemminflect": {"grammar.py"},
    "openai": {"endpoint.py"},
    "markitdown": {"intake"},
    "bs4": {"webpages.py"},
    "pypdfium2": {"intake"},
    "pdfminer": {"intake"},
    "pdfplumber": {"intake"},
    "openpyxl": {"intake"},
    "markdown_it": {"intake"},
    "matplotlib": {"plots.py", "charts.py", "heatmap.py"},
    "jinja2": {"page.py", "heatmap.py"},
    "rouge_score": {"scoring.py"},
    "fastapi": {"serving"},
    "starlette": {"serving"},
    "mcp": {"mcp.py", "mcp_listening.py"},
    "mcp_types": {"mcp.py"},
    "uvicorn": {"listening.py", "command.py"},
    "prometheus_client": {"metrics.py", "command.py"},
}
COMMANDS = {"__main__.py", "commands.py", "reference.py"}
"""Only the command knows all; and the front door `lorary/__init__.py`, whose names are imported when asked for."""
FRONT_DOOR = ROOT / "__init__.py"
FILES = [("core", path) for path in CORE] + [(f, path) for f, place in FOLDERS.items() for path in place.rglob("*.py")]


def knows_all(path: Path) -> bool:
    return path.name in COMMANDS or path == FRONT_DOOR


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
        if parts[0] == "lorary" and len(parts) > 1 and parts[1] in FOLDERS and not knows_all(path):
            assert house in (parts[1], "research"), f"{house}/{path.name} imports {name}"
        for heavy, allowed in DOORS.items():
            if parts[0] == heavy:
                assert {house, path.name} & allowed, f"{house}/{path.name} imports {name}"


def test_the_model_needs_no_heavy_dependency():
    heavy = ["lightning", "faiss", "sentence_transformers", "peft"]
    code = f"import sys, lorary.model.composite; print([m for m in {heavy} if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize("house", [lorary, *HOUSES])
def test_a_re_export_never_has_its_module_s_name(house):
    modules = {path.stem for path in Path(house.__file__).parent.glob("*.py")}
    assert not modules & set(getattr(house, "__all__", ()))


def test_every_folder_of_code_is_shipped():
    """A folder that pyproject.toml does not name is missing from the wheel."""
    shipped = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    places = {"lorary": ROOT, **{f"lorary.{folder}": place for folder, place in FOLDERS.items()}}
    held = {
        ".".join((name, *path.parent.relative_to(place).parts))
        for name, place in places.items()
        for path in place.rglob("*.py")
    }
    assert held == set(shipped)


def test_files_stay_readable():
    for _, path in FILES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 260, f"{path.name}: look for its second idea"


def test_the_fixtures_stand_alone():
    """Other folders load them (pytest's `-p conftest`, or a script that asks a pico model), where no test module is found."""
    tree = ast.parse((REPOSITORY / "tests" / "conftest.py").read_text(encoding="utf-8"))
    imported = {node.module.split(".")[0] for node in tree.body if isinstance(node, ast.ImportFrom) and node.module}
    assert not imported & {path.stem for path in (REPOSITORY / "tests").glob("*.py")}


def test_every_error_that_is_raised_is_a_lorary_error():
    """So that a caller can tell them from a library's."""
    for _, path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            bare = isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and ast.unparse(node.exc.func)
            assert bare != "ValueError", f"{path.name}, line {node.lineno}"


@pytest.mark.parametrize("module", ["base.loading", "bank.bank", "model.composite", "memories.groups", "eval.run"])
def test_a_module_can_be_the_first_that_is_imported(module):
    """Another process imports what it is handed first; the Auto classes import our model on the way."""
    subprocess.run([sys.executable, "-c", f"import lorary.{module}"], check=True)


@pytest.mark.parametrize(("house", "path"), FILES, ids=lambda x: x.name if isinstance(x, Path) else x)
def test_errors_that_a_user_can_cause_are_the_project_s_own(house, path):
    """TypeError and KeyError may be raised where they are caught, as the manifest's parser does."""
    raised = {
        node.exc.func.id
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
    }
    assert not raised & {"ValueError", "RuntimeError", "Exception", "OSError"}, f"{house}/{path.name}"
