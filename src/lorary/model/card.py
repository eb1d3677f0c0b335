"""The card of a saved composite, README.md: what its memories hold, how they were measured, how to load it.

It is written anew with the composite until somebody changes it. A card that a person wrote or changed is left as it is.
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import Any

from lorary.bank.bank import MemoryBank
from lorary.bank.memory import Memory
from lorary.base.loading import EMBEDDED
from lorary.errors import LoraryError
from lorary.tables import ABSENT, counted

CARD = "README.md"
_MARK = re.compile(r"\n<!-- written by Lorary: ([0-9a-f]{64}) -->\n\Z")
"""Ends a card that nobody changed: the hash of all before it."""
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_KNOWN = {EMBEDDED: ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")}
"""Base → (its name on the hub, its licence there)."""
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_LONGEST = 160


def escaped(text: str) -> str:
    """A text on one line that Markdown shows as it stands, also in a cell of a table; a long one is cut."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    cut = line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
    return _PUNCTUATION.sub(r"\\\1", cut)


def card_part(folder: Path, bank: MemoryBank, *, with_base: bool) -> dict[str, bytes]:
    """CARD → its content; nothing where a card stands in the folder that a person wrote or changed.

    Args:
        with_base: whether the folder holds its base.
    """
    file = folder / CARD
    if file.exists() and not (file.is_file() and is_own(file.read_bytes())):
        return {}
    text = card(bank, with_base=with_base)
    return {CARD: f"{text}\n<!-- written by Lorary: {sha256(text.encode()).hexdigest()} -->\n".encode()}


def is_own(content: bytes) -> bool:
    """Whether a card is as Lorary wrote it."""
    text = content.decode(errors="replace")
    mark = _MARK.search(text)
    return mark is not None and sha256(text[: mark.start()].encode()).hexdigest() == mark[1]


def card(bank: MemoryBank, *, with_base: bool) -> str:
    """The card of a composite of this bank, with the metadata that a hub reads. No path of this machine stands in it."""
    from huggingface_hub import ModelCard, ModelCardData

    base, licence = _KNOWN.get(bank.base, (bank.base if _is_hub_id(bank.base) else None, None))
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
        f"# A composite of {counted(len(bank), 'memory')} over {over}\n\n"
        "LoRA adapters behind a learned router, which sends a question to the memory that knows, and every other one to the "
        "base. Each memory in `memories/` is a stock PEFT adapter with the facts that it was trained on."
    )


def _memories(bank: MemoryBank) -> str:
    if not len(bank):
        return "## What it holds\n\nNo memory yet."
    rows = ["| memory | facts | passages | recall | a question that it answers |", "|---|---|---|---|---|"]
    note = (
        "Recall is the share of each memory's own validation wordings that it answered when it was written, without the "
        "router, as its certificate in `memory.json` has it."
    )
    return "\n".join(["## What it holds", "", *rows, *map(_row, bank), "", note])


def _row(memory: Memory) -> str:
    try:
        return _told(memory)
    except LoraryError:  # it cannot be read: the composite is saved all the same
        return f"| {escaped(memory.name)} |{f' {ABSENT} |' * 4}"


def _told(memory: Memory) -> str:
    recall = memory.card.get("certificate", {}).get("recall_validation_wordings")
    told = ABSENT if recall is None else f"{recall:.0%}"
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
