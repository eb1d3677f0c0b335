"""Examples: prompts, with or without what is to be said to them and by which adapter, that a gate is trained on.

A memory is routed by its facts; one that brings none, a skill or a style, is routed by examples. Three of four are kept with
their memory, to be found as its facts' wordings are; the others calibrate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorary.bank.bank import MemoryBank
from lorary.bank.facts import comparable, read_lines
from lorary.base.prompts import Chat, PromptError, chat_of, chat_question
from lorary.errors import LoraryError
from lorary.model.modeling import LoraryForCausalLM
from lorary.router_training.loss_labels import least, losses_of
from lorary.router_training.queries import Example
from lorary.routing.encoder import Encoder, load_encoder

FIELDS = ("prompt", "completion", "messages", "adapter")
BASE = "__base__"
"""In place of an adapter's name: the base alone is to answer."""
_KEPT = 4
"""Of a memory's examples every fourth calibrates and is not trained on, as of the unrelated questions."""


class ExampleError(LoraryError):
    """An example that cannot be used: says where, what was given and what is allowed."""


@dataclass(frozen=True)
class RoutingExample:
    """One line of a file of examples.

    Args:
        prompt: what routes: the user's last turn.
        chat: all turns that are put to the model.
        completion: what is to be said; None where the line tells none.
        adapter: the name of a memory, or `BASE`; None where the line tells none.
    """

    prompt: str
    chat: Chat
    completion: str | None
    adapter: str | None


@dataclass(frozen=True)
class Taken:
    """What became of examples.

    Args:
        completions: prompt that is trained on → (what is to be said, the chat).
        kept: those to calibrate on.
        unrelated: prompts that no memory is to answer.
        figures: name of each memory, or `BASE` → how many were trained on, were kept, and were labelled by loss.
    """

    completions: Mapping[str, tuple[str | None, Chat | None]] = field(default_factory=dict)
    kept: Sequence[Example] = ()
    unrelated: Sequence[str] = ()
    figures: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def read_examples(path: str | Path, bank: MemoryBank) -> list[RoutingExample]:
    """The examples of a JSONL file, each once.

    Raises:
        FactError: a line that is no JSON object.
        ExampleError: a line that is no example, an unknown adapter, a prompt that stands twice with different words or
            adapters, or that is a wording of another memory's facts or a held-out one; or a file without examples.
    """
    wordings, held_out = _wordings(bank)
    examples = dict[str, RoutingExample]()
    places = dict[str, str]()
    for where, line in read_lines(Path(path)):
        example = parse_example(line, where)
        if example.adapter not in (None, BASE, *bank.names):
            raise ExampleError(
                f"{where}: adapter {example.adapter!r} has no memory; the bank holds {bank.names}, and {BASE!r} is for what "
                "the base is to answer; leave 'adapter' out where the completion is to tell it"
            )
        key = comparable(example.prompt)
        if key in held_out:
            raise ExampleError(f"{where}: {example.prompt!r} is a held-out wording of {held_out[key]!r}; take it out")
        owner = wordings.get(key, example.adapter)
        if example.adapter is not None and owner != example.adapter:
            raise ExampleError(
                f"{where}: {example.prompt!r} is a wording of {owner!r} and an example of {example.adapter!r}, and would "
                "lead to neither; keep it in one"
            )
        if key in examples and examples[key] != example:
            raise ExampleError(
                f"{where}: {example.prompt!r} stands in {places[key]} with another completion or adapter; keep one"
            )
        examples[key] = example
        places.setdefault(key, where)
    if not examples:
        raise ExampleError(f"{path} holds no example; give a JSONL file, a prompt a line, or leave --examples out")
    return list(examples.values())


def _wordings(bank: MemoryBank) -> tuple[dict[str, str], dict[str, str]]:
    """(trained and validation wordings, held-out ones) → the memory whose they are, as they are compared."""
    facts = [(memory.name, fact) for memory in bank for fact in memory.facts]
    known = {comparable(wording): name for name, fact in facts for wording in fact.wordings}
    return known, {comparable(wording): name for name, fact in facts for wording in fact.held_out}


