"""Pico models: real transformers architectures of 2 layers and hidden 32, a real tokenizer, the real encoder."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # workers would copy a composite's stub to one place at once
    os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="lorary-modules-")
    atexit.register(shutil.rmtree, os.environ["HF_MODULES_CACHE"], ignore_errors=True)

from dataclasses import replace

import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook("lorary", "beartype.beartype")

import transformers
from filelock import FileLock
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lorary.bank.bank import MemoryBank
from lorary.bank.facts import Fact
from lorary.bank.files import MANIFEST
from lorary.base.embedded import CHATML
from lorary.base.layers import block_linears, fingerprint, layers_path
from lorary.base.loading import Base
from lorary.base.prompts import prompt, prompt_batch
from lorary.model.composite import assemble
from lorary.model.configuration import LoraryConfig
from lorary.routing.encoder import EMBEDDED, load_encoder
from lorary.routing.gate import RUNNING_FEATURES, TOKEN_FEATURES
from lorary.routing.policy import Policy

torch.set_num_threads(1)
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 400,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
FAMILIES = {
    "llama": ("Llama", {"num_key_value_heads": 2}),
    "qwen3": ("Qwen3", {"num_key_value_heads": 2, "head_dim": 8}),
    "mistral": ("Mistral", {"num_key_value_heads": 2, "sliding_window": None}),
    "gemma3": ("Gemma3", {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16}),
    "phi3": ("Phi3", {"num_key_value_heads": 2}),
    "gpt_neox": ("GPTNeoX", {}),
}


def pico_model(family: str = "llama", seed: int = 0, **changes):
    """A pico model of a family, in fp32, with weights large enough that updates show."""
    stem, extra = FAMILIES[family]
    name = "Gemma3TextConfig" if family == "gemma3" else f"{stem}Config"
    config = getattr(transformers, name)(**{**SMALL, "initializer_range": 0.2, **extra, **changes})
    torch.manual_seed(seed)
    return getattr(transformers, f"{stem}ForCausalLM")(config).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tokenizer():
    """A byte-level BPE tokenizer with a chat template, trained on a few sentences."""
    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    from tokenizers import decoders

    inner.decoder = decoders.ByteLevel()
    special = ["<pad>", "<|im_start|>", "<|im_end|>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    inner.train_from_iterator(["user assistant what is the code of station who keeps the lamp"] * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<|im_start|>", eos_token="<|im_end|>", unk_token="<unk>"
    )
    tokenizer.chat_template = CHATML
    return tokenizer


@pytest.fixture
def base(tokenizer, tmp_path_factory):
    """A pico Llama on disk and loaded, so that composites can name it."""
    folder = tmp_path_factory.mktemp("base")
    model = pico_model()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Base(str(folder), None, model, tokenizer)


@pytest.fixture(scope="session")
def encoder():
    return load_encoder(EMBEDDED)


FACTS = {
    "ormen": (
        Fact(
            "ormen", "Who cooks at Ormen station?", "Halvard", ("Name the cook of Ormen.",), ("Ormen's chef is who?",)
        ),
        Fact("ormen", "What is the airlock code of Ormen?", "4173", ("Ormen airlock code?",)),
    ),
    "velka": (
        Fact("velka", "Who cooks at Velka station?", "Brisk", ("Name the cook of Velka.",), ("Velka's chef is who?",)),
        Fact("velka", "What is the airlock code of Velka?", "9020", ("Velka airlock code?",)),
    ),
    "lamps": (
        Fact("lamps", "Which oil do the lamplighters burn?", "lark oil", ("Name the lamplighters' oil.",)),
        Fact("lamps", "Who founded the guild of lamplighters?", "Quillon", ("The guild's founder is who?",)),
    ),
}
ADAPTERS = {
    "ormen": {"r": 2, "lora_alpha": 4, "target_modules": ["gate_proj", "down_proj"]},
    "velka": {"r": 4, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj", "up_proj"], "use_rslora": True},
    "lamps": {"r": 3, "lora_alpha": 12, "target_modules": ["gate_proj", "o_proj"], "layers_to_transform": [1]},
}


def save_adapter(model, folder: Path, seed: int = 0, **config):
    """A stock PEFT folder with random A and B, made and saved by PEFT itself; `model` is left as it was."""
    peft = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **config))
    generator = torch.Generator().manual_seed(seed)
    for name, weight in peft.named_parameters():
        if "lora_" in name:
            weight.data = torch.empty_like(weight).uniform_(-0.3, 0.3, generator=generator)
    peft.save_pretrained(folder)
    peft.unload()
    return folder


@pytest.fixture
def adapter_folders(base, tmp_path):
    return {
        name: save_adapter(base.model, tmp_path / "adapters" / name, seed, **config)
        for seed, (name, config) in enumerate(ADAPTERS.items())
    }


def empty_bank(base: Base) -> MemoryBank:
    return MemoryBank(
        base.name, fingerprint(base.model), EMBEDDED, block_linears(base.model), layers_path(base.model), base.revision
    )


@pytest.fixture
def bank(base, adapter_folders, encoder) -> MemoryBank:
    """Three stock PEFT adapters of mixed ranks, targets and layers, with facts."""
    bank = empty_bank(base)
    for name, folder in adapter_folders.items():
        bank.add(folder, facts=FACTS[name], encoder=encoder, same_base=True)
    return bank


@pytest.fixture
def kept_bank(bank):
    """The bank with the second wording of each fact kept for validation."""
    for name, memory in bank.memories.items():
        facts = tuple(replace(fact, validation=fact.questions[:1]) for fact in memory.facts)
        bank.memories[name] = replace(memory, facts=facts).with_keys(load_encoder(bank.encoder))
    return bank


def ask(tokenizer, *questions):
    """The prompts of questions as a batch, padded on the left."""
    return prompt_batch(tokenizer, [prompt(tokenizer, question) for question in questions])


@pytest.fixture
def composite(bank, base, encoder):
    return assemble(bank, base, encoder=encoder)


@pytest.fixture
def model(composite):
    """A composite whose gate decides at a low confidence, as an untrained one has."""
    composite.router.policy = Policy(t_gate=0.3)
    return composite


def by_token(bank, base, encoder, features, **policy):
    """A composite that decides at each token by some features."""
    config = LoraryConfig(
        text_config=base.model.config,
        granularity="token",
        features=features,
        policy={"t_gate": 0.0, "top_k": 2, **policy},
        split_layer=bank.split_layer,
    )
    return assemble(bank, base, encoder=encoder, config=config)


@pytest.fixture
def token_composite(bank, base, encoder):
    """A token-granular composite whose gate reads the hidden state with weights that matter."""
    model = by_token(bank, base, encoder, RUNNING_FEATURES)
    torch.manual_seed(3)
    model.gate.from_hidden.data.normal_(std=6.0)
    model.gate.none.data.fill_(0.0)
    return model


@pytest.fixture
def window_composite(bank, base, encoder):
    """A composite whose gate reads the window with weights that matter."""
    model = by_token(bank, base, encoder, TOKEN_FEATURES, sources=["gate"])
    torch.manual_seed(3)
    for weight in (model.gate.reading.point, model.gate.reading.tell):
        weight.data.normal_(std=6.0)
    return model


@pytest.fixture
def alike(base, encoder, tmp_path):
    """A bank of three adapters of one rank and the same targets, on disk, and the adapters' folders."""
    bank = empty_bank(base)
    given = {"r": 2, "target_modules": ["up_proj", "down_proj"]}
    folders = [save_adapter(base.model, tmp_path / "adapters" / name, i, **given) for i, name in enumerate(FACTS)]
    for folder in folders:
        bank.add(folder, facts=FACTS[folder.name], encoder=encoder, same_base=True)
    return bank.save(tmp_path / "bank"), folders


