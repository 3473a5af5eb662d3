"""Multilingual tasks of a user's own as targets: the pages' files, their sources, evaluations and studies."""

import json
import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from conftest import REPOSITORY, Command, run

import xlt.data.sources
from xlt import tasks
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.image_sources import place_of
from xlt.data.multilingual import Multilingual
from xlt.data.sources import Hub, RawSplit
from xlt.evaluate import evaluate
from xlt.evaluation.groups import NINE
from xlt.kinds.task import Task
from xlt.splits.reading import read_examples
from xlt.splits.splits import Splits
from xlt.studies.design.plan import Study

PAGE = REPOSITORY / "docs" / "add-a-task.md"

WEATHER = {
    "en": ("The sun was shining", "The street got wet", "The street got dry", "It rained"),
    "it": ("Il sole splendeva", "La strada si bagnò", "La strada si asciugò", "Piovve"),
    "sw": ("Jua liliwaka", "Barabara ililowa", "Barabara ilikauka", "Mvua ilinyesha"),
}
"""Sun, wet, dry and rain in the languages of the test rows."""

REVIEWS = {"en": ("It is good", "It is bad"), "de": ("Es ist gut", "Es ist schlecht"), "zh": ("很好", "不好")}
"""A good and a bad review in three languages."""


def page_file(name: str) -> str:
    """The file of a task that the page shows, by the first word of its docstring."""
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (text,) = (block for block in found if block.startswith(f'"""{name}:'))
    assert len(text.splitlines()) < 40
    return text


def write(root: Path, path: str, rows: Sequence[dict[str, Any]]) -> None:
    """Rows as a parquet file."""
    file = root / f"{path}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), file)


def causes(language: str, count: int, is_labelled: bool = True) -> list[dict[str, Any]]:
    """Rows in the schema of COPA and XCOPA. The same numbers are translations of each other."""
    sun, wet, dry, rain = WEATHER[language]
    kinds = [
        (wet, rain, sun, "cause", 0),
        (dry, rain, sun, "cause", 1),
        (rain, wet, dry, "effect", 0),
        (sun, wet, dry, "effect", 1),
    ]
    rows = []
    for i in range(count):
        premise, choice1, choice2, question, label = kinds[i * 7 % 4]
        texts = {"premise": f"{premise} {i}.", "choice1": f"{choice1}.", "choice2": f"{choice2}."}
        rows.append({**texts, "question": question, "label": label if is_labelled else -1, "idx": i})
    return rows


def write_xcopa(root: Path) -> None:
    """A root with COPA, whose test rows have no labels, and XCOPA in two languages."""
    for split, count in (("train", 40), ("validation", 12), ("test", 16)):
        write(root, f"aps/super_glue/copa/{split}", causes("en", count, is_labelled=split != "test"))
        for language in ("it", "sw"):
            if split != "train":
                rows = [row | {"changed": False} for row in causes(language, count)]
                write(root, f"cambridgeltl/xcopa/{language}/{split}", rows)


def write_reviews(path: Path, names: dict[str, str] | None = None) -> None:
    """A CSV in three languages. Only English has training and dev rows."""
    lines = ["text,label,lang,part"]
    for language, texts in REVIEWS.items():
        for part, count in (("train", 24), ("dev", 8), ("test", 6)):
            for i in range(count if part == "test" or language == "en" else 0):
                code = (names or {}).get(language, language)
                lines.append(f'"{texts[i % 2]}, {i}",{("good", "bad")[i % 2]},{code},{part}')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Write the page's file as a module of `mylab` in the working directory."""
    (tmp_path / "mylab").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def add(name: str, text: str) -> None:
        (tmp_path / "mylab" / f"{name}.py").write_text(text, encoding="utf-8")

    return add


Own = Callable[[str, str], None]


def scored(args: dict[str, Any]) -> int | str | None:
    """Run an evaluation."""
    given = {"accelerator": "cpu", "max_length": 64, "stride": 16, "tokens_per_micro_batch": 1024, **args}
    return run([f"--{key}={value}" for key, value in given.items()], evaluate)


def fitted(tiny_run: Command, folder: Path, task: str, root: Path, cache: Path) -> None:
    """Train a task for some steps."""
    changes = {
        "data.tasks": f"[{task}]",
        "data.root": root,
        "data.cache": cache,
        "data.validation_volume": None,
        "trainer.max_steps": 4,
        "trainer.val_check_interval": 4,
    }
    assert run(tiny_run(folder, changes)) == 0


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# XCOPA: a multiple choice in 12 languages, its English rows from another data set


