"""Fixtures: the repository's sample rows, the mirror beside it where there is one, a tiny encoder, a cache.

Shapes in signatures are checked in every test (jaxtyping and beartype).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jaxtyping import install_import_hook

SCRATCH = tempfile.TemporaryDirectory(prefix="xlt-tests-")
"""What `datasets` and commands without a cache of their own write; goes with the session."""

os.environ.update(WANDB_MODE="disabled", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="true")
os.environ.update(HF_DATASETS_CACHE=f"{SCRATCH.name}/datasets", XLT_CACHE=f"{SCRATCH.name}/encoded")
os.environ["WANDB_CACHE_DIR"] = f"{SCRATCH.name}/wandb"
os.environ["JSONARGPARSE_DEPRECATION_WARNINGS"] = "off"  # how Lightning calls jsonargparse
# pyarrow's unused allocator starts a thread at import; a process that forks others must have one thread.
os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
os.environ.pop("XLT_DATA", None)
# Tiny models gain nothing from more threads, and processes that share cores lose much.
os.environ["OMP_NUM_THREADS"] = "1"

with install_import_hook(["xlt.models", "xlt.metrics"], "beartype.beartype"):
    import wandb
    from benchmark_rows import write_root
    from transformers import AutoConfig, AutoModel

    from xlt.config.run_command import run_command
    from xlt.fit import fit
    from xlt.training.launch import PLACES

REPOSITORY = Path(__file__).parents[1]
StudyKeys = Callable[..., dict[str, Any]]
NINE = ["anli_plus", "mnli", "qqp", "squad_v1", "squad_v2", "hellaswag", "ccg", "cosmosqa", "commonsenseqa"]


LONGEST = (
    "test_preemption.py",
    "test_deaths.py",
    "test_study.py",
    "test_quickstart.py",
    "test_fit.py",
    "test_dashboard.py",
)
"""Files that take minutes: they begin first, so that no core waits for them at the end."""


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, for some tests wait."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def samples() -> list[str]:
    """The data roots of the repository; skips where the rows that can be taken out have been."""
    roots = [REPOSITORY / "samples" / "open", REPOSITORY / "samples" / "restricted"]
    if not (roots[1] / "ccg").is_dir():
        pytest.skip("samples/restricted has been taken out")
    return [str(root) for root in roots]


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The larger mirror beside the repository."""
    root = REPOSITORY.parent / "shared" / "data"
    if not root.is_dir():
        pytest.skip("../shared/data is absent")
    return root


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One folder of encoded rows for the whole session: what one process encodes, the others read."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "cache"
    folder.mkdir(exist_ok=True)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the mini tokenizer and a config of 2 layers x 32, without weights."""
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    source = REPOSITORY / "encoders" / "mini"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder / name)
    config = json.loads((source / "config.json").read_text())
    config |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config |= {"intermediate_size": 64}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.fixture(scope="session", autouse=True)
def _no_command_line() -> Iterator[None]:
    """Hide pytest's own arguments, which a command run in this process would take for its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["xlt"])
        yield


@pytest.fixture(autouse=True)
def _no_module_of_another_test() -> Iterator[None]:
    """Forget the user's package `mylab`, which each test writes anew in a folder of its own."""
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def launch_is_forgotten() -> Iterator[None]:
    """No test leaves what tells a process its rank: a command of a later test would wait for other ranks."""
    before = [os.environ.get(name) for name in ("RANK", *PLACES)]
    yield
    assert [os.environ.get(name) for name in ("RANK", *PLACES)] == before


def run(args: list[str], verb: Callable[..., None] = fit) -> int | str | None:
    """Run a verb in this process; return its exit code."""
    try:
        return run_command(verb, args)
    except SystemExit as stop:
        return stop.code
    finally:
        wandb.finish()


Command = Callable[..., list[str]]
"""A run's folder, and keys to set or (None) to leave out, to the arguments of a command."""


