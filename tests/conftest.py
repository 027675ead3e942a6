"""Eight simulated CPU devices for every test, set before JAX starts; figures that tests show; small Hugging Face models."""

import fcntl
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("SPARSIFY_DISABLE_TRITON", "1")  # a torch with Triton takes it for tensors on the CPU too
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

from jaxsae.harvest import HarvestConfig
from jaxsae.harvest.text_config import TextConfig
from jaxsae.lm import libraries

RECORDED = Path(__file__).parent / "recorded.json"
GROWTH = 1.1


@pytest.fixture
def show(record_property):
    """show(line): the line stands in the summary after the tests, whatever process they ran in."""
    return lambda line: record_property("shown", line)


@pytest.fixture
def recorded(show):
    """recorded(name, value): fails where `value` is over 1.1 times what `recorded.json` has for this jax.

    Where it has nothing the summary says so. JAXSAE_RECORD=1 writes the values down instead.
    """
    import jax

    def compare(name: str, value: float) -> None:
        if os.environ.get("JAXSAE_RECORD") == "1":
            with RECORDED.open("a+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # tests run in several processes
                file.seek(0)
                figures = json.loads(file.read() or "{}")
                figures.setdefault(jax.__version__, {})[name] = value
                file.truncate(0)
                file.write(json.dumps(figures, indent=2, sort_keys=True) + "\n")
            return
        before = json.loads(RECORDED.read_text()).get(jax.__version__, {}).get(name)
        if before is None:
            show(f"{name}: {value:,.0f}, nothing recorded for jax {jax.__version__}")
        else:
            assert value <= GROWTH * before, f"{name} grew from {before:,.0f} to {value:,.0f} (JAXSAE_RECORD=1 accepts)"

    return compare


def pytest_terminal_summary(terminalreporter):
    """Prints what tests showed."""
    reports = [r for group in terminalreporter.stats.values() for r in group if getattr(r, "when", "") == "call"]
    shown = [text for r in reports for name, text in r.user_properties if name == "shown"]
    if shown:
        terminalreporter.section("figures")
        for text in shown:
            terminalreporter.write_line(text)


D, LAYERS, CONTEXT = 16, 3, 24
LETTERS = "abcdefghijklmnopqrstuvwxyz .\n"
FAMILIES = ("gpt2", "llama", "neox", "gemma2", "qwen3", "bert")
SHAPE = dict(hidden_size=D, num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=32, vocab_size=40)
GROUPED = dict(num_key_value_heads=1, head_dim=8)


def model_config(transformers, family: str):
    """The configuration of a three-block model of a family."""
    gpt2 = dict(n_embd=D, n_layer=LAYERS, n_head=2, vocab_size=40, n_positions=64, bos_token_id=0, eos_token_id=0)
    positions = dict(max_position_embeddings=64)
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    return {
        "gpt2": lambda: transformers.GPT2Config(**gpt2),
        "llama": lambda: transformers.LlamaConfig(**SHAPE, **positions, num_key_value_heads=1),
        "neox": lambda: transformers.GPTNeoXConfig(**SHAPE, **positions),
        "gemma2": lambda: transformers.Gemma2Config(**SHAPE, **positions, **GROUPED, sliding_window=8),
        "gemma3": lambda: transformers.Gemma3TextConfig(
            **SHAPE, **positions, **GROUPED, sliding_window=8, layer_types=kinds
        ),
        "qwen3": lambda: transformers.Qwen3Config(**SHAPE, **positions, **GROUPED),
        "bert": lambda: transformers.BertConfig(**SHAPE, **positions),
    }[family]()


def save_tokenizer(transformers, directory, family: str) -> None:
    """A tokenizer of letters, with special tokens as that family has them."""
    from tokenizers import Regex as Expression
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    roles = {
        "bert": dict(cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", mask_token="[MASK]", unk_token="[UNK]"),
        "llama": dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>"),
        "none": dict(unk_token="<unk>"),
    }
    roles["gemma2"] = roles["gemma3"] = roles["llama"] | {"pad_token": "<pad>"}
    names = roles.get(family, dict(bos_token="<|end|>", eos_token="<|end|>", unk_token="<|end|>"))
    special = list(dict.fromkeys(names.values()))
    vocabulary = {token: i for i, token in enumerate([*special, *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=names["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Expression(r"[\s\S]"), "isolated")
    around = {"bert": "[CLS] $A [SEP]", "llama": "<s> $A", "gemma2": "<s> $A", "gemma3": "<s> $A"}.get(family)
    if around:
        ids = [(token, vocabulary[token]) for token in special]
        tokenizer.post_processor = processors.TemplateProcessing(single=around, special_tokens=ids)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(directory)


@pytest.fixture(scope="session")
def transformers():
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
        pytest.skip("needs jaxsae[hf]")
    return libraries.import_transformers()


@pytest.fixture(scope="session")
def make_model(transformers, tmp_path_factory):
    """make_model(family) -> a directory with a model of random weights and its tokenizer; made once."""
    made: dict[str, str] = {}

    def make(family: str) -> str:
        if family not in made:
            import torch

            torch.manual_seed(len(made))
            directory = tmp_path_factory.mktemp(family)
            auto = transformers.AutoModelForMaskedLM if family == "bert" else transformers.AutoModelForCausalLM
            model = auto.from_config(model_config(transformers, family))
            for parameter in model.parameters():  # norms and biases too, so that nothing is the identity
                parameter.data += 0.2 * torch.randn_like(parameter)
            model.save_pretrained(directory)
            save_tokenizer(transformers, directory, family)
            made[family] = str(directory)
        return made[family]

    return make


@pytest.fixture(scope="session")
def bare_tokenizer(transformers, tmp_path_factory):
    """A directory with a tokenizer that has no special token but the unknown one."""
    directory = tmp_path_factory.mktemp("bare")
    save_tokenizer(transformers, directory, "none")
    return str(directory)


@pytest.fixture(scope="session")
def stories():
    """Texts of 5 to 45 letters, two of them empty."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list(LETTERS), rng.integers(5, 46))) for _ in range(60)]
    return [*texts[:7], "", *texts[7:30], "", *texts[30:]]


@pytest.fixture
def text(stories, tmp_path):
    """A .jsonl file of the stories."""
    path = tmp_path / "stories.jsonl"
    path.write_text("".join(json.dumps({"text": story}) + "\n" for story in stories))
    return str(path)


@pytest.fixture
def configure(text, tmp_path):
    """configure(model, reading={...}, ...) -> flags of a small harvest."""

    def make(model: str, reading: dict | None = None, **changes) -> HarvestConfig:
        corpus = TextConfig(**{"text": (text,), "context": CONTEXT, **(reading or {})})
        small = dict(batch_size=4, shard_rows=128, chunk_rows=32, sites=("resid_post.1",), store=str(tmp_path / "s"))
        return HarvestConfig(source="hf", model=model, corpus=corpus, **small | changes)

    return make


@pytest.fixture(scope="session")
def compilation_cache(tmp_path_factory):
    """What is compiled is kept for the session, also for processes that it starts."""
    import jax

    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    outside = {name.upper(): os.environ.get(name.upper()) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
        os.environ.pop(name.upper(), None)
    os.environ.update({name: value for name, value in outside.items() if value is not None})


WITHOUT_TORCH = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in ("torch", "torchvision") else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
from jaxsae import cli
status = cli.run(sys.argv[1:])
assert "torch" not in sys.modules
sys.exit(status)
"""


@pytest.fixture
def without_torch():
    """without_torch(command, ...): a jaxsae command in a process in which torch is not installed, when it has ended."""
    whole = {"capture_output": True, "text": True, "timeout": 300}
    return lambda *command: subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *command], **whole)
