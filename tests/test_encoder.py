"""The encoder: what it reads, what it cuts, copies of it, and threads that share it."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from random import Random

import pytest
import torch
from sentence_transformers import SentenceTransformer
from stops import in_a_process

import lorary.memories
from lorary.bank.facts import Fact, read_facts
from lorary.bank.memory import Memory
from lorary.routing.encoder import EMBEDDED, EncoderWarning, embedded_folder, encoder_name, load_encoder
from lorary.routing.index import FactIndex

UNREADABLE = ["🙂🙂", "🎃", "🙂🙂?", "ใครทำอาหาร", "你好吗？", "?!", "", " ", "[UNK]"]
READABLE = ["Who cooks?", "Кто готовит?", "√2 + 1", "🙂 Ormen", "9020", "café"]


def test_text_outside_the_vocabulary_has_no_vector(encoder):
    assert encoder.reads(UNREADABLE).tolist() == [False] * len(UNREADABLE)
    assert encoder.reads(READABLE).tolist() == [True] * len(READABLE)
    assert not encoder.encode(UNREADABLE).any()
    assert torch.allclose(encoder.encode(READABLE).norm(dim=-1), torch.ones(len(READABLE)), atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        vectors = encoder.encode(["Who cooks?", "🙂🙂", "Who sails?"])
    assert torch.allclose(vectors[[0, 2]], encoder.encode(["Who cooks?", "Who sails?"]), atol=1e-6)
    assert encoder.reads([]).shape == (0,)


def test_memories_of_emoji_do_not_answer_for_each_other(encoder):
    """All emoji are one unknown piece: once, the first memory was found at similarity 1.00 for each of them."""
    index = FactIndex(encoder.dimension)
    facts = {"smiles": "🙂🙂", "pumpkins": "🎃 🎃", "cooks": "Who cooks?"}
    with pytest.warns(EncoderWarning, match=r"cannot read 1 of 1 wording of memory 'smiles': '🙂🙂'"):
        memories = [Memory(name, {}, {}, (Fact(name, q, "a"),)).with_keys(encoder) for name, q in facts.items()]
    for memory in memories:
        index.add(memory.name, memory.keys, memory.key_facts)
    votes = index.votes(encoder.encode(["🎃 🎃", "🐙", "Who cooks?"]), [*facts])
    assert not votes[:2].any()
    assert votes[2].tolist() == [0, 0, pytest.approx(1.0)]


def test_what_is_longer_than_the_window_is_told_and_counted(encoder):
    assert encoder.longest == 254
    whole, longer = "word " * encoder.longest, "word " * (encoder.longest + 1)
    assert encoder.lengths([whole, longer, ""]) == [254, 255, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode([whole, "Who cooks?"])
    with pytest.warns(EncoderWarning, match=r"254 word pieces.*2 of 3 texts \(the longest has 300") as warned:
        vectors = encoder.encode([longer, "Who cooks?", "word " * 300])
    assert len(warned) == 1
    assert torch.allclose(vectors[0], encoder.encode([whole])[0], atol=1e-5), "the end was not read"


def test_a_copy_is_the_encoder_and_a_pickle_its_name(encoder):
    assert copy.deepcopy(encoder) is encoder
    assert pickle.loads(pickle.dumps(encoder)) is load_encoder(encoder.name, encoder._local_files_only)
    assert len(pickle.dumps(encoder)) < 500
    code = "import pickle, sys; e = pickle.load(sys.stdin.buffer); print(e.name, e.encode(['Who cooks?'])[0, 0].item())"
    ran = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(encoder), capture_output=True, check=True)
    name, first = ran.stdout.decode().rsplit(maxsplit=1)
    assert name == encoder.name
    assert float(first) == pytest.approx(float(encoder.encode(["Who cooks?"])[0, 0]), abs=1e-5)


def test_a_saved_encoder_pickles_by_its_folder(encoder, tmp_path):
    encoder.save(tmp_path / "encoder")
    saved = load_encoder(str(tmp_path / "encoder"))
    assert pickle.loads(pickle.dumps(saved)) is saved
    assert torch.allclose(saved.encode(READABLE), encoder.encode(READABLE), atol=1e-6)
    assert saved.longest == encoder.longest


def test_a_name_is_no_folder_where_the_working_folder_is_closed(tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    closed.mkdir()
    monkeypatch.chdir(closed)
    closed.chmod(0o000)

    def names():
        if os.geteuid() == 0:  # who may look into any folder
            os.setgid(65534)
            os.setuid(65534)
        return int([encoder_name(name) for name in (EMBEDDED, "an/encoder")] != [EMBEDDED, "an/encoder"])

    try:
        assert in_a_process(names) == (0, "")
    finally:
        closed.chmod(0o700)


def test_threads_get_what_each_gets_alone(encoder):
    batches = [["Who cooks?"], ["word " * 90, "a"], ["Who sails where?", "🙂🙂", "word " * 40], ["x"] * 5]
    alone = [encoder.encode(batch) for batch in batches]
    backend = encoder.model.tokenizer.backend_tokenizer
    start, wrong = threading.Barrier(4), []

    def ask(first: int) -> None:
        start.wait()
        for step in range(4):
            number = (first + step) % len(batches)
            if not torch.equal(encoder.encode(batches[number]), alone[number]):
                wrong.append(number)

    backend.no_truncation()  # as in a tokenizer that was never asked
    backend.no_padding()
    threads = [threading.Thread(target=ask, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_embedded_encoder_computes_what_sentence_transformers_computes(encoder):
    """Keys that stand in banks were made by the library."""
    library = SentenceTransformer(str(embedded_folder()), device="cpu", local_files_only=True)
    files = sorted((Path(lorary.memories.__file__).parent / "samples").glob("*.jsonl"))
    texts = [
        text for file in files[:2] for fact in read_facts(file) for text in (*fact.questions, fact.statement or "")
    ]
    texts += ["Ormen's cook " * 60, "  Who\tcooks? \n", "WHO COOKS?", "Où est l'été?", *READABLE, *UNREADABLE]
    for size in (1, 2, 33, 150):
        batch = Random(size).sample(texts, size)
        theirs = library.encode(batch, convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False)
        assert torch.equal(encoder.model.encode(batch), theirs)
    assert (encoder.model.max_seq_length, encoder.dimension) == (library.max_seq_length, 384)
    assert encoder.model.tokenizer.backend_tokenizer.to_str() == library.tokenizer.backend_tokenizer.to_str()


def test_a_question_is_encoded_without_the_import_of_sentence_transformers():
    code = (
        "import sys; from lorary.routing.encoder import load_encoder; load_encoder().encode(['Who cooks?']);"
        "assert not {'sentence_transformers', 'sklearn', 'datasets', 'peft'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
