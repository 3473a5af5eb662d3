"""What the benchmarks count, and that their systems do the same work."""

import math
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers.trainer_pt_utils import get_length_grouped_indices

from benchmarks import ceiling, clock, compare, start
from benchmarks.__main__ import PLANS, encode_rows
from benchmarks.compare import TRIALS, best_options, loss_difference
from benchmarks.systems import (
    WARM_UP,
    Measured,
    Setting,
    Stopwatch,
    _grouped,
    pad,
    rate_without_stalls,
    trainer_run,
    xlt_run,
)
from benchmarks.workload import Size, write_encoder, write_rows
from xlt.data.collate import Batch, collate
from xlt.data.features import Features
from xlt.models.encoder import Encoder

# The systems warn of what is theirs; the benchmarks' command is as quiet.
pytestmark = pytest.mark.filterwarnings("ignore")

TINY = Size(layers=2, width=32, heads=2)
STEPS = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 300 rows to train on and 60 to evaluate."""
    path = tmp_path_factory.mktemp("workload")
    write_rows(path / "rows", 300, 60)
    return path


@pytest.fixture(scope="module")
def rows(root: Path) -> tuple[Features, Features]:
    return encode_rows(root)


@pytest.fixture(scope="module")
def setting(root: Path) -> Setting:
    encoder = write_encoder(root / "tiny", TINY, dropout=0.0)
    return Setting(root, encoder, TINY, STEPS, "32-true", validation_rows=48, tokens_per_batch=1024)


def test_a_rate_leaves_the_first_steps_out() -> None:
    watch = Stopwatch([100, 100, 30, 50], [1.0, 2.0, 3.0, 6.0])
    assert watch.rate == (30 + 50) / (6.0 - 2.0)


def test_a_compilation_amid_the_steps_is_left_out_of_a_rate() -> None:
    assert rate_without_stalls([100, 400, 100, 300], [1.0, 2.0, 30.0, 3.0]) == (100 + 400 + 300) / 6


def test_a_machine_that_slows_down_does_not_choose_the_options(
    setting: Setting, rows: tuple[Features, Features], monkeypatch: pytest.MonkeyPatch
) -> None:
    speed, true = 1.0, dict.fromkeys(TRIALS, 50.0) | {(8, "sdpa"): 100.0, (16, "eager"): 105.0}

    def run(_: object, __: object, ___: object, size: int, attention: str, **____: object) -> Measured:
        nonlocal speed
        seconds = 1 / (speed * true[size, attention])
        speed -= 0.03
        watch = Stopwatch([1, 1], [0.0, seconds], warm_up=1)
        return Measured(watch, watch, [])

    monkeypatch.setattr(compare, "trainer_run", run)
    assert best_options(setting, *rows, deadline=math.inf) == ((16, "eager"), (16, "eager"))


def test_past_the_deadline_no_option_is_tried_again(
    setting: Setting, rows: tuple[Features, Features], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[int, str]] = []

    def run(_: object, __: object, ___: object, size: int, attention: str, **____: object) -> Measured:
        tried.append((size, attention))
        watch = Stopwatch([1, 1], [0.0, 1.0], warm_up=1)
        return Measured(watch, watch, [])

    monkeypatch.setattr(compare, "trainer_run", run)
    best_options(setting, *rows, deadline=math.inf)
    assert sorted(tried) == sorted(2 * TRIALS)
    tried.clear()
    best_options(setting, *rows, deadline=0)
    assert tried == list(TRIALS)


@pytest.mark.parametrize(("deadline", "rounds"), [(0, 1), (199, 1), (200, 2), (299, 2), (1000, 3)])
def test_no_round_begins_that_would_end_past_the_deadline(
    setting: Setting,
    rows: tuple[Features, Features],
    monkeypatch: pytest.MonkeyPatch,
    deadline: float,
    rounds: int,
) -> None:
    clock = 0.0
    watch = Stopwatch([1, 1], [0.0, 1.0], warm_up=1)

    def take(*_: object) -> dict[str, Measured]:
        nonlocal clock
        clock += 100
        return {"xlt": Measured(watch, watch, [], slots=2)}

    monkeypatch.setattr(compare, "_round", take)
    monkeypatch.setattr(compare, "time", SimpleNamespace(monotonic=lambda: clock))
    plan, options = replace(PLANS["4x256"], rounds=3, padded=0), compare.Options((8, "sdpa"), (8, "sdpa"))
    assert compare.compare(setting, *rows, plan, options, deadline).rounds == rounds


def test_processor_time_stands_still_while_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_CLOCKS", [time.perf_counter])
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    clock.use_processor_time()
    begin = clock.now()
    time.sleep(0.3)
    assert clock.now() - begin < 0.2


def test_operations_of_a_token_by_hand() -> None:
    # A layer of width D has 4 D² in attention and 8 D² in the feed-forward part.
    assert ceiling.operations_per_token(TINY, training=False) == 2 * 2 * 12 * 32**2
    assert ceiling.operations_per_token(TINY, training=True) == 6 * 2 * 12 * 32**2


def test_rows_are_of_three_kinds_in_turn(rows: tuple[Features, Features]) -> None:
    lengths = rows[0].counts("input_ids")
    mnli, cosmosqa, squad = (lengths[kind::3].mean() for kind in range(3))
    assert mnli < cosmosqa < squad


def test_groups_are_batches_of_the_trainers_own_grouping(rows: tuple[Features, Features]) -> None:
    found = _grouped(rows[0], 8, 5, seed=3, warm_up=2)
    generator = torch.Generator().manual_seed(3)
    whole = get_length_grouped_indices(rows[0].counts("input_ids").tolist(), 8, generator=generator)
    batches = {tuple(whole[i : i + 8]) for i in range(0, len(whole), 8)}
    assert len(found) == 40
    assert all(tuple(found[i : i + 8]) in batches for i in range(0, 40, 8))


def test_batches_that_count_are_spread_over_all_lengths(rows: tuple[Features, Features]) -> None:
    lengths = rows[0].counts("input_ids")
    every = lengths[_grouped(rows[0], 8, 300 // 8, seed=3, warm_up=0)].mean()
    for seed in range(5):
        assert lengths[_grouped(rows[0], 8, 14, seed, warm_up=2)[16:]].mean() == pytest.approx(
            every, rel=0.05
        )


def some_batch(features: Features) -> Batch:
    return collate("mixed", features, np.array([4, 0, 2, 1]), ("targets",))


def test_the_padded_form_has_the_states_of_the_packed_one(
    setting: Setting, rows: tuple[Features, Features]
) -> None:
    torch.manual_seed(0)
    encoder, batch = Encoder(str(setting.encoder), from_scratch=True).eval(), some_batch(rows[0])
    given = batch.input_ids, batch.position_ids, batch.packing, batch.packing.starts
    packed = encoder(*given)
    pad(encoder)
    assert torch.allclose(packed, encoder(*given), atol=1e-5)


def test_every_system_counts_the_tokens_it_trains_and_evaluates(
    setting: Setting, rows: tuple[Features, Features]
) -> None:
    run = xlt_run(setting)
    assert len(run.train.tokens) == len(run.losses) == STEPS
    assert all(512 < tokens <= 1024 for tokens in run.train.tokens)
    assert sum(run.train.tokens) <= run.slots
    assert run.first_step_seconds > 0
    theirs = trainer_run(setting, *rows, batch_size=8, best=True, seed=0)
    order = _grouped(rows[0], 8, STEPS, seed=0, warm_up=WARM_UP)
    lengths = rows[0].counts("input_ids")[order].reshape(STEPS, 8)
    assert theirs.train.tokens == lengths.sum(1).tolist()
    order = _grouped(rows[1], 8, 48 // 8, seed=0, warm_up=WARM_UP)
    assert sum(theirs.evaluation.tokens) == rows[1].counts("input_ids")[order].sum()


def test_packed_and_padded_have_the_same_losses(setting: Setting, rows: tuple[Features, Features]) -> None:
    assert len(rows) == 2
    assert loss_difference(setting) < 1e-4


def test_a_start_is_timed_until_its_first_step_ends(tmp_path: Path) -> None:
    found = start.start(start.QUICKSTART, tmp_path)
    assert 0 < found["built_seconds"] < found["first_step_begins_seconds"] < found["first_step_ends_seconds"]
