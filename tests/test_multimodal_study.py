"""Studies with targets of images and text: the plan, its errors, the measures, and a whole study."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from conftest import StudyKeys
from study_rows import make_scores
from test_study import call
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

from scripts.draw_scenes import draw_scenes
from xlt.models.saving import load_vision, load_vision_settings
from xlt.studies.analysis.collect import consistency_of, scores_of
from xlt.studies.analysis.cost import costs, vision_lines
from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.images import corruption_drop, image_gain, image_ratio
from xlt.studies.analysis.results import StudyResults
from xlt.studies.design.nodes import Node
from xlt.studies.design.plan import Study

XVNLI = ("en", "ar", "fr")


@pytest.fixture(scope="module")
def eye(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny image model with random weights, whose grid is 4 x 4."""
    folder = tmp_path_factory.mktemp("vision") / "vit"
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    ViTModel(ViTConfig(**sizes, image_size=32, patch_size=8)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def make(study_keys: StudyKeys, eye: str, tmp_path_factory: pytest.TempPathFactory) -> StudyKeys:
    """Keys of a study with a text target, a target with images, and an arm of each sort."""
    folder = tmp_path_factory.mktemp("keys")
    draw_scenes(folder / "scenes", train=24, validation=8, test=8)
    plain = study_keys()
    xnli = yaml.safe_load(Path(plain["targets"]["xnli"]).read_text(encoding="utf-8"))
    roots = [str(folder / "scenes"), *xnli["data"]["root"]]
    for name, task in (("xvnli", "xvnli"), ("captions", "flickr_captions"), ("xflickrco", "xflickrco")):
        own = {"tasks": [task], "image_tokens": 4, "root": roots}
        config = {**xnli, "data": xnli["data"] | own, "model": xnli["model"] | {"vision_encoder": eye}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")

    def keys(**changes: Any) -> dict[str, Any]:
        return (
            plain
            | {
                "name": "images",
                "intermediate": {
                    "mnli": plain["intermediate"]["mnli"],
                    "captions": str(folder / "captions.yaml"),
                },
                "volumes": [9],
                "seeds": [0],
                "targets": {"xnli": plain["targets"]["xnli"], "xvnli": str(folder / "xvnli.yaml")},
                "blind": ["xvnli"],
                "folder": folder / "runs",
                "evaluate": plain["evaluate"]
                | {"root": roots, "perturbations": {"xvnli": ["corrupt-fog-3"]}},
            }
            | changes
        )

    return keys


def nodes_of(made: Study, phase: str) -> list[Node]:
    """The nodes of a phase."""
    return [node for node in made.nodes.values() if node.phase == phase]


# The plan


def test_a_blind_target_has_a_run_and_an_evaluation_without_images_for_each_replicate(make: StudyKeys):
    made, plain = Study(**make()), Study(**make(blind=[]))
    blind = [node for node in made.nodes.values() if node.is_blind]
    # Three arms with one seed each: a run and an evaluation of each.
    assert [node.phase for node in blind] == ["target", "evaluate"] * 3
    assert set(made.nodes) - set(plain.nodes) == {node.name for node in blind}
    for node in blind[::2]:
        assert node.settings["data"]["blind"]
        assert "vision_encoder" not in node.settings["model"]
    for trained, tested in zip(blind[::2], blind[1::2], strict=True):
        assert tested.parents == (trained.name,)
        assert tested.settings["perturbations"] == []
        assert tested.settings["runs"] == [str(made.folder / trained.name)]


def test_text_runs_are_shared_with_studies_of_other_vision_encoders(make: StudyKeys, tmp_path: Path):
    found = [Study(**make(fit={"model": {"vision_encoder": name}})) for name in ("google/a", "google/b")]
    names = [set(made.nodes) for made in found]
    shared = {name.rpartition("-")[0] for name in names[0] & names[1]}
    # Text runs, and runs without images before which no run has read images.
    assert shared == {
        *("intermediate-mnli-9-s0", "target-none-s0-xnli-t0", "target-mnli-9-s0-xnli-t0"),
        *("target-none-s0-xvnli-blind-t0", "target-mnli-9-s0-xvnli-blind-t0"),
        *("evaluate-none-s0-xnli-t0", "evaluate-mnli-9-s0-xnli-t0"),
        *("evaluate-none-s0-xvnli-blind-t0", "evaluate-mnli-9-s0-xvnli-blind-t0"),
    }


def test_other_weights_of_a_vision_encoder_in_a_folder_give_other_names(
    make: StudyKeys, eye: str, tmp_path: Path
):
    folder = tmp_path / "eye"
    folder.mkdir()
    for number in (0, 1):
        (folder / "model.safetensors").write_bytes(bytes([number]))
        (tmp_path / str(number)).write_text(
            "\n".join(Study(**make(fit={"model": {"vision_encoder": str(folder)}})).nodes), encoding="utf-8"
        )
    names = [set((tmp_path / str(number)).read_text(encoding="utf-8").split()) for number in (0, 1)]
    assert {name for name in names[0] - names[1] if name.startswith("intermediate")} == {
        name for name in names[0] if "captions" in name and name.startswith("intermediate")
    }


def test_a_list_of_perturbations_gives_each_target_those_that_it_can_have(make: StudyKeys):
    keys = make()
    names = ["noise-10", "mix-30", "no-image", "other-image", "corrupt-fog-3"]
    targets = keys["targets"] | {"xflickrco": str(Path(keys["targets"]["xvnli"]).with_name("xflickrco.yaml"))}
    made = Study(**{**keys, "targets": targets, "evaluate": keys["evaluate"] | {"perturbations": names}})
    found = {
        node.targets: node.settings["perturbations"]
        for node in nodes_of(made, "evaluate")
        if not node.is_blind
    }
    assert found == {
        ("xnli",): {"xnli": ["noise-10", "mix-30"]},
        ("xvnli",): {"xvnli": names},
        ("xflickrco",): {"xflickrco": ["noise-10", "corrupt-fog-3"]},
    }
    # Without perturbations of images the list stays as it is, and with it the names of a text study's nodes.
    text = Study(**{**keys, "evaluate": keys["evaluate"] | {"perturbations": names[:2]}})
    assert {
        tuple(node.settings["perturbations"]) for node in nodes_of(text, "evaluate") if not node.is_blind
    } == {("noise-10", "mix-30")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blind": ["xnli"]}, "blind is xnli: it must be a target with images"),
        ({"blind": ["tatoeba"]}, "blind is tatoeba: it must be a target of the study that is fine-tuned"),
        ({"blind": ["xvnli", "xvnli"]}, "blind is .*name each target once"),
        (
            {"evaluate": {"perturbations": {"xnli": ["corrupt-fog-3"]}}},
            "evaluate.perturbations xnli is corrupt-fog-3: it must be left out of xnli: its examples have no",
        ),
        (
            {"evaluate": {"perturbations": {"xvnli": ["noise-5"], "xnli": ["no-image"]}}},
            "evaluate.perturbations xnli is no-image",
        ),
        (
            {"fit": {"model": {"vision_encoder": None}}},
            r"(captions|xvnli)\.yaml, with the keys of the study under fit: data\.tasks names .*set "
            r"model\.vision_encoder",
        ),
        (
            {"fit_target": {"data": {"blind": True}}},
            r"xnli\.yaml, with the keys of the study under fit: data\.blind is True",
        ),
        ({"fit": {"data": {"image_tokens": 5}}}, r"data\.image_tokens is 5: it must be the square"),
    ],
)
def test_a_study_of_images_with_a_wrong_setting_is_refused_before_any_run(
    make: StudyKeys, changes: dict[str, Any], message: str, tmp_path: Path, capsys: Any
):
    assert call(make(folder=tmp_path / "runs", **changes), tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert not (tmp_path / "runs").exists()


def test_blind_retrieval_and_a_blind_target_that_is_blind_already_are_refused(make: StudyKeys):
    keys = make()
    path = Path(keys["targets"]["xvnli"])
    targets = keys["targets"] | {"xflickrco": str(path.with_name("xflickrco.yaml"))}
    with pytest.raises(ValueError, match=r"blind is xflickrco: .*compares texts with images\. Leave it out"):
        Study(**{**keys, "targets": targets, "blind": ["xflickrco"]})
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    blind = path.with_name("blind.yaml")
    blind.write_text(yaml.safe_dump(config | {"data": config["data"] | {"blind": True}}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"data\.blind of .*blind\.yaml is True: it must be left out"):
        _ = Study(**{**keys, "targets": {"xvnli": str(blind)}}).node_uses
    with pytest.raises(ValueError, match="no-image: it must be left out of xflickrco: it compares texts"):
        _ = Study(
            **{**keys, "targets": targets, "evaluate": {"perturbations": {"xflickrco": ["no-image"]}}}
        ).node_uses


def test_an_unknown_corruption_is_refused_before_any_run(make: StudyKeys, tmp_path: Path, capsys: Any):
    keys = make(folder=tmp_path / "runs")
    del keys["intermediate"]["mnli"]
    keys["evaluate"] = keys["evaluate"] | {"perturbations": {"xvnli": ["corrupt-dust-3"]}}
    assert call(keys, tmp_path, dry_run=True) == 2
    assert "perturbations names 'corrupt-dust-3'" in capsys.readouterr().err


def test_the_dry_run_counts_the_runs_that_read_images(make: StudyKeys, eye: str, tmp_path: Path, capsys: Any):
    made = Study(**make())
    # An arm of captions, and XVNLI after each of three arms. Blind runs read no images.
    assert {cost.phase: cost.nodes for cost in costs(made, None)} == {
        "intermediate": 2,
        "target": 9,
        "evaluate": 9,
    }
    (line,) = vision_lines(made)
    assert line.startswith(f"images: 4 runs with {eye}, 4 tokens per image.\nThe first run that")
    trained = Study(**make(fit={"model": {"vision_trainable": True}}))
    assert vision_lines(trained)[0].endswith("each step reads its images anew.")
    assert call(make(folder=tmp_path / "runs"), tmp_path, dry_run=True) == 0
    assert line in capsys.readouterr().out


# The measures


def of_images() -> pd.DataFrame:
    """Scores of XVNLI with images, blind and perturbed, in three languages, and of a text target."""
    scores = make_scores({"mnli": 4.0}, (1000,), (0, 1), {"xvnli": XVNLI, "xnli": ("en", "ar")})
    own = scores[scores["target"] == "xvnli"]
    lost = {"blind": 5.0, "corrupt-fog-3": 6.0, "corrupt-pixelate-3": 12.0, "other-image": 30.0}
    parts = [own.assign(perturbation=name, score=own["score"] - points) for name, points in lost.items()]
    return pd.concat([scores, *parts], ignore_index=True)


def test_image_gain_is_the_score_minus_the_blind_score_of_the_same_run():
    scores = of_images()
    assert set(image_gain(scores)["gain"]) == {5.0}
    at = scores["perturbation"].eq("blind") & scores["language"].eq("fr") & scores["seed"].eq(1)
    scores.loc[at, "score"] += 1.5
    found = image_gain(scores).set_index(["language", "seed"])["gain"]
    assert set(found["fr", 1]) == {3.5}
    assert set(found.drop(("fr", 1))) == {5.0}
    assert image_gain(scores[scores["perturbation"] != ""])["gain"].isna().all()


def test_corruption_drop_is_the_mean_share_of_the_clean_score_that_is_lost():
    # English XVNLI without an intermediate task is 60: (6 + 12) / 2 = 9 points of 60 are 15 percent.
    found = corruption_drop(of_images()).set_index(["intermediate", "language", "seed"])
    assert found.loc[("none", "en", 0), "drop"] == pytest.approx(15.0)
    assert found["is_complete"].all()
    scores = of_images()
    lacking = scores[~(scores["perturbation"].eq("corrupt-fog-3") & scores["language"].eq("ar"))]
    found = corruption_drop(lacking)
    assert set(found.loc[~found["is_complete"], "language"]) == {"ar"}


def test_the_score_with_other_images_is_shown_in_percent_of_the_clean_score():
    found = image_ratio(of_images(), "other-image").set_index(["intermediate", "language", "seed"])
    assert found.loc[("none", "en", 0), "ratio"] == pytest.approx(50.0)
    assert image_ratio(of_images(), "no-image").empty


def findings() -> Findings:
    """Findings of a study of XVNLI and XNLI."""
    own = frozenset({"xvnli"})
    return Findings(StudyResults("images", of_images(), without_english=own, with_images=own))


def test_means_of_targets_of_iglue_leave_english_out_and_those_of_xtreme_do_not():
    scores = findings().scores.set_index(["target", "intermediate"])
    own = make_scores({"mnli": 4.0}, (1000,), (0,), {"xvnli": XVNLI, "xnli": ("en", "ar")})
    plain = own[own["intermediate"] == "none"].set_index(["target", "language"])["score"]
    assert scores.loc[("xvnli", "none"), "mean"] == pytest.approx(plain["xvnli"][["ar", "fr"]].mean())
    assert scores.loc[("xvnli", "none"), "of"] == 2
    assert scores.loc[("xnli", "none"), "mean"] == pytest.approx(plain["xnli"].mean())
    # The transfer gap and the picture by language still have English.
    gap = {m.name: m for m in findings().measures}["transfer_gap"].by_target.set_index(
        ["target", "intermediate"]
    )
    assert gap.loc[("xvnli", "none"), "mean"] == pytest.approx(
        plain["xvnli", "en"] - plain["xvnli"][["ar", "fr"]].mean()
    )
    assert "en" in set(findings().cells.query("target == 'xvnli'")["language"])


def test_measures_of_images_stand_beside_the_others_and_claims_are_judged_on_text():
    found = {measure.name: measure for measure in findings().measures}
    assert {"image_gain", "corruption_drop", "other_image", "transfer_gap"} <= set(found)
    assert set(found["image_gain"].by_target["mean"]) == {5.0}
    assert set(found["image_gain"].by_target["common"]) == {2}
    (mnli,) = [one for one in findings().judged if one.claim.name == "mnli"]
    assert "1 of 1 target," in mnli.words
    # Every score of text gains 4.0 points, without any noise.
    assert mnli.verdict == "supported"
    only = StudyResults("images", of_images().query("target == 'xvnli'"), with_images=frozenset({"xvnli"}))
    assert Findings(only).judged == []


# The whole


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_study_of_text_and_images_runs_from_plan_to_page(make: StudyKeys, tmp_path: Path, capfd: Any):
    keys = make(folder=tmp_path / "runs")
    del keys["intermediate"]["mnli"]
    keys["evaluate"] = keys["evaluate"] | {
        "perturbations": {"xvnli": ["corrupt-fog-3", "other-image"]},
        "volume": 12,
    }
    assert call(keys, tmp_path, jobs=1, retries=0) == 0, capfd.readouterr()
    made = Study(**keys)
    scores = scores_of(made)
    lines = scores.groupby(["intermediate", "target", "perturbation"]).size()
    assert set(scores["intermediate"]) == {"none", "captions"}
    for arm in ("none", "captions"):
        for perturbation in ("", "blind", "corrupt-fog-3", "other-image"):
            assert lines[arm, "xvnli", perturbation] == 5
    check_projections(made)
    # The rows of XNLI in this root are no translations of each other.
    assert set(consistency_of(made)["target"]) == {"xvnli"}
    report = made.own_folder / "report"
    measures = set(pd.read_csv(report / "robustness.csv")["measure"])
    assert {"image_gain", "corruption_drop", "other_image", "consistency"} <= measures
    html = (report / "index.html").read_text(encoding="utf-8")
    for words in ("Image gain", "Corruption drop", "With other images", "Means of XVNLI leave English out"):
        assert words in html


def check_projections(made: Study) -> None:
    """The projection travels from captions to a text target, and a blind run has none."""
    by_label = {name.rpartition("-")[0]: made.folder / name for name in made.nodes}
    sides = {label: load_vision(str(folder)) for label, folder in by_label.items() if "evaluate" not in label}
    assert sides["intermediate-captions-9-s0"] is not None
    assert sides["target-captions-9-s0-xnli-t0"] is not None
    assert sides["target-none-s0-xnli-t0"] is None
    assert sides["target-captions-9-s0-xvnli-blind-t0"] is None
    settings = load_vision_settings(str(by_label["target-captions-9-s0-xvnli-blind-t0"]))
    assert settings is not None
    assert settings.is_blind
    results = json.loads((by_label["target-captions-9-s0-xvnli-t0"] / "results.json").read_text())
    assert "xvnli" in results
