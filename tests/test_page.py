"""The report of a study: whole without a network or a script, whatever the study lacks and its names hold."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from study_rows import FIVE_TARGETS, make_scores
from synthetic_study import runs_of, scores_of, study_of

from xlt.studies.analysis.claims import CLAIMS
from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.results import StudyResults, check_scores, find_scores, find_study, read_scores
from xlt.studies.report.charts import lines, marks_of
from xlt.studies.report.drawing import Figure
from xlt.studies.report.figures import PAPER, claims, draw
from xlt.studies.report.page import page, render, write_figure_files
from xlt.studies.report.summary import cautions, summary

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TABLES = [
    "scores",
    "effects",
    "effects_by_volume",
    "robustness",
    "curves",
    "mixed_model",
    "claims",
    "verdicts",
    "volume_verdicts",
    "covariates",
    "missing",
]
EVIL = "<script>alert(1)</script>"
SMALL = scores_of(["mnli", "squad_v1"], [100, 1000, 10000], [0, 1], ["xnli", "xquad", "tatoeba"])
FAILED = (
    "target-mnli-100-s1-xnli",
    f"error: {EVIL} at step 3",
    "runs/study/logs/target-mnli-100-s1-xnli.txt",
)


def without(scores: pd.DataFrame, **cell: Any) -> pd.DataFrame:
    """The scores without those of a cell."""
    return scores[~(scores[list(cell)] == pd.Series(cell)).all(axis=1)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study that lacks a run, with names that a page must not believe."""
    scores = without(SMALL, intermediate="mnli", volume=100, seed=1, target="xnli")
    runs = runs_of(scores)
    runs.loc[0, ["wandb", "config"]] = ["javascript:alert(1)", f"note: '{EVIL}'"]
    runs.loc[1, "config"] = f"not: yaml: {EVIL}"
    out = tmp_path_factory.mktemp("study") / "report"
    page(study_of(scores, runs=runs, missing=[FAILED], about={"encoder": EVIL, "words": EVIL}), out)
    return out


@pytest.fixture(scope="module")
def html(report: Path) -> str:
    """The page's text."""
    return (report / "index.html").read_text()


