"""The mixture: probabilities against hand-worked numbers, and the schedule's laws."""

import math
from fractions import Fraction
from inspect import signature
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xlt.data.sampling.mixture
from xlt.data.sampling.mixture import Schedule, check, probabilities, shares_by_language
from xlt.datamodule import TransferData

LAW = settings(deadline=None, max_examples=50, derandomize=True, database=None)

PAPER = {
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
"""Training examples of the nine tasks, Phang et al. (2020), table 1."""

sizes = st.dictionaries(st.text(min_size=1, max_size=4), st.integers(1, 10**7), min_size=1, max_size=9)
temperatures = st.one_of(st.floats(0.05, 100), st.just(math.inf))
caps = st.one_of(st.integers(1, 10**6).map(float), st.just(math.inf))


def test_the_papers_shares_by_hand() -> None:
    # Three tasks are above 2^17 = 131,072; 3 x 131,072 + 130,319 + 87,599 + 39,905 + 38,015 + 25,588 + 9,741.
    total = 724_383
    found = probabilities(PAPER, temperature=1, cap=2**17)
    by_hand = dict.fromkeys(("anli_plus", "mnli", "qqp"), Fraction(131_072, total))
    by_hand |= {n: Fraction(PAPER[n], total) for n in PAPER if n not in by_hand}
    assert sum(by_hand.values()) == 1
    assert list(found) == list(PAPER)
    assert found == pytest.approx({name: float(share) for name, share in by_hand.items()}, rel=1e-12)
    # To three places, with a calculator.
    assert round(found["mnli"], 3) == 0.181
    assert round(found["commonsenseqa"], 4) == 0.0134


def test_temperature_two_takes_square_roots() -> None:
    # Square roots of 4, 9 and 16 (25 is capped at 16): 2 + 3 + 4 + 4 = 13.
    found = probabilities({"a": 4, "b": 9, "c": 16, "d": 25}, temperature=2, cap=16)
    assert found == pytest.approx({"a": 2 / 13, "b": 3 / 13, "c": 4 / 13, "d": 4 / 13}, rel=1e-12)


def test_temperature_one_half_takes_squares() -> None:
    found = probabilities({"a": 1, "b": 2, "c": 3}, temperature=0.5, cap=math.inf)
    assert found == pytest.approx({"a": 1 / 14, "b": 4 / 14, "c": 9 / 14}, rel=1e-12)


def test_infinite_temperature_is_uniform() -> None:
    assert probabilities(PAPER, math.inf, 2**17) == pytest.approx(dict.fromkeys(PAPER, 1 / 9), rel=1e-15)


@pytest.mark.parametrize("temperature", [1e-2, 1e-6, 1e-100, 1e-300, 5e-324])
def test_a_tiny_temperature_leaves_the_largest_task_alone(temperature: float) -> None:
    found = probabilities({"a": 10, "b": 200_000, "c": 131_071}, temperature, cap=math.inf)
    assert found == pytest.approx({"a": 0, "b": 1, "c": 0}, abs=1e-15)


@pytest.mark.parametrize("temperature", [1e-2, 1e-300])
def test_a_tiny_temperature_shares_between_equal_tasks(temperature: float) -> None:
    found = probabilities({"a": 200_000, "b": 5, "c": 300_000}, temperature, cap=2**17)
    assert found == pytest.approx({"a": 0.5, "b": 0, "c": 0.5}, abs=1e-15)


@LAW
@given(sizes, temperatures, caps)
def test_probabilities_sum_to_one_and_follow_the_formula(
    num_examples: dict[str, int], temperature: float, cap: float
) -> None:
    found = probabilities(num_examples, temperature, cap)
    assert math.fsum(found.values()) == pytest.approx(1, abs=1e-12)
    assert all(0 <= share <= 1 for share in found.values())
    for one in num_examples:
        for other in num_examples:
            ratio = min(num_examples[one], cap) / min(num_examples[other], cap)
            if ratio <= 1:
                expected = ratio ** (1 / temperature) * found[other]
                assert found[one] == pytest.approx(expected, rel=1e-9, abs=1e-300)


@LAW
@given(sizes, temperatures, caps)
def test_a_larger_task_never_has_a_smaller_share(
    num_examples: dict[str, int], temperature: float, cap: float
) -> None:
    found = probabilities(num_examples, temperature, cap)
    ordered = sorted(num_examples, key=lambda name: num_examples[name])
    shares = [found[name] for name in ordered]
    assert shares == sorted(shares)


def test_explicit_weights_replace_the_formula() -> None:
    found = probabilities({"a": 5, "b": 10**6, "c": 7}, 1, 2**17, {"c": 1, "a": 3, "b": 0})
    assert found == {"a": 0.75, "b": 0.0, "c": 0.25}
    assert list(found) == ["a", "b", "c"]


@pytest.mark.parametrize("temperature", [0, -1, math.nan])
def test_a_temperature_not_above_zero_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match=r"data\.temperature is .* above 0"):
        probabilities({"a": 1}, temperature, 10)


@pytest.mark.parametrize("cap", [0, -5, math.nan])
def test_a_cap_not_above_zero_is_refused(cap: float) -> None:
    with pytest.raises(ValueError, match=r"data\.cap is .* above 0"):
        check(1, cap, None, ("a",))


@pytest.mark.parametrize("weights", [{"a": 1}, {"a": 1, "b": 1, "c": 1}, {"a": 1, "d": 1}])
def test_weights_of_other_tasks_are_refused_by_name(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"data\.weights names .*data\.tasks \['a', 'b'\]"):
        check(1, 10, weights, ("a", "b"))