@pytest.fixture(scope="session")
def tiny_run(cache: str, tiny_encoder: str) -> Command:
    """Arguments of a short run of the nine tasks, on the rows that are there, with the tiny encoder."""
    roots = [str(root) for root in sorted((REPOSITORY / "samples").iterdir())]
    settings = {
        "seed_everything": 0,
        "model.encoder": tiny_encoder,
        "model.from_scratch": "true",
        "model.learning_rate": 1e-3,
        "data.tasks": f"[{', '.join(NINE)}]",
        "data.root": f"[{', '.join(roots)}]",
        "data.cache": cache,
        "data.temperature": ".inf",
        "data.max_length": 128,
        "data.stride": 32,
        "data.tokens_per_micro_batch": 1024,
        "data.micro_batches_per_step": 2,
        "data.validation_volume": 8,
        "trainer.accelerator": "cpu",
        "trainer.devices": 1,
        "trainer.max_steps": 24,
        "trainer.val_check_interval": 10,
        "trainer.log_every_n_steps": 4,
        "trainer.enable_progress_bar": "false",
        "checkpoints.every_n_steps": 6,
    }

    def arguments(folder: Path, changes: Mapping[str, Any] | None = None) -> list[str]:
        chosen = {**settings, "trainer.default_root_dir": folder, **(changes or {})}
        return [f"--{key}={value}" for key, value in chosen.items() if value is not None]

    return arguments


class Disk:
    """A disk in memory, of a size that can change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mount(self, options: str) -> bool:
        """Mount or change it; whether that was allowed."""
        command = ["mount", "-t", "tmpfs", "-o", options, "xlt-test", str(self.folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A small disk; skips where none may be mounted."""
    made = Disk(tmp_path / "disk")
    made.folder.mkdir()
    if sys.platform != "linux" or not made.mount("size=16m"):
        pytest.skip("may not mount a disk")
    try:
        yield made
    finally:
        subprocess.run(["umount", "-l", str(made.folder)], check=True)


@pytest.fixture(scope="session")
def encoder_with_weights(tiny_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny encoder with weights."""
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    folder.mkdir()
    for path in Path(tiny_encoder).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    AutoModel.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def study_keys(
    encoder_with_weights: str, samples: list[str], cache: str, tmp_path_factory: pytest.TempPathFactory
) -> StudyKeys:
    """A small study's keys, of which some may be replaced."""
    folder = tmp_path_factory.mktemp("study")
    root = folder / "root"
    root.mkdir()
    write_root(Path(samples[0]), root)
    roots = [str(root), samples[0]]
    data = {"root": roots, "cache": cache, "max_length": 64, "stride": 16, "tokens_per_micro_batch": 512}
    trainer = {"accelerator": "cpu", "devices": 1, "max_steps": 4, "val_check_interval": 2}
    for name, tasks in (
        ("mnli", ["mnli"]),
        ("mixture", ["mnli", "squad_v1", "cosmosqa"]),
        ("xnli", ["xnli"]),
    ):
        own = {"tasks": tasks, "micro_batches_per_step": 2 if name == "xnli" else 1, "validation_volume": 8}
        config = {
            "model": {"learning_rate": 1e-3, "warmup_steps": 2},
            "data": {**data, **own},
            "trainer": {**trainer, "enable_progress_bar": False},
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    evaluate = {"root": roots, "cache": cache, "accelerator": "cpu", "max_length": 64, "stride": 16}

    def keys(**changes: Any) -> dict[str, Any]:
        return {
            "name": "small",
            "encoder": encoder_with_weights,
            "intermediate": {"mnli": str(folder / "mnli.yaml"), "mixture": str(folder / "mixture.yaml")},
            "volumes": [9, 40],
            "seeds": [0, 1],
            "targets": {"xnli": str(folder / "xnli.yaml"), "tatoeba": None},
            "folder": folder / "runs",
            "evaluate": evaluate,
        } | changes

    return keys