def test_the_report_has_its_page_its_tables_and_each_figure_as_png_and_pdf(report: Path):
    assert {path.stem for path in report.glob("*.csv")} == set(TABLES)
    for name in ("effect", "scores", "languages", "covariates", "robustness"):
        assert (report / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (report / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_the_tables_hold_the_paired_effects(report: Path):
    scores, effects = read_scores(report / "scores.csv"), pd.read_csv(report / "effects.csv")
    cell = {"seed": 1, "target": "xquad", "language": "de", "perturbation": ""}
    own = scores[(scores[list(cell)] == pd.Series(cell)).all(axis=1)].set_index(["intermediate", "volume"])[
        "score"
    ]
    found = effects.query("intermediate == 'mnli' and volume == 1000 and seed == 1")
    (effect,) = found.query("target == 'xquad' and language == 'de'")["effect"]
    assert effect == pytest.approx(own["mnli", 1000] - own["none", 0], abs=1e-3)
    assert not len(
        effects.query("intermediate == 'mnli' and volume == 100 and seed == 1 and target == 'xnli'")
    )


class Links(HTMLParser):
    """Collects what a page refers to, its tags and the attributes that run code."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def test_names_reasons_and_configs_are_text_and_nothing_comes_from_elsewhere(html: str):
    found = Links()
    found.feed(html)
    assert "script" not in found.tags
    assert not found.handlers
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4  # encoder, words, reason, configs
    outside = [
        link for link in found.links if not re.match(r"#|data:,|figures/|\w+\.csv|https://wandb\.ai/", link)
    ]
    assert not outside
    assert "url(http" not in html


def test_the_page_says_what_it_is_and_each_figure_stands_beside_its_numbers(html: str):
    assert '<html lang="en">' in html
    assert "<title>made-up: a study of cross-lingual transfer</title>" in html
    assert html.count("Numbers of this figure") == 5
    assert "Image gain" not in html
    assert (
        html.count('role="img"') == html.count("<svg") == html.count('aria-label="') - 1
    )  # and the sections' list
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_what_is_missing_is_listed_with_its_log_and_counted(html: str):
    assert FAILED[2] in html
    assert "5 of 6" in html  # pairs of a seed and a target of MNLI at 100 examples
    assert "A hollow mark has fewer seeds than other marks." in html
    assert "(fewer seeds: 1)" in html


def test_runs_that_have_learned_little_are_counted(html: str) -> None:
    assert "dev score 60.0 (chance 33.3)" in html
    assert (
        "3 of 12 runs of intermediate training ended less than 5 points above chance on their own dev rows: "
        "MNLI (3)."
    ) in html


def test_several_precisions_of_evaluations_are_said():
    runs = runs_of(SMALL)
    findings = Findings(study_of(SMALL, runs=runs))
    assert "precision" not in " ".join(summary(findings))
    first = runs.index[runs["phase"] == "evaluate"][0]
    runs.loc[first, "precision"] = "32-true"
    count = int((runs["phase"] == "evaluate").sum())
    words = f"Evaluations have several precisions: 1 in 32-true and {count - 1:,} in bf16-mixed."
    assert words in " ".join(summary(Findings(study_of(SMALL, runs=runs))))


def test_one_volume_has_no_answer_on_volumes():
    one = SMALL[SMALL["volume"].isin([0, 100])]
    told = " ".join(summary(Findings(study_of(one.reset_index(drop=True)))))
    assert "do more examples help more" not in told
    assert "curve over the volume" not in told
    told = " ".join(summary(Findings(study_of(SMALL))))
    assert "do more examples help more" in told
    assert "curve over the volume" in told


BARE = scores_of(["mnli"], [100], [0], ["xnli"], [""])


@pytest.mark.parametrize(
    ("scores", "says", "figures"),
    [
        pytest.param(BARE, "There is one seed, so there are no intervals", 3, id="one_of_everything"),
        pytest.param(BARE[BARE["intermediate"] == "none"], "No run is missing", 0, id="no_arm"),
        pytest.param(
            BARE[BARE["intermediate"] == "mnli"], "No effect can be computed", 1, id="none_to_compare_with"
        ),
        pytest.param(
            BARE[BARE["language"] == "sw"], "There is one seed", 3, id="one_language_without_english"
        ),
        pytest.param(
            scores_of(["mixture"], [100, 200], [3, 4], ["tatoeba"], [""]), "mixture", 3, id="no_english"
        ),
    ],
)
def test_a_study_with_little_in_it_has_a_page(scores: pd.DataFrame, says: str, figures: int):
    findings = Findings(StudyResults("little", scores.reset_index(drop=True)))
    made = [figure for figure in draw(findings) if figure.name not in ("claims", "robustness", "covariates")]
    assert len(made) == figures
    assert says in render(findings, made)


def test_the_list_of_1500_runs_stays_small():
    runs = pd.concat([runs_of(SMALL)] * 40, ignore_index=True).head(1500)
    runs["wandb"] = "https://wandb.ai/lab/xlt/runs/0123abcd"
    text = render(Findings(study_of(BARE, runs=runs)), [])
    assert text.count('class="run"') == 1500
    assert len(text.encode()) < 1_000_000


def test_a_figure_that_is_no_more_leaves_no_files(tmp_path: Path):
    for name in ("old.png", "old.pdf", "notes.txt"):
        (tmp_path / name).touch()
    nothing: list[Figure] = []
    write_figure_files(nothing, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


# Bad input


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="language"), "has no column language"),
        (lambda t: t.head(0), "holds no scores"),
        (lambda t: pd.concat([t, t.head(1)]), "has two scores of"),
        (lambda t: t.assign(score="high"), "row 0: score is 'high': it must be a number"),
        (lambda t: t.assign(volume=0.5), "row 0: volume is '0.5'"),
    ],
)
def test_a_table_that_is_none_is_refused_by_name(tmp_path: Path, change: Any, words: str):
    path = tmp_path / "scores.csv"
    change(BARE).to_csv(path, index=False)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        read_scores(path)
    assert str(path) in str(caught.value)


def test_a_study_is_found_by_name_and_by_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "runs" / "study" / "studies" / "volume"
    own.mkdir(parents=True)
    assert find_study("volume").resolve() == find_study(str(own)) == own
    with pytest.raises(FileNotFoundError, match=r"no study 'volum'.*has the studies volume"):
        find_study("volum")
    with pytest.raises(FileNotFoundError, match=r"has no scores\.csv"):
        find_scores(own)
    (own / "scores.csv").touch()
    assert find_scores(own) == own / "scores.csv"


# In a browser


MEASURE = """<script>
addEventListener("load", () => {
  const drawn = [...document.querySelectorAll("svg")].map(svg => {
    const box = svg.getBoundingClientRect();
    return [box.width, box.right, svg.querySelectorAll("path,line,rect,text").length];
  });
  const wide = [...document.querySelectorAll("body *")].filter(e => !e.closest("svg, .scroll"))
    .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.tagName);
  console.error("a line of the console");
  parent.postMessage([innerWidth, document.documentElement.scrollWidth, drawn, wide], "*");
});
</script>"""

PHONE = """<iframe src="copy.html" width="390" height="800" style="border: 0"></iframe><script>
addEventListener("message", event => { document.title = "SEEN" + JSON.stringify(event.data) + "SEEN"; });
</script>"""
"""A browser's window is no narrower than 500 pixels; a frame is."""


def browse(page: Path, width: int, profile: Path) -> tuple[str, list[str]]:
    """The page's elements in a browser of this width, and the lines of its console."""
    command = [
        *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
        *(
            f"--user-data-dir={profile}",
            "--enable-logging=stderr",
            f"--window-size={width},900",
            "--dump-dom",
        ),
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")
def test_a_browser_draws_every_figure_without_an_error(report: Path, tmp_path: Path):
    dom, console = browse(report / "index.html", 1280, tmp_path / "profile")
    assert not console
    assert dom.count("<svg") == (report / "index.html").read_text().count("<svg") > 10


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")
def test_on_a_phone_nothing_is_wider_than_the_screen(html: str, tmp_path: Path):
    # The page forbids scripts: a copy that does not is measured.
    open_page = re.sub(r"<meta http-equiv[^>]*>", "", html).replace("</body>", f"{MEASURE}</body>")
    (tmp_path / "copy.html").write_text(open_page)
    (tmp_path / "phone.html").write_text(PHONE)
    dom, console = browse(tmp_path / "phone.html", 800, tmp_path / "profile")
    assert len(console) == 1  # its own: an error would be seen
    width, scrolled, drawn, wide = json.loads(dom.split("SEEN")[1])
    assert width == scrolled == 390
    assert not wide
    assert len(drawn) == html.count("<svg")
    for size, right, marks in drawn:
        assert size > 200
        assert right <= 390
        assert marks > 5


# The answer first, and what the panels show


def test_the_page_opens_with_question_and_answer(html: str):
    assert html.index("Question: does intermediate training") < html.index("The highest mean effect is")
    order = [html.index(f'<section id="{name}">') for name in ("short", "effects", "scores-section", "run")]
    assert order == sorted(order)
    assert "The median width of the 95 % intervals" in html
    assert "The curve over the volume that fits best" in html


def test_the_page_shows_verdicts_and_conclusions_that_are_not_allowed():
    effects = {"squad_v1": 6.0, "mnli": 0.0}
    scores = make_scores(effects, (500, 1000), range(5), FIVE_TARGETS, seed_sd=0.3, noise_sd=0.3)
    scores = scores[(scores["intermediate"] != "squad_v1") | (scores["volume"] == 1000)]
    words = "It shows gains of 2.5 points. It cannot show those of XLM-R Large."
    results = study_of(check_scores(scores, "made-up"), about={"words": words}, margin=2.5)
    findings = Findings(results)
    html = render(findings, list(claims(findings)))
    assert (
        "Of 3 means over all targets, after Holm's adjustment: 1 gain, 2 with no effect larger than 2.5"
        in (html.replace("&#39;", "'"))
    )
    assert re.search(
        r"<li>Change of the mean score by more examples, in points: MNLI \S+ \[\S+, \S+\] "
        r"\(from 500 to 1,000: no effect larger than 2.5 points\)\.</li>",
        html,
    )
    few = study_of(check_scores(scores[scores["target"] == "xnli"], "made-up"), about={}, margin=2.5)
    findings = Findings(few)
    assert re.search(
        r"<li>Decided on single targets, in points: .*XNLI after SQuAD 1\.1 at 1,000 examples "
        r"\+6\.\d \[\+\d\.\d, \+\d\.\d\] \(gain\)",
        render(findings, list(claims(findings))),
    )
    assert "<li>It cannot show those of XLM-R Large.</li>" in html
    assert "Single languages can differ by more." in html
    assert '<span class="verdict equivalent">no effect larger than 2.5 points</span>' in html
    assert "green: no effect larger than 2.5 points" in html
    assert "<p>No effect larger than" not in html  # the verdict is shown apart from its reason
    table = html[html.index("In this study, points") :]
    assert table.index("8.2 points over XLM-R") < table.index("supported")


def test_one_seed_and_undecided_effects_are_no_conclusions():
    found = " ".join(cautions(Findings(study_of(BARE))))
    assert "Undecided is not the same as no effect: 1 of 1 effects" in found
    assert "One seed decides nothing" in found


def test_the_page_compares_the_largest_volume_with_the_smallest(html: str):
    table = html[html.index("Do more examples change the score?") :]
    assert ">100 to 10,000<" in table[: table.index("</table>")]


def test_the_page_has_one_minus_sign(html: str):
    found = html[html.index('<ol class="claims">') : html.index('<section id="missing">')]
    assert not re.search(r"(?<![\w.])-\d", re.sub(r"<[^>]*>", "", found))


POINTS = pd.DataFrame(
    {
        "intermediate": "mnli",
        "volume": [100, 1000],
        "mean": [35.0, 36.0],
        "low": [34.9, -10.0],
        "high": [35.1, 90.0],
        "complete": True,
    }
)


def layers(points: pd.DataFrame, chance: float | None) -> list[dict[str, Any]]:
    """The layers of a chart of lines, as Vega-Lite."""
    return lines(points, marks_of(["mnli"]), "Score, %", chance=chance).to_dict()["layer"]


def test_an_interval_that_leaves_its_panel_is_marked_at_both_edges():
    shapes = [layer["mark"].get("shape") for layer in layers(POINTS, None)]
    assert [shape for shape in shapes if shape] == ["triangle-down", "triangle-up"]
    inside = [layer["mark"].get("shape") for layer in layers(POINTS.assign(low=34.9, high=36.1), None)]
    assert not any(inside)


@pytest.mark.parametrize(("chance", "is_drawn"), [(33.3, True), (0.0, False), (None, False)])
def test_chance_is_drawn_where_the_scores_are_near_it(chance: float | None, is_drawn: bool):
    dotted = [layer for layer in layers(POINTS, chance) if layer["mark"].get("strokeDash") == [1, 3]]
    assert bool(dotted) == is_drawn


def test_the_papers_figures_stand_beside_this_studys():
    assert {name: round(value, 1) for name, value in PAPER.items()} == {
        "squad": 8.2, "mnli": 7.5, "hellaswag": 7.0, "mixture": 8.7, "best": 0.5,
    }  # fmt: skip
    assert set(PAPER) <= {claim.name for claim in CLAIMS}
    (figure,) = claims(Findings(study_of(SMALL)))
    (data,) = figure.panels[0].chart.to_dict()["datasets"].values()
    shown = {row["words"].replace("\n", " "): row["paper"] for row in data}
    assert shown["MNLI helps on average"] == 7.5
    assert "Hollow diamond" in " ".join(figure.sentences)
