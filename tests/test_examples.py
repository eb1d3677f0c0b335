"""Examples: adapters that bring no facts are routed by prompts; bad files are told before anything is changed."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import FACTS, empty_bank, save_adapter

from lorary.bank.bank import MemoryBank
from lorary.bank.memory import Memory
from lorary.model.composite import assemble, load_composite
from lorary.model.refreshing import refresh
from lorary.router_training.calibration import calibrate
from lorary.router_training.data import RoutingData, read_questions
from lorary.router_training.examples import (
    BASE,
    ExampleError,
    RoutingExample,
    queries_of,
    read_examples,
    take_examples,
    with_examples,
)
from lorary.router_training.loss_labels import least, losses_of
from lorary.router_training.queries import answer_row
from lorary.router_training.settings import Training
from lorary.router_training.training import train_router
from lorary.routing.encoder import EMBEDDED
from lorary.routing.gate import DEFAULT_FEATURES
from lorary.routing.policy import Policy
from lorary.routing.router import Router
from lorary.routing.starting import new_gate

SPANISH = [
    f"Translate into Spanish: {text}"
    for text in (
        "the cat sleeps",
        "I like bread",
        "where is the station?",
        "good morning, neighbours",
        "the house is old",
        "we live by the sea",
        "she reads a book",
        "it rains in spring",
    )
]
VERSE = [
    f"Write a short poem about {thing}."
    for thing in ("autumn", "a river", "my grandmother", "the moon", "a train", "snow", "an old harbour", "bees")
]
UNSEEN = {"spanish": "Translate into Spanish: my brother sells fish", "verse": "Write a short poem about a lighthouse."}


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def skills(base, tmp_path):
    """A bank of two adapters without facts, on disk."""
    bank = empty_bank(base)
    for seed, name in enumerate(("spanish", "verse")):
        folder = save_adapter(base.model, tmp_path / "adapters" / name, seed, r=2, target_modules=["up_proj"])
        bank.add(folder, same_base=True)
    return bank.save(tmp_path / "skills")


def named():
    pairs = (("spanish", SPANISH), ("verse", VERSE))
    return [{"prompt": text, "adapter": name} for name, own in pairs for text in own]


def test_adapters_without_facts_are_routed_by_examples_and_other_questions_are_left_to_the_base(skills, base, tmp_path):
    before = {path: path.read_bytes() for path in skills.rglob("*") if path.is_file()}
    examples = write(tmp_path / "examples.jsonl", named())
    train_router(skills, out=tmp_path / "composite", base=base, examples=examples, quiet=True)
    model = load_composite(tmp_path / "composite")
    assert model.router.bank["verse"].examples == tuple(t for i, t in enumerate(VERSE) if i % 4 != 3)
    for name, text in UNSEEN.items():
        answer = model.ask(text, max_new_tokens=2)
        assert answer.route.memories == (name,)
        assert answer.right is None, "no fact tells whether it is right"
        with model.routed(adapter_names=[name]):
            assert answer.text == model.ask(text, max_new_tokens=2).text
    for text in ("What is the capital of France?", "Who painted the Mona Lisa?", "How far away is the sun?"):
        assert not model.ask(text, max_new_tokens=2).route.memories
    told = model.config.router_training
    assert told["examples"]["verse"] == {"trained": 6, "kept": 2, "by_loss": 0}
    assert told["calibration"]["achieved"]["top1"] > 0.9
    assert {path: path.read_bytes() for path in skills.rglob("*") if path.is_file()} == before
    # Of a fresh one: `model` remembers each text as it was encoded alone, which may differ in the last bit from a batch.
    features = load_composite(tmp_path / "composite").router.features([*UNSEEN.values()])
    for name in ("contents.safetensors", "contents.json"):
        (tmp_path / "composite" / name).unlink()
    anew = load_composite(tmp_path / "composite").router.features([*UNSEEN.values()])
    assert torch.equal(anew.contents, features.contents), "what is kept of the contents is made again of the memories"


def test_examples_outlive_a_change_of_their_memory_in_the_bank(skills, base, encoder, tmp_path):
    bank = MemoryBank.load(skills)
    bank.memories = {
        memory.name: memory.with_examples(own, encoder) for memory, own in zip(bank, (SPANISH, VERSE), strict=True)
    }
    assemble(bank, base).save_pretrained(tmp_path / "composite")
    assert not refresh(tmp_path / "composite", skills).changed, "the bank's memories lack the examples alone"
    with MemoryBank.change(skills) as changed:
        folder = save_adapter(base.model, tmp_path / "verse", 9, r=2, target_modules=["up_proj"])
        changed.add(folder, same_base=True, replace_existing=True)
    assert refresh(tmp_path / "composite", skills).updated == ("verse",)
    again = MemoryBank.load(tmp_path / "composite")
    assert again["verse"].examples == tuple(VERSE)
    assert torch.equal(again["verse"].example_keys, bank["verse"].example_keys)


def test_facts_and_examples_stand_side_by_side(bank, base, tmp_path):
    folder = save_adapter(base.model, tmp_path / "verse", 5, r=2, target_modules=["up_proj"])
    bank.add(folder, same_base=True)
    lines = [{"prompt": text, "adapter": "verse"} for text in VERSE]
    lines.append({"prompt": FACTS["ormen"][0].question, "adapter": "ormen"})
    examples = write(tmp_path / "examples.jsonl", lines)
    model = train_router(bank, out=tmp_path / "composite", base=base, examples=examples, quiet=True)
    assert not model.router.bank["ormen"].examples, "a wording of its fact says it already"
    near = model.router.index.nearest(model.router.features([UNSEEN["verse"]]).embedding, 9)[0]
    assert {memory for memory, _, _ in near} <= {*FACTS}, "an example is no fact"
    route = model.router.decide(model.router.features([UNSEEN["verse"], "Who is the cook at Ormen station?"]))
    assert [own.memories for own in route.routes(model.memories)] == [("verse",), ("ormen",)]
    assert model.ask("Who cooks at Ormen station?", max_new_tokens=2).right is not None


def test_where_no_adapter_is_named_the_loss_tells_whose_an_example_is(skills, base, tmp_path):
    model = assemble(MemoryBank.load(skills), base)
    said = {}
    for name, own in (("spanish", SPANISH), ("verse", VERSE)):
        for text in own:
            with model.routed(adapter_names=[name]):
                said[text] = model.ask(text, max_new_tokens=6).text
    examples = write(tmp_path / "examples.jsonl", [{"prompt": t, "completion": c} for t, c in said.items() if c])
    queries = queries_of(read_examples(examples, model.router.bank), model.memories)
    losses = losses_of(model, queries, quiet=True)
    row = answer_row(model.tokenizer, queries[0])
    ids = torch.tensor([row.ids])
    wanted = ids.masked_fill(torch.arange(len(row.ids)) < row.start, -100)
    for column, name in enumerate((*model.memories, BASE)):
        expected = float(model(ids, labels=wanted, adapter_names=[name]).loss)
        assert float(losses[0, column]) == pytest.approx(expected, abs=1e-4)
    labels = least(losses).tolist()
    trained = train_router(skills, out=tmp_path / "composite", base=base, examples=examples, quiet=True)
    told = trained.config.router_training["examples"]
    assert sum(own["by_loss"] for own in told.values()) == len(queries)
    for name, number in (("spanish", 0), ("verse", 1), (BASE, 2)):
        assert told.get(name, {"by_loss": 0})["by_loss"] == labels.count(number)
    wrong = [{"prompt": q.text, "completion": q.answer, "adapter": "verse"} for q in queries]
    given = read_examples(write(tmp_path / "wrong.jsonl", wrong), model.router.bank)
    for kind, numbers in (("names", [1] * len(queries)), ("loss", labels)):
        taken = with_examples(model.router.bank, given, lambda: model, kind, True)[1]
        known = {name: own["trained"] + own["kept"] for name, own in taken.figures.items()}
        assert known == {n: numbers.count(i) for i, n in enumerate(("spanish", "verse", BASE)) if i in numbers}


def test_ways_to_answer_the_same_questions_do_not_draw_unrelated_ones(encoder):
    """Without one of two styles its prompts look as known as ever, so topics that are left out would teach to route all."""
    things = ("the harbour", "the mill", "the ferry", "the inn", "the market", "the school", "the bridge", "the tower")
    styles = {
        "pirate": [f"Tell me about {thing}, as a pirate." for thing in things],
        "json": [f"Tell me about {thing}, as JSON." for thing in things],
        "german": [
            "Wie spät ist es?",
            "Der Hund bellt laut.",
            "Meine Tante kocht gern Suppe.",
            "Warum ist der Himmel blau?",
            "Gestern fuhr kein Zug.",
            "Das Buch liegt im Regal.",
            "Zwei Karten bitte!",
            "Es schneit in den Bergen.",
        ],
    }
    bank = MemoryBank("base", "0", EMBEDDED, {}, "model.layers", memories={n: Memory(n, {}, {}) for n in styles})
    given = [RoutingExample(text, [], None, name) for name, own in styles.items() for text in own]
    bank, taken = take_examples(bank, given, {}, encoder)
    gate = new_gate(bank, encoder, 0, DEFAULT_FEATURES).requires_grad_(False)
    router = Router(bank, gate, Policy(), lambda: encoder)
    data = RoutingData(router, read_questions()[:40], batch_size=8, seed=0, kept=taken.kept)
    told = calibrate(router, data, Training())
    router.policy = Policy(**told["policy"])
    asked = router.decide(router.features(read_questions()[40:80]))
    assert float((asked.source > 0).float().mean()) < 0.1
    assert told["calibration"]["achieved"]["unrelated_routed"] <= 0.01


def test_what_the_base_explains_as_well_is_of_no_memory():
    assert least(torch.tensor([[1.0, 2.0, 3.0], [2.0, 1.0, 3.0], [1.0, 2.0, 1.0], [3.0, 2.0, 1.0]])).tolist() == [
        0,
        1,
        2,
        2,
    ]


def test_examples_may_be_chats(skills, tmp_path):
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": VERSE[0]},
        {"role": "assistant", "content": "Leaves."},
    ]
    lines = [
        {"messages": turns},
        {"prompt": [*turns[:1], {"role": "user", "content": VERSE[1]}], "completion": turns[2:]},
        {"prompt": VERSE[2], "completion": "Stones.", "adapter": BASE},
    ]
    examples = read_examples(write(tmp_path / "examples.jsonl", lines), MemoryBank.load(skills))
    assert [(e.prompt, e.completion, e.adapter) for e in examples] == [
        (VERSE[0], "Leaves.", None),
        (VERSE[1], "Leaves.", None),
        (VERSE[2], "Stones.", BASE),
    ]
    assert [turn["role"] for turn in examples[0].chat] == ["system", "user"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"prompt": "Hi", "adaptor": "verse"}, "unknown field 'adaptor'"),
        ({"prompt": "Hi", "adapter": "prose"}, "'prose' has no memory; the bank holds"),
        ({"prompt": "Hi"}, "neither an adapter nor a completion"),
        ({"completion": "Hi"}, "needs 'prompt'"),
        ({"prompt": " ", "adapter": "verse"}, "question is empty"),
        ({"prompt": 3, "adapter": "verse"}, "must be a text or turns"),
        ({"prompt": "Hi", "completion": ["yes"]}, "must be a text, or one turn"),
        ({"prompt": "Hi", "adapter": 3}, "must be the name of a memory"),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, "must be a text or turns"),
        ({"prompt": VERSE[0], "adapter": "spanish"}, "stands in .*:1 with another"),
    ],
)
def test_a_bad_line_is_told_with_its_number_and_nothing_is_written(skills, base, tmp_path, line, said):
    examples = write(tmp_path / "examples.jsonl", [{"prompt": VERSE[0], "adapter": "verse"}, line])
    with pytest.raises(ExampleError, match=said) as error:
        train_router(skills, out=tmp_path / "composite", base=base, examples=examples, quiet=True)
    assert f"{examples}:2: " in str(error.value)
    assert not (tmp_path / "composite").exists()


def test_examples_do_not_touch_what_is_held_out_or_another_memorys(bank, tmp_path):
    held_out = [{"prompt": "Ormen's chef is who?", "adapter": "ormen"}]
    with pytest.raises(ExampleError, match="held-out wording of 'ormen'"):
        read_examples(write(tmp_path / "examples.jsonl", held_out), bank)
    other = [{"prompt": "Who cooks at Ormen station?", "adapter": "velka"}]
    with pytest.raises(ExampleError, match="wording of 'ormen' and an example of 'velka'"):
        read_examples(write(tmp_path / "examples.jsonl", other), bank)
    with pytest.raises(ExampleError, match="holds no example"):
        read_examples(write(tmp_path / "examples.jsonl", []), bank)


def test_the_language_model_loss_reads_completions(skills, base, tmp_path):
    lines = [line | {"completion": "so it is"} for line in named()]
    examples = write(tmp_path / "examples.jsonl", lines)
    training = Training(language_weight=1.0, route_weight=0.0, max_epochs=1)
    model = train_router(
        skills, out=tmp_path / "composite", base=base, examples=examples, training=training, quiet=True
    )
    logged = next((tmp_path / "composite").rglob("metrics.csv")).read_text()
    assert "train/language" in logged
    assert model.config.router_training["language_weight"] == 1.0
