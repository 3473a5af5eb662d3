"""xlt study_overview: one page over several studies, finished or not."""

import json
import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import REPOSITORY, run
from study_rows import make_scores
from synthetic_study import runs_of, scores_of, study_of
from test_page import CHROMIUM, MEASURE, PHONE, browse
from test_study_recipes import EFFECTS, table

from xlt.studies.analysis.results import COLUMNS, StudyResults
from xlt.studies.analysis.written_study import read_report
from xlt.studies.report.page import page
from xlt.study_overview import overview

OLD = REPOSITORY / "docs" / "study-mini"
EVIL = "<script>alert(1)</script>"


def written(results: StudyResults, folder: Path) -> Path:
    """The folder of a study whose report is written."""
    page(results, folder / "report")
    return folder


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A study of text, an unfinished one of images, and one of recipes."""
    folder = tmp_path_factory.mktemp("studies")
    scores = scores_of(volumes=(1000, 10000), targets=("xnli", "udpos", "xquad"), perturbations=("",))
    text = study_of(scores, about={"encoder": "encoders/e5-small", "words": EVIL})
    text = StudyResults("text", text.scores, runs=text.runs, about=text.about)
    own = make_scores({"mnli": 1.5}, [2000], (0, 1), {"xvnli": ("en", "ar", "es")}, ("",), noise_sd=0.3)
    blind = own.assign(perturbation="blind", score=own["score"] - 4.0)
    both = pd.concat([own, blind], ignore_index=True).assign(collapsed="no")[COLUMNS]
    missing = [("target-mnli-2000-s2-xvnli", "not started", "")]
    images = StudyResults(
        "images", both, missing=missing, runs=runs_of(own), with_images=frozenset({"xvnli"})
    )
    recipes = table(EFFECTS)
    default = recipes[recipes["recipe"] == "big-1e-4-100"].assign(collapsed="no")[COLUMNS]
    made = {
        "text": text,
        "images": images,
        "recipe": StudyResults("recipe", default, runs=runs_of(default), recipes=recipes),
    }
    return {name: written(results, folder / name) for name, results in made.items()}


@pytest.fixture(scope="module")
def out(studies: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The overview of all studies, one of them written by an earlier version."""
    folder = tmp_path_factory.mktemp("overview")
    names = json.dumps([*map(str, studies.values()), str(OLD)])
    overview(["--studies", names, "--out", str(folder)])
    return folder


def test_the_verdicts_are_those_of_the_reports(studies: dict[str, Path], out: Path):
    found = pd.read_csv(out / "verdicts.csv", keep_default_na=False)
    claims = pd.read_csv(studies["text"] / "report" / "claims.csv").set_index("claim")
    own = found[found["study"] == "text"].set_index("question")
    for text, claim in claims.iterrows():
        assert own.loc[text, "verdict"] == claim["verdict"]
    mixture = claims.loc["All tasks together help on average"]
    figures = own.loc["All tasks together help on average", "figures"]
    assert figures == f"+{mixture['estimate']:.1f} [+{mixture['low']:.1f}, +{mixture['high']:.1f}]"
    old = found[found["study"] == "study-mini"].set_index("question")
    assert old.loc["XNLI does not gain", "verdict"] == "undecided"
    # A study of images judges no claim of the paper.
    images = found[found["study"] == "images"].set_index("question")
    assert images.loc["XNLI does not gain", "verdict"] == "not run"


def test_questions_show_effects_curves_and_recipes(studies: dict[str, Path], out: Path):
    found = pd.read_csv(out / "verdicts.csv", keep_default_na=False).set_index(["question", "study"])
    effect = found.loc[("Effect of MNLI on the mean of all targets, points", "images"), "figures"]
    assert re.fullmatch(r"\+1\.\d \[[+−]\d\.\d, \+\d\.\d\] at 2,000", effect)
    assert found.loc[("Best curve over the volume (AICc)", "study-mini"), "figures"].startswith("constant: ")
    more = "Change by more examples of MNLI, points"
    figures = found.loc[(more, "text"), "figures"]
    assert re.fullmatch(r"[+−]\d\.\d \[[+−]\d\.\d, [+−]\d\.\d\] from 1,000 to 10,000", figures)
    for question in (more, "Best curve over the volume (AICc)"):
        assert found.loc[(question, "images"), "verdict"] == "not run"
    decided = found.loc[("Decided effects on single targets, points", "text"), "figures"]
    verdicts = pd.read_csv(studies["text"] / "report" / "verdicts.csv")
    verdicts = verdicts[verdicts["target"] != "all"]
    expected = int((verdicts["verdict"] != "undecided").sum())
    assert 0 < expected < len(verdicts)
    assert decided.startswith(f"{expected} of {len(verdicts)}: ")
    assert decided.count(" after ") == expected
    recipes = found.loc[("Effects by recipe", "recipe"), "figures"]
    assert recipes.startswith("MNLI at 1,000: 3 of 4 positive, range 8.1 points, ")
    assert found.loc[("Effects by recipe", "text"), "verdict"] == "not run"