def parse_example(line: Mapping[str, Any], where: str) -> RoutingExample:
    """The example in one decoded JSON line; `where` names the line.

    `prompt` is a text or the turns of a chat, `completion` a text or the model's turn; `messages` holds both.

    Raises:
        ExampleError: unknown or missing fields, or such of another type.
    """
    if unknown := sorted(set(line) - {*FIELDS}):
        raise ExampleError(f"{where}: unknown field {unknown[0]!r}; the fields are {list(FIELDS)}")
    if ("messages" in line) == ("prompt" in line) or {"messages", "completion"} <= line.keys():
        raise ExampleError(
            f"{where}: an example needs 'prompt' (and 'completion'), or 'messages' in place of both; it has {sorted(line)}"
        )
    given, said = line.get("prompt", line.get("messages")), line.get("completion")
    if "messages" in line and isinstance(given, list) and given and _role(given[-1]) == "assistant":
        given, said = given[:-1], given[-1:]
    try:
        chat = chat_of(given if isinstance(given, str) else _turns(given, where))
    except PromptError as error:
        raise ExampleError(f"{where}: {error}") from None
    completion = _completion(said, where)
    adapter = line.get("adapter")
    if adapter is not None and not isinstance(adapter, str):
        raise ExampleError(f"{where}: 'adapter' must be the name of a memory, this one is {adapter!r}")
    if adapter is None and completion is None:
        raise ExampleError(
            f"{where}: tells neither an adapter nor a completion, so nothing says whose it is; give 'adapter', 'completion' "
            "or both"
        )
    return RoutingExample(chat_question(chat), chat, completion, adapter)


def _turns(given: Any, where: str) -> Chat:
    if not isinstance(given, list) or not given or any(_role(turn) is None for turn in given):
        raise ExampleError(
            f"{where}: the prompt must be a text or turns with 'role' and 'content', this one is {given!r}"[:300]
        )
    return given


def _role(turn: Any) -> str | None:
    role = turn.get("role") if isinstance(turn, dict) else None
    return role if isinstance(role, str) else None


def _completion(said: Any, where: str) -> str | None:
    if isinstance(said, list) and len(said) == 1 and _role(said[0]) == "assistant":
        said = said[0].get("content")
    if said is None:
        return None
    if not isinstance(said, str) or not said.strip():
        raise ExampleError(
            f"{where}: the completion must be a text, or one turn of the assistant, this one is {said!r}"[:300]
        )
    return said.strip()


def queries_of(examples: Sequence[RoutingExample], names: Sequence[str]) -> list[Example]:
    """The examples as queries; where no adapter is told, of none yet."""
    numbers = {name: number for number, name in enumerate(names)}
    return [Example(e.prompt, numbers.get(e.adapter or "", len(names)), e.completion, chat=e.chat) for e in examples]


def take_examples(
    bank: MemoryBank, examples: Sequence[RoutingExample], labels: Mapping[int, int], encoder: Encoder
) -> tuple[MemoryBank, Taken]:
    """(the bank whose memories hold the examples that are trained on, what became of all); earlier examples leave.

    Args:
        labels: of the examples without an adapter, by number: the number of the memory, or of none, that the loss tells.
    """
    none, kept, unrelated = len(bank), list[Example](), list[str]()
    trained: dict[str, list[Example]] = {name: [] for name in bank.names}
    figures = {name: {"trained": 0, "kept": 0, "by_loss": 0} for name in (*bank.names, BASE)}
    wordings = _wordings(bank)[0]
    for number, query in enumerate(queries_of(examples, bank.names)):
        memory = labels.get(number, query.memory)
        name = (*bank.names, BASE)[memory]
        own, labelled = figures[name], Example(query.text, memory, query.answer, chat=query.chat)
        if comparable(query.text) in wordings:  # of its fact, which has it already
            continue
        own["by_loss"] += number in labels
        if memory == none:
            unrelated.append(query.text)
            own["trained"] += 1
        elif (own["trained"] + own["kept"]) % _KEPT == _KEPT - 1:
            kept.append(labelled)
            own["kept"] += 1
        else:
            trained[name].append(labelled)
            own["trained"] += 1
    memories = {
        memory.name: memory.with_examples([query.text for query in trained[memory.name]], encoder) for memory in bank
    }
    completions = {query.text: (query.answer, query.chat) for own in trained.values() for query in own}
    figures = {name: own for name, own in figures.items() if own["trained"]}
    return MemoryBank(**{**vars(bank), "memories": memories}), Taken(completions, kept, unrelated, figures)


def with_examples(
    bank: MemoryBank,
    given: Sequence[RoutingExample],
    composite: Callable[[], LoraryForCausalLM],
    labels: str = "names",
    quiet: bool = False,
) -> tuple[MemoryBank, Taken]:
    """(the bank with the examples, what became of them); whose those without an adapter are, the loss tells.

    Args:
        composite: makes one of the bank as it is.
        labels: as `Training.labels`; what the base is to answer is never asked of the loss.
    """
    if not given:
        return bank, Taken()
    always = labels == "loss"
    asked = [n for n, e in enumerate(given) if e.adapter is None or (always and e.completion and e.adapter != BASE)]
    told = list[int]()
    if asked:
        queries = queries_of([given[number] for number in asked], bank.names)
        told = least(losses_of(composite(), queries, quiet=quiet)).tolist()
    return take_examples(bank, given, dict(zip(asked, told, strict=True)), load_encoder(bank.encoder))
