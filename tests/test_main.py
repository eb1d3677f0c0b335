"""The `lorary` command before any composite is opened: its helps, bugs, missing extras, and a reader that leaves."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from lorary.__main__ import COMMANDS, EXTRAS, HIDDEN, main
from lorary.eval.command import TASKS
from lorary.eval.conditions import CONDITIONS
from lorary.eval.meanings import FIRST, MEANINGS
from lorary.research.commands import STUDIES

pytestmark = pytest.mark.wheel
HELPS = [
    *([name] for name in (*COMMANDS, *HIDDEN)),
    *(["task", name] for name in TASKS),
    *(["research", name] for name in STUDIES),
]


def test_helps_import_no_torch():
    """The help of every command, task and study; in one process, because none of them may."""
    code = f"""
import contextlib, io, sys
from lorary.__main__ import main
for names in {HELPS}:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main([*names, "--help"]) == 0
    assert out.getvalue().startswith("usage: lorary " + " ".join(names)), names
    heavy = sorted({{"torch", "transformers", "numpy"}} & {{*sys.modules}})
    assert not heavy, (names, heavy)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_each_condition_has_a_meaning():
    """The help of `recall` tells them without importing the conditions."""
    assert [*CONDITIONS] == [*MEANINGS]
    assert {*FIRST} <= {*CONDITIONS}


def test_the_bare_help_is_cheap():
    """It imports none of the packages, ours included, that cost more than it does."""
    code = "import sys; from lorary.__main__ import main; main(['--help']); print(sorted(m for m in sys.modules if '.' not in m))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "transformers", "rich", "tqdm", "numpy"} & set(modules.split("'"))
    assert all(f"  {name} " in modules for name in COMMANDS)


def test_debug_shows_where_an_error_arose(tmp_path):
    from lorary.bank.files import BankError

    for argv in (["--debug", "list", str(tmp_path)], ["list", str(tmp_path), "--debug"]):
        with pytest.raises(BankError):
            main(argv)


def test_a_bug_says_that_it_is_one(capsys, monkeypatch):
    monkeypatch.setattr("lorary.bank.bank.MemoryBank.load", lambda folder: 1 / 0)
    assert main(["list", "anywhere"]) == 1
    assert (
        capsys.readouterr().err
        == "lorary: this is a bug of Lorary; --debug shows where: ZeroDivisionError: division by zero\n"
    )


@pytest.mark.parametrize(("extra", "module"), [(extra, name) for extra, names in EXTRAS.items() for name in names])
def test_a_missing_extra_is_named(extra, module, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("lorary.bank.bank.MemoryBank.load", lambda folder: importlib.import_module(module))
    assert main(["list", "anywhere"]) == 2
    error = f"lorary: error: this needs the package of {module!r}, which is not installed; run: "
    assert capsys.readouterr().err == error + f'pip install "lorary[{extra}]"\n'


def test_the_extras_are_those_of_the_package():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    packages_of = packages_distributions()  # the module markdown_it is of the package markdown-it-py
    for extra, modules in EXTRAS.items():
        packages = {re.split("[^A-Za-z0-9-]", package)[0] for package in project["optional-dependencies"][extra]}
        needed = {packages_of[module][0].lower().replace("_", "-") for module in modules}
        assert needed <= packages
        plain = {re.split("[^A-Za-z0-9-]", package)[0] for package in project["dependencies"]}
        assert not needed & plain


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m lorary --help | head -1"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("usage: lorary COMMAND ...\n", "")
