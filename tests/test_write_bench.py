"""The bench of writing: every way writes the same rows and is asked the same wordings; a report of what was measured."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from conftest import FACTS
from test_wordings import FACTS as STATIONS

from lorary.__main__ import main
from lorary.bank.facts import FactError
from lorary.base.rows import default_split
from lorary.memories.recipe import Recipe
from lorary.memories.rows import tokenise
from lorary.research.bench_settings import WriteBench
from lorary.research.settings import StudyError
from lorary.research.write_bench import BEFORE, _batch, by_build, by_trainer, recalled, write_bench
from lorary.research.write_bench_report import faster, gain, recall


def run(topic="a", seed=0, seconds=1.0, hits=((True, False),)):
    return {"topic": topic, "seed": seed, "facts": len(hits), "processor_seconds": seconds, "hits": [*map(list, hits)]}


def test_build_and_trainer_learn_the_rows_and_are_asked_in_held_out_wordings(base):
    built = by_build(base, STATIONS, Recipe(max_epochs=40, lr=1e-2, recall=None))
    trained = by_trainer(base, STATIONS, 40, 1e-2, 8, 0)
    for made in (built, trained):
        assert made["facts"] == 3
        assert [len(hits) for hits in made["hits"]] == [2, 2, 2]
        assert sum(map(sum, made["hits"])) > 0
    texts = 3 * 7
    assert trained["shown"] == 40 * texts
    assert 0 < built["shown"] <= trained["shown"], "each text once a pass, and a certain one less often"
    assert (
        by_build(base, STATIONS, Recipe(max_epochs=2))["hits"] == by_build(base, STATIONS, Recipe(max_epochs=2))["hits"]
    )


def test_recall_is_that_of_greedy_decoding(base):
    model, asked = base.model, replace(STATIONS[0], held_out=("Who?", "Whose pots?"))
    row = tokenise(base.tokenizer, 0, 0, "Who?", "x")
    said = model.generate(torch.tensor([row.ids[: row.start]]), max_new_tokens=3, do_sample=False, eos_token_id=None)
    text = base.tokenizer.decode(said[0, row.start :])
    [hits] = recalled(model, default_split(model), base, [replace(asked, answer=text)])
    greedy = tokenise(base.tokenizer, 0, 0, "Who?", text).ids[row.start :]
    assert hits[0] == (list(greedy[:3]) == said[0, row.start :].tolist() and len(greedy) == 3)
    assert recalled(model, 0, base, [asked]) == recalled(model, default_split(model), base, [asked])


def test_trainer_gets_labels_that_a_model_shifts_itself(base):
    rows = [tokenise(base.tokenizer, 0, 0, text, "Halvard") for text in ("Who?", "Who cooks at Ormen?")]
    batch = _batch(rows, 0)
    assert batch["input_ids"].shape == batch["labels"].shape
    loss = base.model(**batch).loss
    each = [base.model(torch.tensor([row.ids])).logits[0, row.start - 1 : -1].log_softmax(-1) for row in rows]
    wanted = [torch.tensor(row.ids[row.start :]) for row in rows]
    # The last token of the longest row is not an input, so nothing learns to follow it.
    expected = -torch.cat([e.gather(1, w[:, None])[:, 0] for e, w in zip(each, wanted, strict=True)])
    kept = torch.ones(len(expected), dtype=torch.bool)
    widest = len(batch["input_ids"][0])
    at = 0
    for row, w in zip(rows, wanted, strict=True):
        kept[at + len(w) - 1] = len(row.ids) <= widest
        at += len(w)
    assert torch.allclose(loss, expected[kept].mean(), atol=1e-4)


def test_how_much_faster_and_how_much_better_are_compared_pair_by_pair():
    build = [run(seconds=2.0, hits=[(True, True)]), run(seed=1, seconds=3.0, hits=[(True, False)])]
    other = [run(seconds=8.0, hits=[(True, False)]), run(seed=2, seconds=1.0)]
    assert faster(build, other) == [4.0]
    assert gain(build, other)["value"] == pytest.approx(0.5)
    assert recall(build)["value"] == pytest.approx(0.75)
    assert gain(build, [run(topic="b")]) is None


def test_a_bench_goes_on_where_it_was_stopped(base, tmp_path, capsys):
    facts = tmp_path / "stations.jsonl"
    facts.write_text("".join(json.dumps(fact.to_json()) + "\n" for fact in STATIONS))
    command = ["research", "write-bench", "--out", str(tmp_path / "out"), "--facts", str(facts), "--base", base.name]
    settings = ["--quiet", "--seeds", "1", "--trainer-epochs", "1"]
    bench = ["--trainer-lrs", "1e-3"]
    assert main([*command, *settings, *bench]) == 0
    told = capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    ways = ["build", "build --quick", "build before", "Trainer, 1 epoch, lr 0.001"]
    assert [made["way"] for made in results["runs"]] == ways
    assert all(f"| {way} |" in told for way in ways)
    assert 0 < results["profile"]["products"] < 1
    assert all(rate["bfloat16"] > 0 and rate["float32"] > 0 for rate in results["matmul"])
    before = [made["processor_seconds"] for made in results["runs"]]
    assert main([*command, *settings, *bench]) == 0
    again = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [made["processor_seconds"] for made in again["runs"]] == before, "nothing is written twice"


def test_facts_without_held_out_wordings_and_senseless_settings_are_refused(base, tmp_path):
    facts = tmp_path / "lamps.jsonl"
    facts.write_text(json.dumps(replace(FACTS["ormen"][0], held_out=()).to_json()) + "\n")
    with pytest.raises(FactError, match="has no held-out wording to ask"):
        write_bench(tmp_path / "out", facts=[facts], base=base, quiet=True)
    with pytest.raises(StudyError, match="trainer_lrs must be above 0"):
        WriteBench(trainer_lrs=(0.0,))
    assert (BEFORE.texts_a_pass, BEFORE.compared) == (None, None)
