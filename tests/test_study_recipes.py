"""Recipes of a study: their runs, the sign and the range of their effects, and the sources of variance."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import StudyKeys
from study_rows import make_scores
from synthetic_study import study_of

from xlt.studies.analysis.cost import costs
from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.recipes import (
    analyse,
    expected_range,
    range_by_chance,
    recipe_scores,
    sources_of_variance,
)
from xlt.studies.design.plan import Study
from xlt.studies.report.figures import draw
from xlt.studies.report.page import page
from xlt.studies.run.engine import write
from xlt.study import study as run_study

SLOW = {"fit_target": {"model": {"learning_rate": 1e-4}}}
LONG = {"fit_target": {"trainer": {"max_steps": 8}}}


def test_recipes_share_phase_2_and_have_runs_of_their_own(study_keys: StudyKeys):
    plain = Study(**study_keys())
    made = Study(**study_keys(recipes={"slow": SLOW, "long": LONG}))
    assert made.node_uses == plain.node_uses
    assert set(plain.nodes) < set(made.nodes)
    counts = {cost.phase: cost.nodes for cost in costs(made, None)}
    # 8 runs of phase 2; 10 fine-tuning runs and 10 evaluations for each of three recipes; and the retrieval
    # of the default recipe.
    assert counts == {"intermediate": 8, "target": 30, "evaluate": 30 + 8 + 1}
    slow = [node for node in made.variants["slow"].nodes.values() if node.phase == "target"]
    assert {node.settings["model"]["learning_rate"] for node in slow} == {1e-4}
    assert set(made.variants) == {"default", "slow", "long"}


def test_the_plan_of_the_engine_has_the_nodes_of_all_recipes(study_keys: StudyKeys, tmp_path: Path):
    made = Study(**study_keys(recipes={"slow": SLOW}, folder=tmp_path))
    plan = json.loads(write(made, 1).read_text(encoding="utf-8"))
    assert plan["wanted"] == list(made.nodes)
    seen: set[str] = set()
    for name, node in plan["nodes"].items():
        assert set(node["parents"]) <= seen
        seen.add(name)


def test_a_recipe_with_another_encoder_has_its_own_phase_2(study_keys: StudyKeys):
    made = Study(**study_keys(recipes={"other": {"encoder": "encoders/mini"}}))
    starts = {node.name for node in made.nodes.values() if node.phase == "intermediate"}
    assert len(starts) == 16


@pytest.mark.parametrize(
    ("recipes", "words"),
    [
        ({"default": SLOW}, "be a valid folder name other than default"),
        ({"a/b": SLOW}, "be a valid folder name other than default"),
        ({"slow": {"volumes": [1]}}, "be a mapping of some of the keys encoder, fit"),
        ({"slow": {}}, "be a mapping of some of the keys encoder, fit"),
        ({"slow": {"fit_target": {"model": 3}}}, r"fit_target\.model"),
    ],
)
def test_a_recipe_that_no_study_can_have_is_refused(study_keys: StudyKeys, recipes: Any, words: str):
    with pytest.raises(ValueError, match=words):
        _ = Study(**study_keys(recipes=recipes)).nodes


def test_recipes_need_a_target_that_is_fine_tuned(study_keys: StudyKeys):
    with pytest.raises(ValueError, match="because no target of the study is fine-tuned"):
        Study(**study_keys(recipes={"slow": SLOW}, targets={"tatoeba": None}))


def finish(study: Study, score: Any) -> None:
    """Write the results of every node, with a score for each evaluation of a run."""
    for node in study.nodes.values():
        folder = study.folder / node.name
        (folder / "scores").mkdir(parents=True, exist_ok=True)
        (folder / "results.json").write_text("{}", encoding="utf-8")
        (folder / "summary.json").write_text("{}", encoding="utf-8")
        (folder / "sources.json").write_text(
            json.dumps({task: {"train": {"examples": 9}} for task in ("mnli", "squad_v1", "cosmosqa")}),
            encoding="utf-8",
        )
        if node.phase == "evaluate" and node.targets == ("xnli",):
            cell = {"task": "xnli", "language": "de", "rows": 10, "split": "validation", "details": {}}
            text = json.dumps(cell | {"metrics": {"accuracy": score(node)}})
            (folder / "scores" / "xnli.de.json").write_text(text, encoding="utf-8")


def test_scores_of_recipes_are_collected_with_learning_rate_and_steps(study_keys: StudyKeys, tmp_path: Path):
    made = Study(**study_keys(folder=tmp_path, volumes=[9], seeds=[0], recipes={"slow": SLOW, "long": LONG}))
    finish(made, lambda node: 50.0 if node.arm == "none" else 53.0)
    found = recipe_scores(made)
    facts = found[["recipe", "learning_rate", "steps"]].drop_duplicates()
    assert facts.to_numpy().tolist() == [["default", 1e-3, 4], ["slow", 1e-4, 4], ["long", 1e-3, 8]]
    assert set(found["target"]) == {"xnli"}
    points = analyse(found).points
    assert points["mean"].tolist() == [3.0] * len(points)
    assert recipe_scores(Study(**study_keys())).empty


def table(effects: dict[tuple[str, str, int], list[float]]) -> pd.DataFrame:
    """Scores of recipes (encoder, rate, steps) whose mnli arm has these effects, by seed."""
    parts = []
    for (encoder, rate, steps), values in effects.items():
        scores = make_scores({"mnli": 0.0}, [1000], range(len(values)))
        gains = scores["seed"].map(dict(enumerate(values))).where(scores["intermediate"] == "mnli", 0.0)
        facts = {"encoder": f"encoders/{encoder}", "learning_rate": float(rate), "steps": steps}
        parts.append(
            scores.assign(score=scores["score"] + gains, recipe=f"{encoder}-{rate}-{steps}", **facts)
        )
    return pd.concat(parts, ignore_index=True)


EFFECTS = {
    ("big", "1e-4", 100): [1.0, 2.0, 3.0],
    ("big", "1e-3", 100): [-1.0, -2.0, -3.0],
    ("small", "1e-4", 100): [3.9, 4.0, 4.1],
    ("small", "1e-3", 100): [6.0, 6.0, 6.3],
}


def test_signs_and_range_of_the_effects_are_those_worked_out_by_hand():
    found = analyse(table(EFFECTS))
    points = found.points.query("target == 'xnli'").set_index("recipe")
    assert points.loc["big-1e-4-100", ["mean", "smallest", "largest"]].tolist() == [2.0, 1.0, 3.0]
    # Student's t with 2 degrees of freedom: 4.303 x 1 / sqrt(3).
    assert points.loc["big-1e-4-100", "high"] == pytest.approx(2 + 4.303 / 3**0.5, abs=1e-3)
    ranges = found.ranges.query("target == 'all'").set_index("encoder")
    counts = ["recipes", "positive", "above", "below", "range"]
    assert ranges.loc["all", counts].tolist() == pytest.approx([4, 3, 2, 0, 8.1])
    assert ranges.loc["big", counts].tolist() == pytest.approx([2, 1, 0, 0, 4.0])
    assert set(found.ranges["target"]) == {"all", "xnli", "udpos"}


def test_the_expected_range_is_that_of_published_tables():
    # d2 of control charts, for example Montgomery (2009), appendix VI.
    for count, value in ((2, 1.128), (3, 1.693), (5, 2.326), (10, 3.078)):
        assert expected_range(count) == pytest.approx(value, abs=1e-3)


def test_the_range_by_chance_is_the_mean_range_of_simulated_recipes():
    random = np.random.default_rng(0)
    found, seen = [], []
    for _ in range(200):
        values = random.normal(0, 2, (6, 3)) + random.normal(0, 5, 3)  # recipes by seeds
        lines = [(f"r{r}", s, values[r, s]) for r in range(6) for s in range(3)]
        found.append(range_by_chance(pd.DataFrame(lines, columns=["recipe", "seed", "effect"])))
        seen.append(float(np.ptp(values.mean(1))))
    assert np.mean(found) == pytest.approx(float(np.mean(seen)), rel=0.05)
    one = pd.DataFrame([("a", 0, 1.0), ("b", 0, 2.0)], columns=["recipe", "seed", "effect"])
    assert np.isnan(range_by_chance(one))


def test_the_sources_of_variance_are_those_worked_out_by_hand():
    # Two rates by two steps by two seeds; sums of squares of a balanced design are 8 times squared contrasts.
    effects = {
        ("1e-4", 100): (1.0, 2.0),
        ("1e-3", 100): (5.0, 6.0),
        ("1e-4", 300): (1.0, 4.0),
        ("1e-3", 300): (7.0, 6.0),
    }
    lines = [
        ("big", rate, str(steps), f"{rate} {steps}", seed, value)
        for (rate, steps), values in effects.items()
        for seed, value in enumerate(values)
    ]
    columns = ["encoder", "learning_rate", "steps", "recipe", "seed", "effect"]
    found = sources_of_variance(pd.DataFrame(lines, columns=pd.Index(columns))).set_index("source")
    # Means: 4.0; rates 2.0 and 6.0; steps 3.5 and 4.5; seeds 3.5 and 4.5; recipes 1.5, 5.5, 2.5, 6.5.
    squares = {
        "learning rate": 32.0,
        "steps": 2.0,
        "combination": 0.0,
        "seed": 2.0,
        "seed within recipe": 4.0,
    }
    assert found["squares"].to_dict() == pytest.approx(squares)
    assert found["df"].to_dict() == dict.fromkeys(squares, 1) | {"seed within recipe": 3}
    # The error is 4 / 3; the total is 40: (32 - 4/3) / 40, (2 - 4/3) / 40.
    assert found.loc["learning rate", "share"] == pytest.approx(76.667, abs=1e-3)
    assert found.loc["steps", "share"] == pytest.approx(1.667, abs=1e-3)
    assert found.loc["combination", "share"] == 0
    assert found["share"].sum() == pytest.approx(100)


def test_one_seed_has_no_sources_of_variance():
    assert analyse(table({key: values[:1] for key, values in EFFECTS.items()})).shares.empty


def test_equal_effects_have_no_sources_of_variance():
    found = analyse(table({key: [1.0, 1.0, 1.0] for key in EFFECTS}))
    assert found.shares.empty
    assert (found.ranges["range"] < 1e-9).all()


def test_the_report_shows_effects_by_recipe_and_writes_their_tables(tmp_path: Path):
    scores = table(EFFECTS)
    own = scores[scores["recipe"] == "big-1e-4-100"].assign(collapsed="unknown")
    study = study_of(own[list(study_of().scores.columns)], recipes=scores)
    (figure,) = [figure for figure in draw(Findings(study)) if figure.name == "recipes"]
    words = " ".join(figure.sentences)
    assert "MNLI at 1,000 examples, all targets: 3 of 4 recipes have a positive effect" in words
    assert "the effects range from −2.0 to +6.1 points." in words
    # 4.0 points: only the mixture's gain over SQuAD, 0.5 points, is not larger.
    assert "by up to 4.0 points" in words
    assert "1 of 5 gains that Phang et al. (2020) report" in words
    assert words.count("are no larger than that: +0.5 (the mixture over SQuAD).") == 1
    note = figure.panels[0].note
    assert "3 of 4 positive, interval above zero in 2, below zero in 0, range 8.1 points (by chance" in note
    assert "big: 1 of 2 positive, interval above zero in 0, below zero in 0, range 4.0 points" in note
    assert re.search(r"Variance: encoder \d+ %, learning rate \d+ %, combination \d+ %, seed \d+ %", note)
    page(study, tmp_path)
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "Robustness to the recipe" in html
    assert "big-1e-3-100: big, rate 1e-3, 100 steps" in html
    assert len(pd.read_csv(tmp_path / "recipe_effects.csv")) == 12
    for name in ("recipe_scores", "recipe_seeds", "recipe_ranges", "recipe_variance"):
        assert (tmp_path / f"{name}.csv").is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_with_recipes_runs_and_is_reported_and_resumed(study_keys: StudyKeys, tmp_path: Path):
    keys = study_keys(folder=tmp_path / "runs", seeds=[0], volumes=[9], recipes={"slow": SLOW})
    keys["intermediate"] = {"mnli": keys["intermediate"]["mnli"]}
    keys["targets"] = {"xnli": keys["targets"]["xnli"]}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**keys, "folder": str(keys["folder"])}), encoding="utf-8")
    assert run_study(["--config", str(path), "--jobs", "2"]) == 0
    report = tmp_path / "runs" / "studies" / "small" / "report"
    points = pd.read_csv(report / "recipe_effects.csv")
    assert sorted(set(points["recipe"])) == ["default", "slow"]
    scores = pd.read_csv(report / "recipe_scores.csv").set_index(["recipe", "intermediate", "language"])[
        "score"
    ]
    effect = (scores["slow", "mnli"] - scores["slow", "none"]).mean()
    assert points.set_index(["recipe", "target"]).loc[("slow", "xnli"), "mean"] == pytest.approx(effect, 1e-4)
    # The other tables are those of the default recipe.
    own = pd.read_csv(report / "scores.csv")
    assert len(own) == len(scores) / 2
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").glob("*/metrics.jsonl")}
    assert len(before) == 5
    assert run_study(["--config", str(path), "--jobs", "2"]) == 0
    assert before == {file: file.stat().st_mtime_ns for file in before}
