"""Meta-learning: gradients against hand-worked and independent ones, exact resume, processes, refusals."""

import copy
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from commands import launch
from conftest import Command, run
from lightning import Trainer
from test_bad_input import refused
from test_elastic import Crash, crash_in, seen
from test_fit import DDP, assert_close, assert_same_weights, events, steps, timeless, weights
from torch import Tensor, nn
from torch.func import functional_call, grad

from xlt.batch.batch import Batch
from xlt.data.sampling.episodes import CrossLanguageEpisodes, Episodes
from xlt.datamodule import TransferData
from xlt.learning.maml import InnerLoop, halves, summed_gradients
from xlt.learning.meta import MetaLearning
from xlt.module import TransferModule
from xlt.tasks import load

TASKS = ["mnli/de", "mnli/fr"]


@pytest.fixture(scope="module")
def roots(samples: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The data roots, and a root with rows of MNLI in folders of two auxiliary languages."""
    root = tmp_path_factory.mktemp("auxiliary")
    for number, language in enumerate(("de", "fr")):
        folder = root / language / "nyu-mll" / "glue" / "mnli"
        folder.mkdir(parents=True)
        for split in ("train", "validation_matched"):
            rows = pq.read_table(Path(samples[0]) / "nyu-mll" / "glue" / "mnli" / f"{split}.parquet")
            pq.write_table(rows.slice(number * 90, 90), folder / f"{split}.parquet")
    return [*samples, str(root)]


@pytest.fixture
def meta_run(tiny_run: Command, roots: list[str]) -> Command:
    """Arguments of a short run of meta-learning in two languages."""
    settings = {
        "data.tasks": f"[{', '.join(TASKS)}]",
        "data.root": f"[{', '.join(roots)}]",
        "data.tokens_per_micro_batch": 256,
        "data.micro_batches_per_step": 4,
        "trainer.max_steps": 8,
        "trainer.val_check_interval": 4,
        "checkpoints.every_n_steps": 3,
        "model.meta.algorithm": "fomaml",
        "model.meta.inner_learning_rate": 0.1,
        "model.meta.inner_steps": 2,
    }

    def arguments(folder: Path, changes: dict[str, Any] | None = None) -> list[str]:
        return tiny_run(folder, {**settings, **(changes or {})})

    return arguments


# The inner loop


def nothing_held() -> Any:
    """A context that holds no gradient."""
    return torch.enable_grad()


def test_the_gradient_of_a_quadratic_is_that_worked_out_by_hand():
    weight = nn.Parameter(torch.tensor(2.0))
    loop = InnerLoop(steps=2, learning_rate=0.1)

    def support(target: float) -> Tensor:
        return (weight - target) ** 2 / 4

    # S(w) = ((w - 4)^2 + (w - 6)^2) / 4 has the gradient w - 5: from 2 to 2.3, and on to 2.57.
    loop.adapt([weight], lambda: summed_gradients([weight], [4.0, 6.0], support, nothing_held()))
    assert weight.item() == pytest.approx(2.57)
    assert weight.grad is None
    # Q(w) = (w - 1)^2 has the gradient 2 (2.57 - 1). The second-order gradient would be 3.14 * 0.9^2.
    ((weight - 1) ** 2).backward()
    loop.restore()
    assert weight.item() == 2.0
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(3.14)
    torch.optim.SGD([weight], lr=0.1).step()
    assert weight.item() == pytest.approx(2 - 0.314)


@pytest.fixture
def mlp() -> nn.Sequential:
    """A tiny model, whose last layer is its head."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()


def rows(seed: int) -> tuple[Tensor, Tensor]:
    """Inputs and classes of a micro-batch."""
    made = torch.Generator().manual_seed(seed)
    inputs = torch.randn(6, 5, generator=made, dtype=torch.float64)
    return inputs, torch.randint(3, (6,), generator=made)


@pytest.mark.parametrize("algorithm", ["fomaml", "anil"])
@pytest.mark.parametrize("inner_steps", [1, 3])
def test_the_outer_gradient_is_that_of_torch_func(mlp: nn.Sequential, algorithm: str, inner_steps: int):
    support, query, rate = [rows(1), rows(2)], rows(3), 0.7

    def loss_at(weights: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(functional_call(mlp, weights, (batch[0],)), batch[1])

    theirs = {name: weight.detach().clone() for name, weight in mlp.named_parameters()}
    adapted = dict(theirs)
    for _ in range(inner_steps):
        slopes = [grad(loss_at)(adapted, batch) for batch in support]
        for name in adapted:
            if algorithm == "fomaml" or name.startswith("2."):
                # A plain tensor: the gradient stops here.
                adapted[name] = adapted[name] - rate * (slopes[0][name] + slopes[1][name])
    expected = grad(loss_at)(adapted, query)

    meta = MetaLearning(algorithm, inner_steps, rate)  # type: ignore[arg-type]
    parameters = meta.adapted(mlp, mlp[2])
    loop = InnerLoop(meta.inner_steps, meta.inner_learning_rate)

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(mlp(batch[0]), batch[1])

    loop.adapt(parameters, lambda: summed_gradients(parameters, support, loss, nothing_held()))
    for name, weight in mlp.named_parameters():
        assert torch.allclose(weight, adapted[name], rtol=0, atol=1e-12), name
        assert torch.equal(weight, theirs[name]) == (algorithm == "anil" and name.startswith("0."))
    loss(query).backward()
    loop.restore()
    for name, weight in mlp.named_parameters():
        assert weight.grad is not None
        assert torch.allclose(weight.grad, expected[name], rtol=0, atol=1e-12), name
        assert torch.equal(weight, theirs[name]), name


def test_the_query_sees_the_adapted_weights_in_half_precision_too():
    layer, inputs = nn.Linear(8, 8), torch.randn(4, 8)
    parameters = list(layer.parameters())
    loop = InnerLoop(1, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        loop.adapt(
            parameters,
            lambda: summed_gradients(parameters, [inputs], lambda x: layer(x).sum(), nothing_held()),
        )
        found = layer(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(found, layer(inputs))
    loop.restore()
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(found, layer(inputs))


def test_anil_refuses_a_head_without_weights():
    MetaLearning("fomaml").check_heads({"ranking": nn.Identity()})
    with pytest.raises(ValueError, match="the head of ranking has no weights to adapt"):
        MetaLearning("anil").check_heads({"ranking": nn.Identity()})


# The module


def prepared(roots: list[str], encoder: str, cache: str) -> TransferData:
    """Data of two languages."""
    sizes = {"max_length": 128, "stride": 32, "tokens_per_micro_batch": 256, "micro_batches_per_step": 4}
    data = TransferData(TASKS, root=roots, encoder=encoder, cache=cache, **sizes)  # type: ignore[arg-type]
    data.prepare_data()
    data.setup("fit")
    return data


def module_of(data: TransferData, encoder: str, meta: MetaLearning) -> TransferModule:
    """A module that is ready for a step."""
    torch.manual_seed(0)
    module = TransferModule(encoder, from_scratch=True, meta=meta)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    trainer.datamodule = data  # type: ignore[attr-defined]
    module.trainer = trainer
    module.setup("fit")
    # The trainer's own backward pass needs a fit.
    module._backward = Tensor.backward  # type: ignore[method-assign, assignment]
    return module.train()


@pytest.mark.parametrize("algorithm", ["fomaml", "anil"])
def test_a_step_has_the_query_gradient_of_a_copy_that_learned_the_support(
    roots: list[str], tiny_encoder: str, cache: str, algorithm: Any
):
    data = prepared(roots, tiny_encoder, cache)
    module = module_of(data, tiny_encoder, MetaLearning(algorithm, 2, 0.5))
    before = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    by_hand = copy.deepcopy(module)
    by_hand.trainer = module.trainer
    batches = data.build_steps(1, 0, 1)[0]
    support, query = halves(batches)
    assert len(support) == len(query) == 2
    learner = torch.optim.SGD(by_hand.parameters(), lr=0.5)
    for _ in range(2):
        by_hand.zero_grad()
        for batch in support:
            by_hand._loss(batch).backward()
        if algorithm == "anil":
            by_hand.encoder.zero_grad()
        learner.step()
    by_hand.zero_grad()
    expected = sum(loss_and_backward(by_hand, batch) for batch in query)

    module.training_step(batches, 0).backward()
    assert module.step_loss.item() == pytest.approx(expected, abs=1e-6)
    changed = {n for n, weight in module.named_parameters() if not torch.equal(weight, before[n])}
    assert any(name.startswith("heads.") for name in changed)
    assert any(name.startswith("encoder.") for name in changed) == (algorithm == "fomaml")
    module.on_before_optimizer_step(learner)
    theirs = dict(by_hand.named_parameters())
    for name, weight in module.named_parameters():
        assert torch.equal(weight, before[name]), name
        if weight.grad is None:
            assert theirs[name].grad is None, name
        else:
            assert torch.allclose(weight.grad, theirs[name].grad, rtol=0, atol=1e-6), name  # type: ignore[arg-type]


def loss_and_backward(module: TransferModule, batch: Batch) -> float:
    """The loss of a micro-batch, after its backward pass."""
    loss = module._loss(batch)
    loss.backward()
    return loss.item()


# Support and query


def test_halves_are_successive_parts_of_the_order_each_with_a_weight_of_its_own(
    roots: list[str], tiny_encoder: str, cache: str
):
    data = prepared(roots, tiny_encoder, cache)
    data.steps_type = Episodes
    made = data.build_steps(6, 0, 1)
    met: dict[str, list[int]] = {}
    for step in range(6):
        batches = made[step]
        assert {batch.task for batch in batches} == {made.schedule[step][0]}
        assert len({batch.seed for batch in batches}) == 4
        for half in halves(batches):
            used = [row for batch in half for row in batch.rows.tolist()]
            assert {batch.step_weight for batch in half} == {len(used)}
            met.setdefault(half[0].task, []).extend(used)
        share = len(met[batches[0].task]) / 90
        assert made.epochs_after(step) == pytest.approx(share)
    for used in met.values():
        # Rows return only in the next epoch.
        assert len(set(used[:90])) == min(90, len(used))


def test_support_in_another_language_is_a_function_of_seed_and_step(
    roots: list[str], tiny_encoder: str, cache: str
):
    data = prepared(roots, tiny_encoder, cache)
    data.steps_type = CrossLanguageEpisodes
    whole = data.build_steps(8, 0, 1)
    shares = [data.build_steps(20, rank, 2) for rank in (0, 1)]
    for step in (5, 2, 7, 0):
        support, query = halves(whole[step])
        assert {batch.task for batch in query} == {whole.schedule[step][0]}
        assert {batch.task for batch in support} == set(TASKS) - {whole.schedule[step][0]}
        dealt = [batch for turn in zip(*(share[step] for share in shares), strict=True) for batch in turn]
        assert [seen(batch) for batch in dealt] == [seen(batch) for batch in whole[step]]


# Whole runs


def test_a_killed_run_gives_every_bit_of_an_undisturbed_one(meta_run: Command, tmp_path: Path):
    changes = {"model.meta.other_language": "true", "trainer.precision": "bf16-mixed"}
    assert run(meta_run(tmp_path / "calm", changes)) == 0
    for kill in (2, 5):  # before the first checkpoint, and after it
        with pytest.MonkeyPatch.context() as patch:
            crash_in(kill, patch)
            with pytest.raises(Crash):
                run(meta_run(tmp_path / "struck", changes))
    assert run(meta_run(tmp_path / "struck", changes)) == 0
    assert timeless(events(tmp_path / "struck")) == timeless(events(tmp_path / "calm"))
    assert_same_weights(weights(tmp_path / "struck"), weights(tmp_path / "calm"))
    found = steps(tmp_path / "calm")
    assert all(math.isfinite(event["train/support_loss"]) for event in found)
    assert all(event["train/support_loss"] != event["train/loss"] for event in found)


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(meta_run: Command, tmp_path: Path):
    assert run(meta_run(tmp_path / "one")) == 0
    code, output = launch(meta_run(tmp_path / "two", DDP))
    assert code == 0, output
    assert_close(tmp_path / "two", tmp_path / "one")


def test_epochs_count_the_rows_of_support_and_query(meta_run: Command, tmp_path: Path):
    folder = tmp_path / "run"
    changes = {"epochs": 0.5, "trainer.max_steps": None, "data.tasks": "[mnli/de]"}
    assert run(meta_run(folder, {**changes, "trainer.val_check_interval": None})) == 0
    seen_before, seen_at_end = (event["mixture/mnli/de/epochs"] for event in steps(folder)[-2:])
    assert seen_before < 0.5 <= seen_at_end


def test_a_run_of_joint_learning_has_no_key_of_meta_learning(meta_run: Command, tmp_path: Path):
    # The folder of a run from before meta-learning existed is that of the same config.
    folder = tmp_path / "run"
    joint = dict.fromkeys(("model.meta.inner_learning_rate", "model.meta.inner_steps"))
    changes = {**joint, "model.meta.algorithm": "joint", "trainer.max_steps": 3}
    assert run(meta_run(folder, {**changes, "trainer.val_check_interval": 2})) == 0
    assert "meta" not in yaml.safe_load((folder / "config.yaml").read_text())["model"]
    assert "train/support_loss" not in steps(folder)[0]
    changes["model.meta.algorithm"] = None
    assert run(meta_run(folder, {**changes, "trainer.val_check_interval": 2})) == 0


def test_a_resumed_run_keeps_its_algorithm(
    meta_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "run"
    changes = {"trainer.max_steps": 3, "trainer.val_check_interval": 3}
    assert run(meta_run(folder, changes)) == 0
    message = refused(meta_run(folder, {**changes, "model.meta.algorithm": "anil"}), folder, capsys)
    assert "(model.meta.algorithm: 'fomaml' there, 'anil' now)" in message


# Refusals

REFUSED = {
    "model.meta.algorithm is maml: it must be joint, fomaml or anil": {"model.meta.algorithm": "maml"},
    "model.meta.inner_steps is 0: it must be at least 1 step": {"model.meta.inner_steps": 0},
    "model.meta.inner_learning_rate is 0.0: it must be above 0, and finite": {
        "model.meta.inner_learning_rate": 0
    },
    "model.meta.second_order is True: it must be false, because the lookup of word embeddings has no second "
    "derivative": {"model.meta.second_order": "true"},
    "model.meta.other_language is True: it must be false with model.meta.algorithm joint": {
        "model.meta.algorithm": "joint",
        "model.meta.other_language": "true",
    },
    "data.tasks has mnli in one language: add another, as in [mnli/de, mnli/fr]": {
        "data.tasks": "[mnli/de]",
        "model.meta.other_language": "true",
    },
    "data.micro_batches_per_step is 3, but meta-learning divides it into support and query, and the "
    "processes (1) share each half: set it to a multiple of 2": {"data.micro_batches_per_step": 3},
    "the processes (2) share each half: set it to a multiple of 4": {
        "data.micro_batches_per_step": 2,
        "trainer.devices": 2,
    },
    "unknown key model.meta.inner_rate; did you mean model.meta.inner_steps?": {"model.meta.inner_rate": 1},
}


@pytest.mark.parametrize(("message", "changes"), REFUSED.items())
def test_settings_that_are_refused(
    meta_run: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    message: str,
    changes: dict[str, Any],
):
    assert message in refused(meta_run(tmp_path / "run", changes), tmp_path / "run", capsys)


def test_xnli_dev_holds_premises_out(mirror: Path):
    task = load("xnli_dev/tr")
    assert task.head_key == load("xnli").head_key
    sizes, premises = {}, {}
    for split in ("train", "validation"):
        (raw,) = task.sources[0].open(split, [mirror], "tr")
        assert raw.keeps is not None
        kept = [row for row in raw.rows() if raw.keeps(row)]
        sizes[split], premises[split] = len(kept), {row["sentence1"] for row in kept}
    assert sizes["train"] + sizes["validation"] == 2490
    assert 150 < sizes["validation"] < 350
    assert not premises["train"] & premises["validation"]