@pytest.mark.parametrize("name", ["xcopa", "mylab.xcopa"])
def test_xcopa_trains_on_copa_and_is_tested_in_every_language(
    own: Own, tmp_path: Path, tiny_run: Command, name: str
):
    own("xcopa", page_file("XCOPA"))
    root, cache, folder = tmp_path / "root", tmp_path / "cache", tmp_path / "run"
    write_xcopa(root)
    fitted(tiny_run, folder, name, root, cache)
    args = {"tasks": f"[{name}]", "runs": f"[{folder}]", "root": root, "cache": cache}
    for split, languages, count in (("validation", ["en", "it", "sw"], 12), ("test", ["it", "sw"], 16)):
        out = tmp_path / split
        assert scored({**args, "out": out, "split": split}) == 0
        found = read_json(out / "results.json")["xcopa"]
        assert list(found) == languages
        assert {cell["rows"] for cell in found.values()} == {count}
        assert {cell["chance"] for cell in found.values()} == {50}
        for language, cell in found.items():
            each = np.load(out / "example_scores" / f"xcopa-{language}.npy")
            assert set(each) <= {0, 100}
            assert each.mean() == pytest.approx(cell["accuracy"])
        missing = {line["language"]: line["reason"] for line in read_json(out / "summary.json")["missing"]}
        assert set(missing) == set(tasks.load("xcopa").languages) - set(languages)
        if split == "test":
            assert "no row has a label" in missing["en"]
        assert "xcopa/qu" in missing["qu"]
        mean = read_json(out / "summary.json")["tasks"]["xcopa"]["mean"]
        averaged = [code for code in languages if name != "xcopa" or code != "en"]
        assert (mean["found"], mean["wanted"]) == (len(averaged), 11 if name == "xcopa" else 12)
    consistency = read_json(tmp_path / "validation" / "summary.json")["consistency"]["xcopa"]
    assert set(consistency["languages"]) == {"it", "sw"}


def examples_of(task: Task[Any], split: Any, roots: list[Path], language: str = "") -> list[Any]:
    """The examples of a task in a language."""
    raw_splits = [raw for source in task.sources for raw in source.open(split, roots, language)]
    return list(read_examples(task, raw_splits))


def test_xcopa_asks_copas_question_and_keeps_the_number_of_the_row(tmp_path: Path):
    write_xcopa(tmp_path)
    task = tasks.load("xcopa")
    one, other = (examples_of(task, "validation", [tmp_path], code)[2] for code in ("it", "en"))
    assert one.context == "Piovve 2. What happened as a RESULT?"
    assert other.context == "It rained 2. What happened as a RESULT?"
    assert one.choices == ("La strada si bagnò.", "La strada si asciugò.")
    assert (one.label, one.id) == (other.label, other.id) == (0, "2")
    (first, *_) = examples_of(tasks.load("copa"), "train", [tmp_path])
    assert first.context == "The street got wet 0. What was the CAUSE of this?"


def test_rows_that_another_task_reads_are_logged_with_the_task_that_needs_them(
    tmp_path: Path, tiny_encoder: str, caplog: pytest.LogCaptureFixture
):
    write_xcopa(tmp_path)
    splits = Splits([tmp_path], tmp_path / "cache", TextEncoder(load_tokenizer(tiny_encoder), 64, 16))
    with caplog.at_level("INFO"):
        splits.for_training(tasks.load("xcopa"), "train")
        splits.for_training(tasks.load("xcopa"), "validation")
    assert [record.getMessage() for record in caplog.records if "encoding" in record.getMessage()] == [
        "encoding xcopa (rows of copa): aps/super_glue/copa/train",
        "encoding xcopa: aps/super_glue/copa/validation",
    ]


def test_siqa_counts_its_labels_from_one(tmp_path: Path):
    row = {
        "context": "Kai ran.",
        "question": "Why?",
        "answerA": "Late.",
        "answerB": "Sad.",
        "answerC": "Ill.",
    }
    write(tmp_path, "lighteval/siqa/default/train", [row | {"label": "1"}, row | {"label": "3"}])
    write(tmp_path, "lighteval/siqa/default/validation", [row | {"label": ""}])
    first, last = examples_of(tasks.load("siqa"), "train", [tmp_path])
    assert (first.context, first.choices) == ("Kai ran.", ("Why? Late.", "Why? Sad.", "Why? Ill."))
    assert (first.label, last.label) == (0, 2)
    (unlabelled,) = examples_of(tasks.load("siqa"), "validation", [tmp_path])
    assert not tasks.load("siqa").is_labelled(unlabelled)


