"""What the benchmarks count, and that their systems do the same work."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.trainer_pt_utils import get_length_grouped_indices

from benchmarks import __main__ as command
from benchmarks import ceiling, rows_in_use, windows
from benchmarks import compare as comparison
from benchmarks.compare import TRIALS, Options, Plan, Rates, best_options, compare, loss_difference
from benchmarks.measuring import WARM_UP, Setting, Stopwatch, rate_without_stalls
from benchmarks.trainer_system import _grouped, trainer_run
from benchmarks.turns import LEAST, Phase, Step, Timeline
from benchmarks.workload import SIZES, Size, encode_rows, write_encoder, write_rows
from benchmarks.xlt_system import pad, xlt_run
from xlt.batch.batch import Batch
from xlt.data.features import Features
from xlt.data.sampling.collate import collate
from xlt.models.encoders.text import Encoder

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
    return Setting(root, encoder, TINY, STEPS, "32-true", validation_rows=48, tokens_per_micro_batch=1024)


def test_a_rate_leaves_the_first_steps_out() -> None:
    watch = Stopwatch([100, 100, 30, 50], [1.0, 2.0, 3.0, 6.0])
    assert watch.rate == (30 + 50) / (6.0 - 2.0)


def test_an_evaluation_counts_all_its_batches_be_it_one() -> None:
    watch = Stopwatch.of_evaluation()
    watch.tokens, watch.moments = [0, 100], [1.0, 3.0]
    assert watch.rate == 100 / (3.0 - 1.0)
    watch.tokens, watch.moments = [0, 100, 20], [1.0, 3.0, 7.0]
    assert watch.rate == (100 + 20) / (7.0 - 1.0)


def test_a_compilation_amid_the_steps_is_left_out_of_a_rate() -> None:
    assert rate_without_stalls([100, 400, 100, 300], [1.0, 2.0, 30.0, 3.0]) == (100 + 400 + 300) / 6


def test_the_fastest_options_are_chosen_whoever_was_first(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    fastest: dict[Phase, tuple[int, str]] = {"train": (16, "eager"), "evaluation": (8, "sdpa")}

    def run(systems: dict[str, partial[object]], until: float) -> Timeline:
        found = Timeline()
        for phase, best in fastest.items():
            for name, system in reversed(systems.items()):
                found.steps[phase].append((name, Step(phase, 100, 1.0 if system.args[1:] == best else 1.1)))
        return found

    monkeypatch.setattr(comparison, "in_turn", run)
    assert len(TRIALS) == 8
    assert best_options(setting, until=0) == Options(fastest["train"], fastest["evaluation"])


def test_operations_of_a_token_by_hand() -> None:
    # A layer of width D has 4 D² in attention and 8 D² in the feed-forward part.
    assert ceiling.operations_per_token(TINY, training=False) == 2 * 2 * 12 * 32**2
    assert ceiling.operations_per_token(TINY, training=True) == 6 * 2 * 12 * 32**2


def test_shares_of_the_machine_by_hand() -> None:
    rates = Rates(
        train={"xlt": 100.0},
        evaluation={"xlt": 400.0},
        ratios={"train_vs_trainer_best": (1.5, 0.1)},
        steps={},
        trainer_options=Options((8, "sdpa"), (8, "sdpa")),
        padding_share=0.0,
        products_per_second=1e9,
        wide_products_per_second=2e9,
    )
    # A token needs 2 * 12 * 32**2 = 24,576 products, twice as many operations forward, six times in training.
    figures = command._figures_of(rates, TINY)
    assert figures["share_of_ceiling"] == pytest.approx(100 * 6 * 24_576 / 1e9)
    assert figures["share_of_wide_products"] == pytest.approx(100 * 6 * 24_576 / 2e9)
    assert figures["share_of_ceiling_eval"] == pytest.approx(400 * 2 * 24_576 / 1e9)
    assert figures["train_vs_trainer_best_error"] == 0.1


def test_the_sizes_are_measured_one_after_the_other_within_twenty_minutes() -> None:
    ends = [plan.until for plan in command.PLANS.values()]
    assert command.PLANS.keys() <= SIZES.keys()
    assert ends == sorted(ends)
    assert ends[0] > command.TRIALS_UNTIL
    assert ends[-1] < 17  # the last evaluation takes the rest


def test_e5_small_has_the_weights_of_its_shape() -> None:
    size = SIZES["12x384, 250k pieces"]
    assert (size.config.intermediate_size, size.config.vocab_size) == (1536, 250_002)
    # 12 layers of 4 * 384**2 in attention and 2 * 384 * 1,536 in the feed-forward part.
    assert size.products == 12 * (4 * 384**2 + 2 * 384 * 1536)


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
    for seed in range(5):
        found = lengths[_grouped(rows[0], 8, 202, seed, warm_up=2)].reshape(-1, 8).mean(1)[2:]
        for trained in (12, 40, 200):
            assert found[:trained].mean() == pytest.approx(lengths.mean(), rel=0.08), (seed, trained)


def some_batch(features: Features) -> Batch:
    return collate("mixed", features, np.array([4, 0, 2, 1]), ("targets",), first_position=2)


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
    theirs = trainer_run(setting, batch_size=8, best=True, seed=0)
    order = _grouped(rows[0], 8, STEPS, seed=0, warm_up=WARM_UP)
    lengths = rows[0].counts("input_ids")[order].reshape(STEPS, 8)
    assert theirs.train.tokens == lengths.sum(1).tolist()
    order = _grouped(rows[1], 8, 48 // 8, seed=0, warm_up=0)
    assert theirs.evaluation.tokens == [0, *rows[1].counts("input_ids")[order].reshape(-1, 8).sum(1)]
    begun, *batches = run.evaluation.tokens
    assert begun == 0
    assert all(batches)


def test_packed_and_padded_have_the_same_losses(setting: Setting, rows: tuple[Features, Features]) -> None:
    assert len(rows) == 2
    assert loss_difference(setting) < 1e-4


def test_systems_in_turn_do_the_work_they_do_alone(setting: Setting, rows: tuple[Features, Features]) -> None:
    plan = Plan(until=0, most_rows=8, padded=True, validation_rows=48, tokens_per_micro_batch=1024)
    found = compare(setting, plan, Options((16, "eager"), (8, "sdpa")), until=0)
    assert found.trainer_options.train == (8, "eager")
    systems = {"xlt", "xlt padded", "trainer best", "trainer default"}
    assert found.steps == dict.fromkeys(systems, LEAST)
    assert found.evaluation.keys() == systems
    assert 0 <= found.padding_share < 0.5
    assert found.products_per_second > 1e8
    assert found.wide_products_per_second > 1e8
    assert found.ratios["train_vs_trainer_best"][0] == pytest.approx(
        found.train["xlt"] / found.train["trainer best"]
    )


def test_windows_shows_time_and_memory_of_local_and_global_attention(capsys: pytest.CaptureFixture[str]):
    windows.main(lengths=(24, 400), heads=1, width=8, reach=8, passes=1)
    *table, figures = capsys.readouterr().out.splitlines()
    found = json.loads(figures)["found"]
    assert [line.split()[0] for line in table[2:]] == ["24", "400"]
    # 24 tokens are one chunk. 400 are 50 chunks of 8 queries and 24 keys.
    assert [found[n]["local"]["scores"] for n in ("24", "400")] == [24 * 24, 50 * 8 * 24]
    assert found["400"]["global"]["scores"] == 400 * 400
    assert all(cost["seconds"] > 0 for pair in found.values() for cost in pair.values())


def test_rows_in_use_shows_memory_of_both_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(rows_in_use, "rows_read", lambda _: (np.arange(0, 4096, 4), 4096))
    rows_in_use.main("some.yaml", widths=(256,), tokens=16, steps=2)
    line = capsys.readouterr().out.splitlines()[2].split()
    # 1,024 of 4,096 rows of 256 numbers of 4 bytes, four times: 4 of 16 MiB.
    assert line[:5] == ["256", "1,024", "4,096", "4", "16"]