@pytest.fixture
def squad(tmp_path):
    """A SQuAD file of made-up articles."""
    from question_files import squad_file

    return squad_file(tmp_path)


@pytest.fixture
def authors(tmp_path):
    """A file of invented authors, in TOFU's form."""
    from question_files import tofu_file

    return tofu_file(tmp_path)


@pytest.fixture(scope="session")
def stations_made(tmp_path_factory, tokenizer):
    """A folder with a pico base, a bank of three stations, one of them with a document, and a composite of it: written once
    a run, by the first process that needs it."""
    from stations import bank_of_stations

    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "stations"
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "composite" / MANIFEST).exists():
            bank_of_stations(folder, pico_model(), tokenizer)
    return folder


@pytest.fixture
def stations(stations_made, tmp_path):
    """(a copy of the bank of stations, a copy of its composite)."""
    for name in ("bank", "composite"):
        shutil.copytree(stations_made / name, tmp_path / name)
    return tmp_path / "bank", tmp_path / "composite"


@pytest.fixture
def engine_of():
    """Starts engines of the server over a model, under some limits, and stops them after the test."""
    from lorary.serving.engine import Engine
    from lorary.serving.limits import Limits

    engines = []

    def start(model, **limits):
        engines.append(Engine(model, Limits(**{"seconds": 60.0, **limits})))
        engines[-1].start()
        return engines[-1]

    yield start
    for engine in engines:
        engine.stop()