def test_the_list_of_tasks_names_both_repositories_of_xcopa():
    source = tasks.load("xcopa").sources[0]
    assert place_of(source) == "cambridgeltl/xcopa {language}; aps/super_glue copa"


def test_xcopa_is_not_one_of_xtremes_nine():
    assert "xcopa" not in NINE
    assert len(NINE) == 9


def test_each_example_has_a_score_unless_f1_counts_too():
    found: Any = SimpleNamespace(classes=torch.tensor([0, 1, 1]), targets=torch.tensor([0, 0, 1]))
    for name in ("mnli", "copa"):
        assert tasks.load(name).example_scores(found).tolist() == [100, 0, 100]
    assert tasks.load("qqp").example_scores(found) is None
    assert tasks.load("copa").predicted_classes(found).tolist() == [0, 1, 1]


# A CSV in three languages


def test_a_csv_in_three_languages_is_trained_and_tested(own: Own, tmp_path: Path, tiny_run: Command):
    own("reviews", page_file("Reviews"))
    write_reviews(tmp_path / "reviews.csv")
    fitted(tiny_run, tmp_path / "run", "mylab.reviews", tmp_path, tmp_path / "cache")
    assert read_json(tmp_path / "run" / "results.json")["reviews"]["rows"] == 8
    args = {"tasks": "[mylab.reviews]", "runs": "[run]", "split": "test", "cache": "cache", "out": "out"}
    assert scored(args) == 0
    found = read_json(tmp_path / "out" / "results.json")["reviews"]
    assert {language: cell["rows"] for language, cell in found.items()} == {"en": 6, "de": 6, "zh": 6}
    assert sorted(path.name for path in (tmp_path / "out" / "example_scores").iterdir()) == [
        "reviews-de.npy", "reviews-en.npy", "reviews-zh.npy",
    ]  # fmt: skip