@pytest.mark.parametrize(
    "weights", [{"a": -1, "b": 2}, {"a": 0, "b": 0}, {"a": math.nan, "b": 1}, {"a": math.inf, "b": 1}]
)
def test_weights_that_cannot_be_meant_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"data\.weights are"):
        check(1, 10, weights, ("a", "b"))


@LAW
@given(st.integers(0, 2**32), st.integers(1, 200), st.integers(0, 200))
def test_a_longer_schedule_begins_with_the_shorter(seed: int, num_steps: int, more: int) -> None:
    shares = {"a": 0.5, "b": 0.3, "c": 0.2}
    short, long = Schedule(shares, num_steps, seed), Schedule(shares, num_steps + more, seed)
    assert len(short) == num_steps
    assert [short[i] for i in range(num_steps)] == [long[i] for i in range(num_steps)]


@LAW
@given(st.integers(0, 2**32))
def test_each_step_says_how_many_of_its_task_came_before(seed: int) -> None:
    schedule = Schedule({"a": 0.6, "b": 0.4}, 100, seed)
    seen = {"a": 0, "b": 0}
    for step in range(100):
        task, visit = schedule[step]
        assert visit == seen[task]
        seen[task] += 1
    assert {task: schedule.steps_of(task) for task in seen} == seen


@LAW
@given(st.integers(0, 2**32))
def test_shares_of_the_steps_are_the_probabilities(seed: int) -> None:
    shares = {"a": 0.7, "b": 0.2, "c": 0.09, "d": 0.01}
    num_steps = 5000
    schedule = Schedule(shares, num_steps, seed)
    for task, share in shares.items():
        deviation = (num_steps * share * (1 - share)) ** 0.5
        assert abs(schedule.steps_of(task) - num_steps * share) < 4.5 * deviation


def test_successive_steps_are_independent() -> None:
    schedule = Schedule({"a": 0.5, "b": 0.5}, 10_000, seed=7)
    tasks = [schedule[step][0] for step in range(10_000)]
    repeats = sum(one == other for one, other in pairwise(tasks))
    assert abs(repeats - 9_999 / 2) < 4 * (9_999 / 4) ** 0.5


def test_another_seed_gives_another_schedule() -> None:
    shares = {"a": 0.5, "b": 0.5}
    drawn = {tuple(Schedule(shares, 64, seed)[step][0] for step in range(64)) for seed in range(50)}
    assert len(drawn) == 50


@LAW
@given(st.integers(0, 2**32), st.permutations(["never", "a", "b"]))
def test_a_task_without_weight_is_never_trained(seed: int, order: list[str]) -> None:
    weights = {"never": 0.0, "a": 0.9, "b": 0.1}
    schedule = Schedule({name: weights[name] for name in order}, 500, seed)
    assert schedule.steps_of("never") == 0


def test_the_largest_draw_has_a_task_though_shares_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ten times 0.1 adds up to 1 - 2^-53, which is also the largest number that a draw can give.
    monkeypatch.setattr(xlt.data.sampling.mixture, "uniform", lambda num, *key: np.full(num, 1 - 2.0**-53))
    schedule = Schedule({f"task {i}": 0.1 for i in range(10)}, 3, seed=0)
    assert schedule[0] == ("task 9", 0)


def test_a_single_task_has_every_step() -> None:
    schedule = Schedule({"only": 1.0}, 10, seed=0)
    assert [schedule[step] for step in range(10)] == [("only", step) for step in range(10)]


def test_languages_share_their_tasks_part_by_their_own_temperature():
    # mnli has 300 examples, mlm 100 + 900: shares 300/1300 and 1000/1300; within mlm 1 : 9^(1/2) = 1 : 3.
    found = shares_by_language({"mnli": 300, "mlm/aa": 100, "mlm/bb": 900}, 1, math.inf, None, 2)
    assert found == pytest.approx({"mnli": 3 / 13, "mlm/aa": 2.5 / 13, "mlm/bb": 7.5 / 13})


def test_xlmrs_alpha_is_the_default_temperature_of_languages():
    # Conneau et al. (2020), section 3.1: p_i proportional to n_i^0.3.
    sizes = {"mlm/aa": 10_000, "mlm/bb": 2_000_000}
    found = shares_by_language(
        sizes, 1, 2**17, None, signature(TransferData).parameters["language_temperature"].default
    )
    total = 10_000**0.3 + 2_000_000**0.3
    assert found == pytest.approx({"mlm/aa": 10_000**0.3 / total, "mlm/bb": 2_000_000**0.3 / total})


def test_a_language_may_have_a_weight_beside_its_tasks_others():
    sizes = {"a/x": 5, "a/y": 10, "a/z": 30, "b": 90}
    found = shares_by_language(sizes, 1, 2**17, {"a/x": 2, "a": 4, "b": 2}, 1.0)
    # a/x 2 of 8; a's 4 of 8 shared by y and z as 10 to 30; b 2 of 8.
    assert found == pytest.approx({"a/x": 0.25, "a/y": 0.125, "a/z": 0.375, "b": 0.25})


def test_weights_are_of_tasks_whatever_their_languages():
    found = shares_by_language({"a/x": 5, "a/y": 5, "b": 90}, 1, 2**17, {"a": 3, "b": 1}, math.inf)
    assert found == pytest.approx({"a/x": 0.375, "a/y": 0.375, "b": 0.25})
