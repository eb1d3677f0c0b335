"""Facts by a real OpenAI-compatible server on this machine: transformers serves the embedded base."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from lorary.bank.documents import Passage
from lorary.bank.facts import Fact
from lorary.base.loading import load_base
from lorary.intake.generators import generator_named
from lorary.intake.generators.endpoint import EndpointError, endpoint_generator

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        importlib.util.find_spec("uvicorn") is None, reason="transformers serves with the extra transformers[serving]"
    ),
]
PASSAGE = Passage("The Amberly clinic was founded in 1987 by the surgeon Imrie Colquand.", "clinic.md")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """(address, name of the model) of a server that answers with the embedded base."""
    folder = tmp_path_factory.mktemp("served")
    base = load_base(dtype="float32")
    base.model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    command = [str(program)] if program.exists() else [sys.executable, "-m", "transformers.cli.transformers"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
            stdout=log,
            stderr=log,
            env=environment,
        )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.5)
        else:
            raise AssertionError((folder / "log").read_text())
        yield f"http://127.0.0.1:{port}/v1", str(folder)
    finally:
        process.kill()  # in the middle of an answer it does not listen to milder signals
        process.wait()


def test_a_server_on_this_machine_proposes_facts(server):
    """The small base says much that is wrong; what it says is read, and comes with the passage's source."""
    address, model = server
    generator = endpoint_generator(address, model, timeout=900.0, retries=0, longest=80)
    proposed = list(generator.propose(PASSAGE, (), "clinic"))
    assert proposed
    facts = [fact for fact in proposed if isinstance(fact, Fact)]
    assert facts, proposed
    assert {(fact.topic, fact.source) for fact in facts} == {("clinic", "clinic.md")}
    assert any("Imrie Colquand" in fact.answer for fact in facts), facts


def test_a_wrong_address_of_the_server_says_what_to_do(server):
    address, model = server
    generator = generator_named("endpoint", endpoint=address.removesuffix("/v1"), model=model)
    with pytest.raises(EndpointError, match="ends in /v1"):
        list(generator.propose(PASSAGE, (), "clinic"))