def test_a_csv_in_three_languages_is_a_target_of_a_study(
    own: Own, tmp_path: Path, study_keys: Callable[..., dict[str, Any]]
):
    own("reviews", page_file("Reviews"))
    keys = study_keys(volumes=[9], seeds=[0], folder=tmp_path / "runs")
    config = yaml.safe_load(Path(keys["targets"]["xnli"]).read_text(encoding="utf-8"))
    config["data"]["tasks"] = ["mylab.reviews"]
    (tmp_path / "reviews.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    made = Study(**{**keys, "targets": {"mylab.reviews": str(tmp_path / "reviews.yaml")}})
    trained = [node for node in made.nodes.values() if node.phase == "target"]
    tested = [node for node in made.nodes.values() if node.phase == "evaluate"]
    assert [node.settings["data"]["tasks"] for node in trained] == [["mylab.reviews"]] * 3
    assert {node.arm for node in tested} == {"none", "mnli", "mixture"}


# Languages in other places


def test_massive_has_a_file_for_each_locale(own: Own, tmp_path: Path):
    own("intents", page_file("MASSIVE"))
    (tmp_path / "massive").mkdir()
    for locale, text in (("en-US", "wake me at five"), ("de-DE", "weck mich um fünf")):
        rows = [
            {
                "id": str(i),
                "locale": locale,
                "partition": part,
                "intent": "alarm_set",
                "utt": f"{text} {part}",
            }
            for i, part in enumerate(("train", "dev", "test"))
        ]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (tmp_path / "massive" / f"{locale}.jsonl").write_text(text, encoding="utf-8")
    task = tasks.load("mylab.intents")
    assert len(set(task.labels)) == 60
    (one,) = examples_of(task, "test", [], "de")
    assert (one.first, task.labels[one.label], one.id) == ("weck mich um fünf test", "alarm_set", "2")
    (dev,) = examples_of(task, "validation", [])
    assert dev.first == "wake me at five dev"


def texts(raw_splits: list[RawSplit]) -> list[str]:
    """The texts of the rows that are kept."""
    return [row["text"] for raw in raw_splits for row in raw.rows() if raw.keeps is None or raw.keeps(row)]


def test_a_split_for_each_language(tmp_path: Path):
    for name in ("en", "german", "german_train"):
        write(tmp_path, f"mylab/reviews/default/{name}", [{"text": name}])
    hub = Hub("mylab/reviews", train=("{language}_train",), test="{language}")
    source = Multilingual(hub, names={"de": "german"})
    assert texts(source.open("test", [tmp_path])) == ["en"]
    assert texts(source.open("test", [tmp_path], "de")) == ["german"]
    assert texts(source.open("train", [tmp_path], "de")) == ["german_train"]


def test_a_column_for_the_language(tmp_path: Path):
    write(tmp_path, "mylab/reviews/default/test", [{"text": code, "lang": code} for code in ("en", "zh-CN")])
    source = Multilingual(Hub("mylab/reviews"), language_of=itemgetter("lang"), names={"zh": "zh-CN"})
    assert texts(source.open("test", [tmp_path], "zh")) == ["zh-CN"]
    source = Multilingual(Hub("mylab/reviews"), language_of=itemgetter("lang"))
    with pytest.raises(
        FileNotFoundError, match=r"no row in zh, but in en, zh-CN\. If zh-CN is zh, write names="
    ):
        source.open("test", [tmp_path], "zh")


def test_a_file_for_each_language_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[Any] = []

    def load(*args: Any, **kwargs: Any) -> Any:
        asked.append((args, kwargs))
        raise ValueError("no network in tests")

    monkeypatch.setattr(xlt.data.sources, "load_dataset", load)
    source = Multilingual(Hub("mylab/reviews", files="data/{language}/{split}.jsonl"), names={"zh": "zh-CN"})
    with pytest.raises(FileNotFoundError, match=r"mylab/reviews/zh-CN/test\.parquet"):
        source.open("test", [], "zh")
    files = {"test": "data/zh-CN/test.jsonl"}
    assert asked == [(("mylab/reviews",), {"data_files": files, "split": "test", "revision": None})]
    write(tmp_path, "mylab/reviews/zh-CN/test", [{"text": "copy"}])
    assert texts(source.open("test", [tmp_path], "zh")) == ["copy"]
    assert place_of(source) == "mylab/reviews data/{language}/{split}.jsonl"


def test_files_without_configs_are_read_by_datasets(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "de.jsonl").write_text('{"text": "Gut"}\n', encoding="utf-8")
    rows = xlt.data.sources.load_dataset(str(tmp_path), data_files={"test": "data/de.jsonl"}, split="test")
    assert list(rows) == [{"text": "Gut"}]


# Bad input


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('labels=("bad", "good")', 'labels=("bad", "fine")', r"label 'good' is not one of: 0 bad, 1 fine"),
        (
            'row["text"]',
            'row["review"]',
            r"column 'review' is missing; the columns are text, label, lang, part",
        ),
        (
            'row["label"])',
            'str(len(row["label"]) - 3))',
            r"label '1' .* and int\(\.\.\.\) for the number of a class",
        ),
        ('language="lang"', 'language="language"', r"has no column language; its columns are text"),
        ("reviews.csv", "review.csv", r"review\.csv is in none of .*Put the file there"),
        ("reviews.csv", "reviews.json", r"cannot be imported \(.*reviews\.py, line \d+\): ValueError: path"),
    ],
)
def test_bad_files_and_rows_are_one_message(
    own: Own, tmp_path: Path, tiny_run: Command, capsys: Any, old: str, new: str, message: str
):
    text = page_file("Reviews")
    assert old in text
    own(
        "reviews",
        text.replace(old, new).replace('"""Reviews: is a review good or bad? review.csv', '"""Reviews'),
    )
    write_reviews(tmp_path / "reviews.csv")
    changes = {"data.tasks": "[mylab.reviews]", "data.root": None, "data.cache": tmp_path / "cache"}
    assert run(tiny_run(tmp_path / "run", changes)) == 2
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert "Traceback" not in said


def test_a_language_without_rows_is_missing_or_refused(
    own: Own, tmp_path: Path, tiny_run: Command, capsys: Any
):
    own("reviews", page_file("Reviews"))
    write_reviews(tmp_path / "reviews.csv", {"zh": "zh-CN"})
    fitted(tiny_run, tmp_path / "run", "mylab.reviews", tmp_path, tmp_path / "cache")
    args = {"tasks": "[mylab.reviews]", "runs": "[run]", "split": "test", "cache": "cache"}
    assert scored({**args, "out": "all"}) == 0
    ((entry),) = read_json(tmp_path / "all" / "summary.json")["missing"]
    assert entry["language"] == "zh"
    mend = 'If zh-CN is zh, write names={"zh": "zh-CN"} in the task\'s source'
    assert mend in entry["reason"]
    assert scored({**args, "out": "zh", "languages": "[zh]"}) == 2
    assert mend in capsys.readouterr().err
    assert scored({**args, "out": "cn", "languages": "[zh-CN]"}) == 2
    assert "languages names zh-CN, but no task is evaluated in this language" in capsys.readouterr().err