def test_the_markdown_table_of_verdicts_has_ten_lines(out: Path):
    lines = (out / "verdicts.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 10
    assert lines[0] == "| claim | text | images | recipe | study-mini |"
    assert "| undecided −2.2 [−6.7, +2.3] |" in lines[2]
    assert {line.count("|") for line in lines} == {6}


def test_verdicts_on_effects_are_read_if_a_report_has_them(studies: dict[str, Path], tmp_path: Path):
    folder = shutil.copytree(studies["text"], tmp_path / "copy")
    line = {"target": "all", "intermediate": "mnli", "volume": 10000, "effect": 0.4, "low": -0.3, "high": 1.1}
    lines = [line | {"verdict": "equivalent", "margin": 2.0}]
    pd.DataFrame(lines).to_csv(folder / "report" / "verdicts.csv", index=False)
    overview(["--studies", json.dumps([str(folder)]), "--out", str(tmp_path / "out")])
    found = pd.read_csv(tmp_path / "out" / "verdicts.csv").set_index("question")
    own = found.loc["Effect of MNLI on the mean of all targets, points"]
    assert own["verdict"] == "no effect above 2 points"
    assert own["figures"] == "+0.4 [−0.3, +1.1] at 10,000"


def test_the_page_shows_answers_costs_image_gain_and_links(studies: dict[str, Path], out: Path):
    html = unescape((out / "index.html").read_text(encoding="utf-8"))
    facts = json.loads((studies["text"] / "report" / "study.json").read_text(encoding="utf-8"))
    runs = runs_of(read_scores_of(studies["text"]))
    assert facts["tokens"] == runs["tokens"].sum()
    assert facts["hours"] == pytest.approx(0.21 * len(runs))
    for sentence in facts["answer"]:
        assert sentence.replace("; they are listed below", "") in html
    assert "An earlier version of xlt wrote this report" in html
    assert f"{facts['tokens']:,}" in html
    # A score is 4 points above that without images, for each arm.
    answer = json.loads((studies["images"] / "report" / "study.json").read_text(encoding="utf-8"))["answer"]
    start = "Image gain of XVNLI, in points above a run that never saw an image: "
    (gain,) = [sentence for sentence in answer if sentence.startswith(start)]
    figures = r"\+4\.0 \[\S+, \S+\]"
    assert re.fullmatch(
        f"{figures} without intermediate training; {figures} after MNLI\\.", gain[len(start) :]
    )
    gains = html[html.index('id="gains"') :]
    assert gains.count("+4.0") >= 2
    links = re.findall(r'<h3><a href="([^"]+)"', html)
    assert len(links) == 4
    assert all((out / link).resolve().is_file() for link in links)
    assert "<script" not in html
    assert len(html.encode()) < 1_000_000
    for name in ("curves.png", "curves.pdf"):
        assert (out / "figures" / name).stat().st_size > 1000


def read_scores_of(folder: Path) -> pd.DataFrame:
    """The scores of a report."""
    return pd.read_csv(folder / "report" / "scores.csv")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")
def test_on_a_phone_nothing_is_wider_than_the_screen(out: Path, tmp_path: Path):
    html = (out / "index.html").read_text(encoding="utf-8")
    open_page = re.sub(r"<meta http-equiv[^>]*>", "", html).replace("</body>", f"{MEASURE}</body>")
    (tmp_path / "copy.html").write_text(open_page, encoding="utf-8")
    (tmp_path / "phone.html").write_text(PHONE, encoding="utf-8")
    dom, _ = browse(tmp_path / "phone.html", 800, tmp_path / "profile")
    width, scrolled, drawn, wide = json.loads(dom.split("SEEN")[1])
    assert width == scrolled == 390
    assert not wide
    assert len(drawn) == html.count("<svg") == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "report" / "claims.csv").unlink(), "has no claims.csv"),
        (
            lambda folder: (folder / "report" / "effects_by_volume.csv").unlink(),
            "effects_by_volume.csv, a table",
        ),
        (
            lambda folder: (folder / "report" / "robustness.csv").write_text("measure,low\nx,1\n"),
            "robustness.csv lacks the columns target, intermediate, volume, mean, high",
        ),
    ],
)
def test_a_report_that_cannot_be_read_is_refused(
    studies: dict[str, Path], tmp_path: Path, change: Any, words: str
):
    folder = shutil.copytree(studies["images"], tmp_path / "copy")
    change(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        read_report(str(folder))


def test_studies_must_be_named_once_and_exist(studies: dict[str, Path], tmp_path: Path, capsys: Any):
    twice = json.dumps([str(studies["images"])] * 2)
    with pytest.raises(ValueError, match="images, images: give each name once"):
        overview(["--studies", twice, "--out", str(tmp_path)])
    with pytest.raises(ValueError, match="name at least one study"):
        overview(["--studies", "[]", "--out", str(tmp_path)])
    assert run(["--studies", '["no-such-study"]', "--out", str(tmp_path)], overview) == 2
    assert "there is no study 'no-such-study'" in capsys.readouterr().err
