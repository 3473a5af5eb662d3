"""The paper's bill: worked by hand, whole, and never with a throughput that nobody measured."""

import json
from pathlib import Path

import pytest

from benchmarks import paper_bill, paper_cost, paper_sizes
from benchmarks.paper_bill import Line, Rates
from benchmarks.paper_sizes import Sizes, Split

SIZES = paper_sizes.load()
RATES = Rates(training=20_000.0, inference=80_000.0, source="made up")
PUBLISHED = {
    "anli_plus": 1_104_934,
    "mnli": 392_702,
    "qqp": 363_846,
    "squad_v2": 130_319,
    "squad_v1": 87_599,
    "hellaswag": 39_905,
    "ccg": 38_015,
    "cosmosqa": 25_588,
    "commonsenseqa": 9_741,
}
LANGUAGES = {"xnli": 15, "pawsx": 7, "udpos": 33, "panx": 40, "xquad": 11, "mlqa": 7, "tatoeba": 36}


def split(task: str, part: str, examples: int, tokens: float | None) -> Split:
    return Split(task, "train", part, examples, "made up", "nowhere", tokens, 0)


def test_a_task_costs_what_it_does_by_hand():
    # 36,000 examples of 50 tokens, 3 times: 5.4 million tokens; at 1,000 a second 1.5 hours.
    line = Line("intermediate", "mnli", 36_000, 50.0, 3.0, 1, 1_000.0)
    assert (line.tokens, line.hours) == (5_400_000, 1.5)
    assert line._replace(runs=11).total_hours == 16.5


def test_parts_are_weighted_by_their_published_examples():
    # (300 x 10 + 100 x 50) / 400 = 20.
    parts = [split("a", "one", 300, 10.0), split("a", "two", 100, 50.0)]
    assert paper_bill.examples_and_tokens(parts) == (400, 20.0)


def test_an_unmeasured_language_has_the_mean_of_the_measured():
    parts = (split("a", "de", 1, 10.0), split("a", "fr", 1, 30.0), split("a", "th", 1, None))
    sizes = Sizes("none", 384, 128, {}, parts)
    assert [part.tokens for part in sizes.of("a", "train")] == [10.0, 30.0, 20.0]
    with pytest.raises(ValueError, match="no rows of b train"):
        sizes.of("b", "train")


def test_published_sizes_are_the_papers():
    assert set(paper_bill.INTERMEDIATE) == set(PUBLISHED)
    for task, examples in PUBLISHED.items():
        assert sum(part.examples for part in SIZES.of(task, "train")) == examples
    targets = {"pawsx": 49_401, "panx": 20_000, "udpos": 21_253, "tydiqa": 3_696}
    assert {task: SIZES.of(task, "train")[0].examples for task in targets} == targets
    assert {task: len(SIZES.of(task, "test")) for task in LANGUAGES} == LANGUAGES
    assert all(part.source in SIZES.sources for part in SIZES.splits)


def test_the_mixture_caps_its_three_largest_tasks():
    # Three tasks above 2^17 count 131,072 each; the other six are counted whole: 393,216 + 331,167.
    assert paper_bill.mixture(SIZES)[0] == 724_383


def test_totals_are_sums_of_their_parts():
    lines = paper_bill.bill(SIZES, RATES)
    totals = paper_bill.totals(lines)
    assert [sum(line.phase == phase for line in lines) for phase in totals] == [10, 7, 9, 0]
    for column in (0, 1):
        parts = [totals[phase][column] for phase in ("intermediate", "target", "evaluation")]
        assert totals["all"][column] == pytest.approx(sum(parts))
    assert totals["evaluation"][1] == pytest.approx(totals["evaluation"][0] / 80_000 / 3600)
    assert len(paper_cost.table(lines).splitlines()) == 2 + len(lines) + 1 + len(totals)


def test_epochs_scale_the_intermediate_phase_alone():
    once, twice = (paper_bill.totals(paper_bill.bill(SIZES, RATES, n)) for n in (1.0, 2.0))
    assert twice["intermediate"][0] == pytest.approx(2 * once["intermediate"][0])
    assert twice["target"] == once["target"]


def test_the_record_is_json_and_names_what_was_not_measured():
    record = json.loads(json.dumps(paper_cost.record(SIZES, RATES, paper_bill.bill(SIZES, RATES))))
    assert record["totals"]["all"]["hours"] > 0
    assert any("xnli/el" in note for note in record["notes"])


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ((None, None), "--tokens_per_second and --inference_tokens_per_second"),
        ((1.0, None), "--inference_tokens_per_second"),
        ((0.0, 1.0), "--tokens_per_second"),
    ],
)
def test_a_missing_throughput_names_its_option(given: tuple, option: str, tmp_path: Path):
    with pytest.raises(ValueError, match=f"no throughput for {option}:"):
        paper_cost.find_rates(*given, results=tmp_path)


def test_the_plain_command_has_a_measured_throughput():
    rates = paper_cost.find_rates(None, None)
    assert min(rates.training, rates.inference) > 0
    assert "gpu-" in rates.source


def test_throughput_comes_from_the_newest_results_that_have_it(tmp_path: Path):
    figures = {"training_tokens_per_second": 5.0, "inference_tokens_per_second": 15.0}
    (tmp_path / "a.json").write_text(json.dumps(figures))
    (tmp_path / "b.json").write_text(json.dumps({"something": "else"}))
    assert paper_cost.find_rates(None, None, tmp_path) == Rates(5.0, 15.0, "a.json, a.json")
    assert paper_cost.find_rates(7.0, None, tmp_path) == Rates(7.0, 15.0, "option, a.json")
    assert paper_cost.find_rates(7.0, 8.0, tmp_path) == Rates(7.0, 8.0, "option, option")


def test_the_stored_table_survives_a_round_trip(tmp_path: Path):
    paper_sizes.save(SIZES, tmp_path / "sizes.json")
    assert paper_sizes.load(tmp_path / "sizes.json") == SIZES
    assert (tmp_path / "sizes.json").read_text() == paper_sizes.TABLE.read_text()
