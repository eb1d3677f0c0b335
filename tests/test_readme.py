"""The README and the pages of docs/: short, their links lead somewhere, and what they tell users to write exists and runs."""

from __future__ import annotations

import ast
import io
import re
import sys
from contextlib import redirect_stdout
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from conftest import empty_bank, save_adapter

import lorary
from lorary.__main__ import COMMANDS
from lorary.bank.facts import Fact
from lorary.eval.command import TASKS
from lorary.model.composite import assemble
from lorary.reference import page
from lorary.research.commands import STUDIES

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("findings/*.md")])
NESTED = {"task": TASKS, "research": STUDIES}
pytestmark = pytest.mark.skipif(not (ROOT / "README.md").is_file(), reason="the pages lie beside the sources")
FACTS = {
    "boat": (Fact("boat", "Where is our boat moored?", "Pier 17 in Skagen", ("Where do I find our boat?",)),),
    "office": (Fact("office", "What is the code of the office door?", "5528", ("Which code opens the office door?",)),),
}


def blocks(text: str, language: str) -> list[str]:
    """The blocks of code of a language; "" for those that name none."""
    return [
        code for name, code in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) if name == language
    ]


def spans(text: str) -> list[str]:
    """The spans of code within the prose."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE))


def command_lines(text: str) -> list[list[str]]:
    """The words behind `lorary` in each command that a page tells, without what a comment says."""
    written = [line for block in blocks(text, "") for line in block.replace("\\\n", " ").splitlines()] + spans(text)
    lines = [re.sub(r"\s#.*", "", line).split() for line in written]
    starts = [(line, line.index("lorary")) for line in lines if "lorary" in line[:1]]
    return [line[start + 1 :] for line, start in starts]


@cache
def options_of() -> dict[str, set[str]]:
    """Each command → the options that its help shows."""
    sections = re.split(r"^#+ `lorary ?([^`]*)`$", page(), flags=re.MULTILINE)[1:]
    options = dict[str, set[str]]()
    for name, told in zip(sections[::2], sections[1::2], strict=True):
        starts = [line.strip().partition("  ")[0] for line in told.splitlines() if re.match(r" +--?[a-z]", line)]
        options[name] = {"--debug", *re.findall(r"--[a-z][a-z-]*", " ".join(starts))}
    return options


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 200
    assert max(len(line) for line in lines if line[:1] not in ("|", "{")) <= 130


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_their_options_exist(page):
    known, text = options_of(), page.read_text(encoding="utf-8")
    for words in command_lines(text):
        names = [word.rstrip(",") for word in words if re.fullmatch(r"[a-z][a-z-]*,?", word)][:1]
        if not names or words[0].startswith("-"):
            continue
        (name,) = names
        assert name in COMMANDS, f"{page.name}: lorary {' '.join(words)}"
        nested = next((word for word in words[1:2] if word in NESTED.get(name, ())), None)
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        parts = [nested] if nested else NESTED.get(name, ())
        unknown = options - known[name].union(*(known[f"{name} {part}"] for part in parts))
        assert not unknown, f"{page.name}: lorary {' '.join(words)}"
    alone = {span.split()[0].partition("=")[0] for span in spans(text) if span.startswith("--")}
    foreign = {"--no-deps", "--max-lora-rank"}
    assert alone - foreign <= set.union(*known.values()), page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page):
    for span in spans(page.read_text(encoding="utf-8")):
        if re.fullmatch(
            r"(src/lorary|intake|memories|router_training|eval|research|tests|docs|findings)/[\w./-]*", span
        ):
            of_a_bank = span.startswith("memories/NAME") or "<" in span
            assert of_a_bank or span == "findings/NAME.sh" or (ROOT / span).exists(), f"{page.name}: {span}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_parse_and_import_what_there_is(page):
    for block in blocks(page.read_text(encoding="utf-8"), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("lorary"):
                module = import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), f"{page.name}: {ast.unparse(node)}"


def test_the_page_of_the_api_tells_every_name():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert [name for name in lorary.__all__ if f"`{name}" not in text] == []


@pytest.fixture
def boat_and_office(base, encoder, tmp_path):
    """A folder with the adapters, the facts, the bank and the composite that the page of the API speaks of."""
    base.model.name_or_path = base.name  # which PEFT writes into an adapter
    bank = empty_bank(base)
    for seed, (name, facts) in enumerate(FACTS.items()):
        folder = save_adapter(base.model, tmp_path / "adapters" / name, seed, r=2, target_modules=["up_proj"])
        bank.add(folder, facts=facts, encoder=encoder)
    bank.save(tmp_path / "bank")
    assemble(bank, base, encoder=encoder).save_pretrained(tmp_path / "composite")
    (tmp_path / "ship.jsonl").write_text('{"question": "What is the name of our ship?", "answer": "Marigold"}\n')
    return tmp_path


def test_the_page_of_the_api_runs(boat_and_office, monkeypatch):
    """All its blocks but the one that trains, in order, as a reader would type them."""
    monkeypatch.chdir(boat_and_office)
    page = ROOT / "docs" / "api.md"
    first, *rest = blocks(page.read_text(encoding="utf-8"), "python")
    assert first.startswith("# takes minutes")
    names = {"__name__": "api"}
    printed = io.StringIO()
    with redirect_stdout(printed):
        for block in rest:
            exec(compile(block, str(page), "exec"), names)
    lines = printed.getvalue().splitlines()
    assert "['boat'] None ['boat', 'office']" in lines
    assert lines[-1].startswith("unknown") or "nobody" in lines[-1]
    assert sys.modules["lorary"] is lorary
