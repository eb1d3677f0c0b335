"""The card of a saved composite, README.md: what its memories hold, how they were measured, how to load it.

It is written anew with the composite until somebody changes it. In a card that a person changed, the heading and the rows of
the memories that stand as Lorary wrote them are still kept true, so that what is forgotten leaves them; all other lines are the
person's and stay. One that a person wrote is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from lorary.bank.bank import MemoryBank
from lorary.bank.memory import Memory
from lorary.base.embedded import EMBEDDED_BASES
from lorary.errors import LoraryError
from lorary.tables import ABSENT, counted, percent

CARD = "README.md"
_MARK = re.compile(r"\n<!-- written by Lorary: ([0-9a-f]{64})((?: [0-9a-f]{16})*) -->\n")
"""Ends a card that nobody changed: the hash of all before it, and those of the heading and the rows."""
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_LONGEST = 160
_HEADING = "# A composite of "
_COLUMNS = "| memory | facts | passages | recall | a question that it answers |"


def escaped(text: str) -> str:
    """A text on one line that Markdown shows as it stands, also in a cell of a table; a long one is cut."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    cut = line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
    return _PUNCTUATION.sub(r"\\\1", cut)


def card_part(folder: Path, bank: MemoryBank, *, with_base: bool) -> dict[str, bytes]:
    """CARD → its content; nothing where a card stands in the folder of which no line is ours.

    Args:
        with_base: whether the folder holds its base.
    """
    file, text = folder / CARD, card(bank, with_base=with_base)
    if not file.exists():
        return {CARD: _marked(text)}
    if not file.is_file():
        return {}
    stands = file.read_bytes()
    return {CARD: _marked(text)} if is_own(stands) else _kept_true(stands, text)


def _marked(text: str) -> bytes:
    hashes = " ".join([sha256(text.encode()).hexdigest(), *map(_short, _kept_lines(text))])
    return f"{text}\n<!-- written by Lorary: {hashes} -->\n".encode()


def _short(line: str) -> str:
    return sha256(line.encode()).hexdigest()[:16]


def _kept_lines(text: str) -> list[str]:
    """The lines of our card that tell what the composite holds: its heading, and a row for each memory."""
    lines = text.split("\n")
    return [line for line in lines if line.startswith(_HEADING) or (line.startswith("| ") and line != _COLUMNS)]


def _kept_true(stands: bytes, text: str) -> dict[str, bytes]:
    """CARD → a card that a person changed, in which those lines that are still ours are the ones of our card now."""
    changed = stands.decode(errors="replace")
    if (mark := _MARK.search(changed)) is None:
        return {}
    own, lines, written = set(mark[2].split()), list[str](), False
    heading, *rows = _kept_lines(text)
    for line in changed[: mark.start()].split("\n"):
        if _short(line) not in own:
            lines.append(line)
        elif line.startswith(_HEADING):
            lines.append(heading)
        elif not written:  # all rows take the place of the first that is ours
            lines, written = [*lines, *rows], True
    hashes = " ".join([mark[1], *map(_short, [heading, *rows])])
    content = "\n".join(lines) + f"\n<!-- written by Lorary: {hashes} -->\n" + changed[mark.end() :]
    return {CARD: content.encode()} if content != changed else {}


def is_own(content: bytes) -> bool:
    """Whether a card is as Lorary wrote it."""
    text = content.decode(errors="replace")
    mark = _MARK.search(text)
    whole = mark is not None and mark.end() == len(text)
    return mark is not None and whole and sha256(text[: mark.start()].encode()).hexdigest() == mark[1]


def tagged(content: bytes, tags: Sequence[str]) -> bytes:
    """Our own card with more tags for a hub."""
    from huggingface_hub import ModelCard

    text = content.decode()
    found = _MARK.search(text)
    assert found is not None, "it is our own"
    loaded = ModelCard(text[: found.start()])
    data: Any = loaded.data
    data.tags = [*dict.fromkeys([*(data.tags or ()), *tags])]
    return _marked(str(loaded))


def card(bank: MemoryBank, *, with_base: bool) -> str:
    """The card of a composite of this bank, with the metadata that a hub reads. No path of this machine stands in it."""
    from huggingface_hub import ModelCard, ModelCardData

    own = EMBEDDED_BASES.get(bank.base)
    base, licence = own.hub if own else (bank.base if _is_hub_id(bank.base) else None, None)
    relation: dict[str, Any] = {"base_model_relation": "adapter"} if base else {}
    data = ModelCardData(
        library_name="lorary",
        pipeline_tag="text-generation",
        base_model=base,
        license=licence,
        tags=["lorary", "lora", "adapters", "memory", "routing"],
        **relation,
    )
    parts = [_head(bank, base), _memories(bank), _loading(with_base), _licence(base, licence, with_base)]
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts)))


def _is_hub_id(name: str) -> bool:
    return _HUB_ID.fullmatch(name) is not None and not Path(name).exists()


def _head(bank: MemoryBank, base: str | None) -> str:
    over = escaped(base or Path(bank.base).name)
    return (
        f"{_HEADING}{counted(len(bank), 'memory')} over {over}\n\n"
        "LoRA adapters behind a learned router, which sends a question to the memory that knows, and every other one to the "
        "base. Each memory in `memories/` is a stock PEFT adapter with the facts that it was trained on."
    )


def _memories(bank: MemoryBank) -> str:
    if not len(bank):
        return "## What it holds\n\nNo memory yet."
    rows = [_COLUMNS, "|---|---|---|---|---|"]
    note = (
        "Recall is the share of each memory's own validation wordings that it answered when it was written, without the "
        "router, with its 95 % interval, as its certificate in `memory.json` has it."
    )
    return "\n".join(["## What it holds", "", *rows, *map(_row, bank), "", note])


def _row(memory: Memory) -> str:
    try:
        return _told(memory)
    except LoraryError:  # it cannot be read: the composite is saved all the same
        return f"| {escaped(memory.name)} |{f' {ABSENT} |' * 4}"


def _told(memory: Memory) -> str:
    told = percent(memory.card.get("certificate", {}).get("recall_by_wording", {}).get("validation"))
    question = escaped(memory.facts[0].question) if memory.facts else ABSENT
    return f"| {escaped(memory.name)} | {len(memory.facts)} | {len(memory.documents)} | {told} | {question} |"


def _loading(with_base: bool) -> str:
    needs = "The base is in this folder." if with_base else "The base is loaded by the name in `bank.json`."
    return (
        "## How to load it\n\n```python\nimport lorary\nfrom transformers import AutoModelForCausalLM\n\n"
        'model = AutoModelForCausalLM.from_pretrained("FOLDER_OR_REPOSITORY")\n'
        'answer = model.ask("QUESTION")\nprint(answer.text, answer.route)\n```\n\n'
        f"{needs} Without `import lorary`, give `trust_remote_code=True`; the package must be installed either way."
    )


def _licence(base: str | None, licence: str | None, with_base: bool) -> str:
    own = f"{escaped(licence)}, for the base {escaped(base)}" if licence and base else "not told by its name"
    holds = "The base's weights are in this folder, so its licence holds for them." if with_base else ""
    return (
        f"## Licence\n\nLicence of the base: {own}. {holds} The memories were trained on it. Whose the facts are, only those who "
        "gave them know: `facts.jsonl` of each memory holds them as text, and whoever has this folder can read them."
    ).replace("  ", " ")
