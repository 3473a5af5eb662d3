"""`xlt tasks` tells what each task is, and takes its facts from the task's own file."""

import csv
import importlib
import io
import json
import re
import sys
from pathlib import Path

import pytest
from conftest import run

from xlt import tasks
from xlt.list_tasks import SIZE, facts_of, list_tasks

MINE = '''"""SciTail: does a web sentence entail a science answer?

Khot et al. (2018).

Sizes: 23,596 train,
1,304 dev.
"""

from xlt.data.examples import TextPair
from xlt.data.sources import Hub, Row
from xlt.kinds import Classification


def read(row: Row) -> TextPair:
    """Return premise and hypothesis."""
    return TextPair(row["sentence1"], row["sentence2"], row["gold_label"])


TASK = Classification(
    source=Hub("allenai/scitail", "snli_format"),
    read=read,
    labels=("entailment", "neutral"),
    licence="Apache 2.0",
)
'''


def test_the_table_has_a_line_for_each_task_by_phase(capsys: pytest.CaptureFixture[str]):
    assert run([], list_tasks) == 0
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["task", "kind", "languages", "train", "dev", "test", "licence", "source"]
    shown = lines[: lines.index("")]
    assert sorted(line.split()[0] for line in shown if line.startswith(" ")) == tasks.known()
    phases = [line for line in shown if not line.startswith(" ")]
    assert phases == ["pretraining:", "intermediate:", "target:"]
    (hellaswag,) = (line for line in shown[shown.index("intermediate:") :] if "hellaswag" in line.split()[:1])
    assert hellaswag.split()[:5] == ["hellaswag", "MultipleChoice", "1", "39,905", "10,042"]
    assert max(map(len, [head, *lines])) <= 110


# Sizes as the data sets' papers and READMEs give them
@pytest.mark.parametrize(
    ("name", "phase", "languages", "sizes"),
    [
        ("mnli", "intermediate", 1, ("392,702", "9,815", "-")),
        ("ccg", "intermediate", 1, ("38,015", "see source", "-")),
        ("xnli", "target", 15, ("of mnli", "2,490", "5,010")),
        ("xquad", "target", 11, ("of squad_v1", "1,190", "1,190")),
        ("mlqa", "target", 7, ("of squad_v1", "500 to 1,148", "4,517 to 11,590")),
        ("xcopa", "target", 12, ("of copa", "100", "500")),
        ("tatoeba", "target", 36, ("-", "up to 1,000", "up to 1,000")),
        ("udpos", "target", 33, ("21,253", "see source", "see source")),
        ("mlm", "pretraining", 0, ("see source", "see source", "-")),
    ],
)
def test_phase_languages_and_sizes_of_a_task(name: str, phase: str, languages: int, sizes: tuple[str, ...]):
    found = facts_of(name)
    assert (found["phase"], len(found["languages"])) == (phase, languages)
    assert (found["train"], found["dev"], found["test"]) == sizes


@pytest.mark.parametrize("name", tasks.known())
def test_each_number_of_examples_in_a_tasks_file_is_read(name: str):
    about = importlib.import_module(f"xlt.tasks.{name}").__doc__ or ""
    _, _, line = about.partition("\nSizes: ")
    named = re.findall(r"(?<!and )\b(train|dev|test)\b", line)
    assert len(SIZE.findall(line)) == len(named)
    found = facts_of(name)
    assert found["licence"]
    assert found["source"]
    assert found["kind"] == type(tasks.load(name)).__name__


def test_a_named_task_is_shown_in_full(capsys: pytest.CaptureFixture[str]):
    assert run(["xnli", "squad_v2"], list_tasks) == 0
    shown = capsys.readouterr().out
    assert "\nlanguages  en, ar, bg, de, el, es, fr, hi, ru, sw, th, tr, ur, vi, zh\n" in shown
    assert "\nlabels     entailment, neutral, contradiction\n" in shown
    assert "\nhead       mnli\n" in shown
    assert "\nsource     google/xtreme XNLI\n" in shown
    assert "\n\ntask       squad_v2\n" in shown


def test_json_and_csv_hold_the_same_facts(capsys: pytest.CaptureFixture[str]):
    assert run(["--format=json"], list_tasks) == 0
    read = json.loads(capsys.readouterr().out)
    assert [task["task"] for task in read] == tasks.known()
    assert run(["--format=csv"], list_tasks) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    joined = [{k: " ".join(v) if isinstance(v, list) else v for k, v in task.items()} for task in read]
    assert lines == joined


def test_a_task_of_ones_own_is_listed_by_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "scitail.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert run(["mylab.scitail"], list_tasks) == 0
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert facts["about"] == "SciTail: does a web sentence entail a science answer?"
    assert (facts["phase"], facts["train"], facts["dev"]) == ("intermediate", "23,596", "1,304")
    assert facts["source"] == "allenai/scitail snli_format"


def test_an_unknown_task_is_refused_with_the_known(capsys: pytest.CaptureFixture[str]):
    assert run(["mnl"], list_tasks) == 2
    assert "unknown task 'mnl'. Did you mean mnli? Known tasks: anli_plus" in capsys.readouterr().err
