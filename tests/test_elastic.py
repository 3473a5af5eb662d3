"""What a step sees is a function of (config, seed, step): drawn configs, processes, workers, kill points."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import Command, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning import Trainer
from test_fit import assert_same_weights, events, timeless, weights
from torch.utils.data import DataLoader

from xlt.batch.batch import Batch
from xlt.data.sampling.steps import ResumeSampler, as_is
from xlt.datamodule import TransferData
from xlt.models.optim import adamw
from xlt.module import TransferModule

STEPS = 12


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory, samples: list[str]) -> list[str]:
    """The data roots, with plain text in a language and a pair beside them."""
    root = tmp_path_factory.mktemp("text")
    rows = pq.read_table(Path(samples[0]) / "nyu-mll" / "glue" / "mnli" / "train.parquet")
    for folder in ("mono", "parallel"):
        (root / folder).mkdir()
    pq.write_table(pa.table({"text": rows["premise"]}), root / "mono" / "aa.parquet")
    pairs = {"source": rows["premise"], "target": rows["hypothesis"]}
    pq.write_table(pa.table(pairs), root / "parallel" / "aa-bb.parquet")
    return [*samples, str(root)]


@st.composite
def mixtures(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of the data module that the order depends on."""
    return {
        "tasks": draw(st.sampled_from([["mnli", "squad_v1", "mlm"], ["ccg", "tlm", "ranking"], ["mlm"]])),
        "seed": draw(st.integers(0, 2**32 - 1)),
        "temperature": draw(st.floats(0.5, 20)),
        "cap": draw(st.integers(1, 3000)),
        "volume": draw(st.sampled_from([None, 7, 100])),
        "tokens_per_micro_batch": draw(st.integers(384, 2048)),
        "micro_batches_per_step": draw(st.sampled_from([4, 8])),
    }


def prepared(mixture: dict[str, Any], roots: list[str], encoder: str, cache: str) -> TransferData:
    """The data module, with its rows."""
    sizes = {"max_length": 128, "stride": 32}
    data = TransferData(**mixture, root=roots, encoder=encoder, cache=cache, **sizes)
    data.prepare_data()
    data.setup("fit")
    return data


def seen(batch: Batch) -> tuple[Any, ...]:
    """All that a model sees of a micro-batch, the places that are hidden included."""
    columns = {name: column.tolist() for name, column in batch.columns.items()}
    ids = (batch.input_ids.tolist(), batch.rows.tolist(), batch.packing.lengths.tolist())
    return (batch.task, batch.seed, batch.step_weight, ids, columns)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(mixture=mixtures(), killed=st.lists(st.integers(0, STEPS - 1), max_size=3), data=st.data())
def test_processes_and_restarts_change_nothing_that_a_step_sees(
    text: list[str],
    tiny_encoder: str,
    cache: str,
    mixture: dict[str, Any],
    killed: list[int],
    data: st.DataObject,
):
    module = prepared(mixture, text, tiny_encoder, cache)
    whole = module.build_steps(STEPS, 0, 1)
    expected = [[seen(batch) for batch in whole[step]] for step in range(STEPS)]
    assert all(len(step) == mixture["micro_batches_per_step"] for step in expected)
    starts = [0, *sorted(killed)]
    for start, end in zip(starts, [*starts[1:], STEPS], strict=True):
        world_size = data.draw(st.sampled_from([1, 2, 4]), "processes")
        fresh = prepared(mixture, text, tiny_encoder, cache)
        shares = [loaded(fresh, rank, world_size, start) for rank in range(world_size)]
        for step in range(start, end):
            # Micro-batches are dealt out in turn.
            dealt = [batch for turn in zip(*(next(share) for share in shares), strict=True) for batch in turn]
            assert [seen(batch) for batch in dealt] == expected[step], (step, world_size)


def loaded(module: TransferData, rank: int, world_size: int, first: int) -> Iterator[list[Batch]]:
    """A process's steps as its loader gives them, from the first on."""
    steps = module.build_steps(STEPS, rank, world_size)
    return iter(DataLoader(steps, batch_size=None, sampler=ResumeSampler(first, STEPS), collate_fn=as_is))


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(mixture=mixtures())
def test_losses_and_gradients_of_one_two_and_four_processes_agree_to_a_hundred_thousandth(
    text: list[str], tiny_encoder: str, cache: str, mixture: dict[str, Any]
):
    data = prepared(mixture, text, tiny_encoder, cache)
    found = [of_processes(data, tiny_encoder, world_size) for world_size in (1, 2, 4)]
    for losses, parameters in found[1:]:
        assert losses == pytest.approx(found[0][0], abs=1e-5)
        for name, tensor in parameters.items():
            assert torch.allclose(tensor, found[0][1][name], rtol=0, atol=1e-5), name


def of_processes(
    data: TransferData, encoder: str, world_size: int
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses and weights of a few steps, trained as so many processes would, one after the other.

    DDP takes the mean of the processes' gradients, and the record the sum of their losses; here both are done
    by hand, on one model.
    """
    torch.manual_seed(0)
    module = TransferModule(encoder, from_scratch=True)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    trainer.datamodule = data  # type: ignore[attr-defined]
    module.trainer = trainer
    module.setup("fit")
    module.train()
    optimizer = adamw(module, 1e-4, 0.01)
    ranks = [data.build_steps(3, rank, world_size) for rank in range(world_size)]
    losses = []
    for step in range(3):
        module.step_loss = torch.zeros(())
        optimizer.zero_grad()
        for steps in ranks:
            for batch in steps[step]:
                module._loss(batch).backward()
        losses.append(float(module.step_loss))
        optimizer.step()
    return losses, {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


class Crash(BaseException):
    """The end of a process, as far as one in this process can be had."""


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1),
    temperature=st.floats(0.5, 20),
    tokens=st.integers(256, 1500),
    workers=st.integers(0, 1),
    kills=st.lists(st.integers(1, STEPS), min_size=1, max_size=2, unique=True),
)
def test_a_run_killed_at_drawn_steps_gives_every_bit_of_an_undisturbed_one(
    tiny_run: Command,
    text: list[str],
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    temperature: float,
    tokens: int,
    workers: int,
    kills: list[int],
):
    changes = {
        "seed_everything": seed,
        "data.temperature": temperature,
        "data.tokens_per_micro_batch": tokens,
        "data.root": f"[{', '.join(text)}]",
        "data.tasks": "[mnli, ccg, mlm, ranking]",
        "trainer.max_steps": STEPS,
        "trainer.val_check_interval": 5,
        "checkpoints.every_n_steps": 3,
    }
    calm, struck = (tmp_path_factory.mktemp(name) / "run" for name in ("calm", "struck"))
    assert run(tiny_run(calm, changes)) == 0
    for kill in sorted(kills):
        args = tiny_run(struck, {**changes, "data.num_workers": workers})
        with pytest.MonkeyPatch.context() as patch:
            crash_in(kill, patch)
            with pytest.raises(Crash):
                run(args)
    assert run(tiny_run(struck, changes)) == 0
    assert timeless(events(struck)) == timeless(events(calm))
    assert_same_weights(weights(struck), weights(calm))


def crash_in(step: int, patch: pytest.MonkeyPatch) -> None:
    """End the run in its first micro-batch of a step."""
    whole = TransferModule._loss

    def loss(module: TransferModule, batch: Batch) -> torch.Tensor:
        if module.global_step == step - 1:
            raise Crash
        return whole(module, batch)

    patch.setattr(TransferModule, "_loss", loss)
