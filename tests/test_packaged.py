"""What is installed is whole: every package that pyproject.toml names is there, and all its modules can be imported."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.wheel
PACKAGES = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["tool"]["setuptools"][
    "packages"
]


def test_every_module_can_be_imported():
    code = f"""
import importlib, pkgutil
for name in {PACKAGES}:
    for module in pkgutil.iter_modules(importlib.import_module(name).__path__, name + "."):
        importlib.import_module(module.name)
        print(module.name)
"""
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert imported.returncode == 0, imported.stderr
    assert {"lorary.__main__", "lorary.eval.tasks.generated", "lorary.research.commands"} <= {*imported.stdout.split()}
