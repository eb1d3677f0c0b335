"""A cluster writes what this machine writes, whatever becomes of its workers; and what cannot write is told at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import dask
import pytest
from conftest import FACTS, pico_model
from distributed import Client, LocalCluster

import lorary.memories.cluster
from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.errors import LoraryError
from lorary.memories import Recipe, build
from lorary.memories.cluster import ClusterError, ClusterWarning
from lorary.progress import ProgressBar

RECIPE = Recipe(split_layer=1, max_epochs=20, recall=None, validation_wordings=1, memories_at_once=1)


@pytest.fixture
def folder(tmp_path, tokenizer):
    """A pico base and facts of six topics, on disk."""
    save_base(tmp_path / "base", tokenizer)
    (tmp_path / "facts").mkdir()
    for topic, facts in FACTS.items():
        for copy in ("one", "two"):
            lines = (json.dumps(fact.to_json() | {"topic": f"{topic}-{copy}"}) + "\n" for fact in facts)
            (tmp_path / "facts" / f"{topic}-{copy}.jsonl").write_text("".join(lines))
    return tmp_path


def save_base(place, tokenizer, seed=0):
    pico_model(seed=seed).save_pretrained(place)
    tokenizer.save_pretrained(place)


@contextmanager
def scheduler(workers=0, threads=1, **settings):
    """The address of a scheduler in this process, with workers in processes of their own that a nanny starts again."""
    kind = {"threads_per_worker": threads, "dashboard_address": ":0", "silence_logs": 50}
    with dask.config.set(settings), LocalCluster(n_workers=workers, **kind) as cluster:
        yield cluster.scheduler_address


@contextmanager
def worker(address, first="", **settings):
    """A worker as `dask worker` starts it, which runs the line `first` before anything else."""
    code = f"{first}\nfrom distributed.cli.dask_worker import main\nmain()"
    options = ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
    process = subprocess.Popen([sys.executable, "-c", code, address, *options], stderr=subprocess.DEVNULL, **settings)
    with process:
        try:
            with Client(address, set_as_default=False) as client:
                client.wait_for_workers(1, timeout=60)
            yield process
        finally:
            process.kill()


def on(address, folder, **options):
    """The bank that a cluster writes into `folder`."""
    options = {"base": str(folder / "base"), "recipe": RECIPE, "quiet": True, **options}
    return build([folder / "facts"], out=folder / "bank", cluster=address, **options)


def adapters(bank):
    return {
        str(file.relative_to(bank)): sha256(file.read_bytes()).hexdigest() for file in bank.glob("memories/*/adapter*")
    }


@contextmanager
def killed_while_it_writes(address, monkeypatch):
    """Kills the worker whose job is the first to report a whole pass; yields a list that gets (its pid, its jobs)."""
    reported, killed = threading.Event(), []
    report = ProgressBar.report

    def seen(self, passes, recall):
        report(self, passes, recall)
        if passes >= 1:
            reported.set()

    def kill():
        reported.wait()
        with Client(address, set_as_default=False) as client:
            jobs, pids = client.processing(), client.run(os.getpid)
            place = max(jobs, key=lambda place: len(jobs[place]))
            os.kill(pids[place], signal.SIGKILL)
            killed.append((pids[place], jobs[place]))

    monkeypatch.setattr(ProgressBar, "report", seen)
    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    yield killed
    killer.join(30)


def test_a_cluster_writes_what_this_machine_writes_though_a_worker_is_killed(folder, monkeypatch):
    base = str(folder / "base")
    alone = build([folder / "facts"], out=folder / "alone", base=base, recipe=RECIPE, processes=1, quiet=True)
    added = []
    add = MemoryBank.add
    monkeypatch.setattr(
        MemoryBank, "add", lambda self, memory, **how: added.append(memory.name) or add(self, memory, **how)
    )
    with scheduler(workers=2) as address:
        with killed_while_it_writes(address, monkeypatch) as killed:
            bank = on(address, folder)
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            pids = set(client.run(os.getpid).values())
            loads = client.run(lambda: __import__("lorary.memories.groups").memories.groups._loaded.cache_info().misses)
    [(pid, jobs)] = killed
    assert jobs, "it had jobs when it died"
    assert pid not in pids, "another was started"
    assert max(loads.values()) == 1, "the base is loaded once a worker"
    assert bank.names == alone.names
    assert sorted(added) == sorted(alone.names), "each memory is written once"
    assert adapters(folder / "bank") == adapters(folder / "alone")
    assert len(adapters(folder / "bank")) == 2 * len(FACTS) * 2


def test_who_does_not_answer_is_told_within_seconds(folder, capsys):
    with socket.socket() as silent, socket.socket() as closed:
        for taken in (silent, closed):
            taken.bind(("127.0.0.1", 0))
        silent.listen()  # takes connections and never says a word, as a server of another kind may
        for place in (silent, closed):
            began, address = time.monotonic(), f"tcp://127.0.0.1:{place.getsockname()[1]}"
            with pytest.raises(ClusterError, match=f"no Dask scheduler answers at '{address}' within 5 s"):
                on(address, folder, base="a base that is never loaded")
            assert time.monotonic() - began < 15
    for address in ("somewhere", "ray://127.0.0.1:10001", ""):
        assert main(["build", str(folder / "facts"), "--out", str(folder / "bank"), "--cluster", address]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"lorary: error: no Dask scheduler answers at {address!r}")
    assert not (folder / "bank").exists()


def test_a_cluster_and_processes_are_one_too_many(folder):
    with pytest.raises(LoraryError, match="give processes or cluster"):
        on("tcp://127.0.0.1:8786", folder, processes=2)


def test_a_cluster_that_cannot_write_is_told_before_anything_is_trained(folder, tokenizer, tmp_path, monkeypatch):
    other = tmp_path / "other"
    for package, place in ((lorary, "lorary"), (lorary.memories, "lorary/memories")):  # in a wheel one holds the other
        shutil.copytree(
            Path(package.__file__).parent,
            other / place,
            ignore=shutil.ignore_patterns("__pycache__"),
            dirs_exist_ok=True,
        )
    with (other / "lorary/memories/writing.py").open("a") as file:
        file.write("# Another version.\n")
    other_torch = (
        "import importlib.metadata as m; found = m.version\n"
        "m.version = lambda name: '2.0.0' if name == 'torch' else found(name)"
    )
    cases = [
        ("has torch 2.0.0, this process has 2", {"first": other_torch}),
        (r"has lorary .* \(code \w+\), this process has", {"env": {**os.environ, "PYTHONPATH": str(other)}}),
        ("cannot import this lorary", {"first": "import sys; sys.modules['lorary'] = None"}),
    ]
    with scheduler() as address:
        monkeypatch.setattr(lorary.memories.cluster, "ANSWERS", 1)
        with pytest.raises(ClusterError, match=f"the scheduler at '{address}' has no worker"):
            on(address, folder)
        monkeypatch.undo()
        for message, kind in cases:
            with worker(address, **kind), pytest.raises(ClusterError, match=f"^worker tcp:\\S+ {message}"):
                on(address, folder)
        assert not (folder / "bank").exists()
        # A name that is relative to a folder stands for nothing on one worker, and for another base on the next.
        monkeypatch.chdir(folder)
        save_base(tmp_path / "there" / "base", tokenizer, seed=1)
        for message, place in (("cannot be loaded", "facts"), ("is another base here", "there")):
            wrong = pytest.raises(ClusterError, match=f"^worker tcp:\\S+: base 'base' {message}")
            with worker(address, cwd=folder / place), wrong:
                on(address, folder, base="base")
        assert not (folder / "bank" / "bank.json").exists()


def test_a_job_that_kills_its_workers_is_given_up(folder, monkeypatch):
    crowded = pytest.warns(ClusterWarning, match="1 of 1 workers take several jobs and do one at a time")
    died = pytest.raises(ClusterError, match=r"since 1 workers at '.*' died while they wrote it")
    place = scheduler(workers=1, threads=2, **{"distributed.scheduler.allowed-failures": 0})
    with place as address, killed_while_it_writes(address, monkeypatch), crowded, died:
        on(address, folder)


def test_a_cluster_that_loses_its_last_worker_is_told(folder, monkeypatch):
    monkeypatch.setattr(lorary.memories.cluster, "ANSWERS", 3)
    monkeypatch.setattr(lorary.memories.cluster, "RETURNS", 1)
    with scheduler() as address, worker(address):
        gone = pytest.raises(ClusterError, match="has had no worker for 1 s; what was saved stays")
        with killed_while_it_writes(address, monkeypatch), gone:
            on(address, folder)


def test_a_scheduler_that_goes_is_told(folder, monkeypatch):
    file = folder / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", *options]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        waited_for(file.exists)
        address = json.loads(file.read_text())["address"]
        reported = threading.Event()
        monkeypatch.setattr(ProgressBar, "report", lambda self, *state: reported.set())
        threading.Thread(target=lambda: reported.wait() and process.kill(), daemon=True).start()
        with worker(address), pytest.raises(ClusterError, match="is gone or gave the jobs up; what was saved stays"):
            on(address, folder)


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell runs in the background ignores it
from lorary.memories import Recipe, build
recipe = Recipe(split_layer=1, max_epochs=60, recall=None, texts_a_pass=None, memories_at_once=1)
try:
    build(["facts"], out="bank", base=sys.argv[1], recipe=recipe, cluster=sys.argv[2], quiet=True)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_ctrl_c_keeps_what_was_saved_and_ends_the_jobs(folder):
    [first, *_, long] = sorted((folder / "facts").iterdir())
    [line, *_] = first.read_text().splitlines()
    fact = json.loads(line) | {"topic": "long", "held_out": []}
    wordings = [f"In year {year}: {fact['question']}" for year in range(3000)]
    long.write_text(json.dumps(fact | {"question": wordings[0], "questions": wordings[1:], "validation": []}) + "\n")
    with scheduler(workers=2) as address, Client(address, set_as_default=False) as client:
        command = [sys.executable, "-c", INTERRUPTED, str(folder / "base"), address]
        with subprocess.Popen(command, cwd=folder) as building:
            waited_for((folder / "bank" / "bank.json").exists)
            assert running(client) >= 1
            building.send_signal(signal.SIGINT)
            assert building.wait(60) == 130
        assert len(MemoryBank.load(folder / "bank")) >= 1
        waited_for(lambda: not running(client), seconds=30)  # the long one alone would take minutes
        assert not any(client.processing().values())


def running(client):
    """How many jobs run on the workers, wanted or not."""
    return sum(client.run(lambda dask_worker: len(dask_worker.active_threads)).values())


def waited_for(true, seconds=120):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
