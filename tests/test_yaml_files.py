"""A key that stands twice is refused in every file that is read, with the file, the key and both lines."""

import json
import re
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY, StudyKeys, run

from xlt import study
from xlt.config.cli import ParsedCommandLine
from xlt.config.config_files import configs_first
from xlt.config.parser import CommandParser
from xlt.evaluate import make_parser
from xlt.export import export
from xlt.studies.design.plan import Study
from xlt.studies.run.engine import run as run_engine
from xlt.system.yaml_files import load_yaml, read_yaml
from xlt.training.run_folder import RunFolder

WHOLE = f"data: {{tasks: [mnli]}}\nmodel: {{encoder: {REPOSITORY}/encoders/mini}}\n"


def parse_fit(path: Path) -> object:
    return ParsedCommandLine(["--config", str(path)]).config


def parse_evaluate(path: Path) -> object:
    return make_parser().parse_args(["--config", str(path)])


def parse_study(path: Path) -> object:
    return study.make_parser().parse_args([f"--config={path}"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "the key a twice, in lines 1 and 3"),
        ("a: {b: 1, b: 2}\n", "the key a.b twice, in line 1"),
        ("a:\n  b: 1\n\n  'b': 2\n", "the key a.b twice, in lines 2 and 4"),
        ("- c: 1\n- d: 1\n  d: 2\n  d: 2\n", r"the key \[1\]\.d 3 times, in lines 2, 3 and 4"),
        ("a: {60: 1, 60: 2}\n", "the key a.60 twice"),
        ("a: {60: 1, '60': 2}\n", "the key a.60 twice"),
        ("a: {ü: 1}\nb:\n  <<: {c: 1,\n    c: 2}\n", "the key b.<<.c twice, in lines 3 and 4"),
        ('{"a": 1,\n "a": 2}', "the key a twice, in lines 1 and 2"),
        ("a: &x {b: 1, b: 2}\nc: *x\n", "the key a.b twice"),
        ("a.b: 1\na:\n  c: 2\n", "the key a twice, in lines 1 and 2"),
        ("a:\n  b: 1\na.b: 2\n", "the key a.b twice, in lines 2 and 3"),
    ],
)
def test_a_key_that_stands_twice_is_named_with_its_lines(text: str, words: str):
    with pytest.raises(ValueError, match=f"^x.yaml has {words}.*would drop all but the last"):
        load_yaml(text, "x.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "a: &x {b: 1, c: [2]}\nd:\n  <<: *x\n  b: 3\ne: {<<: *x, b: 4}\nf: *x\n",
        "a: &x {b: 1}\nc: &y {<<: *x, b: 2}\nd: {<<: [*x, *y], b: 3}\n",
        "a: {b: 1}\nc: {b: 1}\n",
        "- b: 1\n- b: 1\n",
        "",
        "1\n",
    ],
)
def test_anchors_merge_keys_and_like_keys_of_other_sections_are_as_in_pyyaml(text: str):
    assert load_yaml(text, "x.yaml") == yaml.safe_load(text)


def test_every_shipped_config_is_read_as_pyyaml_reads_it():
    for path in sorted((REPOSITORY / "configs").rglob("*.yaml")):
        assert read_yaml(path) == yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("parse", "text", "words"),
    [
        (parse_fit, "data: {volume: 8}\nmodel: {}\ndata: {cap: 9}\n", "key data twice, in lines 1 and 3"),
        (parse_fit, "data:\n  volume: 8\n  volume: 9\n", "key data.volume twice, in lines 2 and 3"),
        (parse_fit, "data.volume: 8\ndata:\n  cap: 9\n", "key data twice, in lines 1 and 2"),
        (parse_evaluate, "out: x\nvolume: 9\nout: y\n", "key out twice, in lines 1 and 3"),
        (parse_study, "name: x\nsteps:\n  60: 1\n  60: 2\n", "key steps.60 twice, in lines 3 and 4"),
    ],
)
def test_the_config_of_each_command_is_refused(parse: object, text: str, words: str, tmp_path: Path):
    path = tmp_path / "my config.yaml"
    path.write_text(text, encoding="utf-8")
    assert callable(parse)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} has the {words}"):
        parse(path)


def test_the_second_of_two_configs_a_section_file_and_a_class_file_are_refused(tmp_path: Path):
    whole, twice, trainer = (tmp_path / name for name in ("whole.yaml", "twice.json", "trainer.yaml"))
    whole.write_text(WHOLE, encoding="utf-8")
    twice.write_text('{"data": {"cap": 8,\n "cap": 9}}', encoding="utf-8")
    callback = tmp_path / "callback.yaml"
    callback.write_text("class_path: EarlyStopping\ninit_args:\n  monitor: a\n  monitor: b\n", "utf-8")
    trainer.write_text(f"max_steps: 3\ncallbacks: ['{callback}']\n", encoding="utf-8")
    for args, words in (
        (["--config", str(twice)], "twice.json has the key data.cap twice, in lines 1 and 2"),
        ([f"--trainer={trainer}"], "callback.yaml has the key init_args.monitor twice, in lines 3 and 4"),
        (["--data.weights={mnli: 1, mnli: 2}"], "the command line has the key mnli twice"),
    ):
        with pytest.raises(ValueError, match=words):
            ParsedCommandLine([f"--config={whole}", *args])


def test_the_same_key_again_on_the_command_line_counts(tmp_path: Path):
    path = tmp_path / "whole.yaml"
    path.write_text(WHOLE, encoding="utf-8")
    parsed = ParsedCommandLine([f"--config={path}", "--data.cap=8", "--data.cap=9"]).config
    assert parsed.data.cap == 9


def test_a_config_that_a_study_names_and_that_of_a_run_are_refused(tmp_path: Path, study_keys: StudyKeys):
    path = tmp_path / "config.yaml"
    path.write_text("data: {}\nmodel: {}\ntrainer: {}\ndata: {}\n", encoding="utf-8")
    keys = study_keys(intermediate={"mnli": str(path)})
    with pytest.raises(ValueError, match=r"which the study names, has the key data twice, in lines 1 and 4"):
        _ = Study(**keys).nodes
    with pytest.raises(ValueError, match=r"is damaged: .* has the key data twice, in lines 1 and 4"):
        RunFolder(tmp_path).read_config()


def test_a_snakemake_profile_is_refused(tmp_path: Path, study_keys: StudyKeys):
    (tmp_path / "config.v8+.yaml").write_text("jobs: 1\nset-threads: {}\njobs: 2\n", encoding="utf-8")
    made = Study(**study_keys(folder=tmp_path / "runs"))
    with pytest.raises(ValueError, match="has the key jobs twice, in lines 1 and 3"):
        run_engine(made, None, 0, str(tmp_path))


def test_the_config_of_an_export_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "x.yaml"
    path.write_text("run: a\nout: b\nout: c\n", encoding="utf-8")
    assert run([f"--config={path}"], export) == 2
    assert f"error: {path} has the key out twice, in lines 2 and 3" in capsys.readouterr().err


def test_a_config_is_utf8_and_says_so(tmp_path: Path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("out: Größe\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.yaml is not YAML: .*Save the file as UTF-8"):
        parse_evaluate(path)
    path.write_text(json.dumps({"out": "Größe"}, ensure_ascii=False), encoding="utf-8")
    parser = CommandParser()
    parser.add_argument("--config", action="config")
    parser.add_argument("--out", type=str)
    assert parser.parse_args([f"--config={path}"]).out == "Größe"


def test_the_home_folder_is_expanded_in_config_files_and_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my.yaml").write_text("out: ~/scores\nroot: [~/data, '~', a~/b]\nruns: [~/runs/tags]\n")
    config = make_parser().parse_args(["--config=~/my.yaml", "--cache=~/cache"])
    assert str(config.out) == f"{tmp_path}/scores"
    assert config.root == [f"{tmp_path}/data", "~", "a~/b"]
    assert config.runs == [f"{tmp_path}/runs/tags"]
    assert str(config.cache) == f"{tmp_path}/cache"
    (tmp_path / "fit.yaml").write_text("data: {tasks: [mnli], cache: ~/cache}\nmodel: {encoder: ~/mini}\n")
    fit = ParsedCommandLine(["--config=~/fit.yaml", "--data.root=~/rows"]).config
    assert (str(fit.data.cache), fit.data.root) == (f"{tmp_path}/cache", f"{tmp_path}/rows")
    assert fit.model.encoder == f"{tmp_path}/mini"
    words = [f"--config={REPOSITORY}/configs/study/mini.yaml", "--archive=~/nodes.zip", "--folder", "~/runs"]
    found = study.make_parser().parse_args(words)
    assert (str(found.archive), str(found.folder)) == (f"{tmp_path}/nodes.zip", f"{tmp_path}/runs")


def test_a_list_that_contains_itself_is_refused(tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text("name: &x [*x]\n")
    with pytest.raises(ValueError, match="must be a text"):
        parse_study(path)
    assert read_yaml(path)["name"]


@pytest.mark.parametrize("words", [["--config", "FILE"], ["--config=FILE"], ["-c", "FILE"], ["-c=FILE"]])
def test_a_key_before_the_config_overrides_it_too(words: list[str], tmp_path: Path):
    (tmp_path / "fit.yaml").write_text(WHOLE + "trainer: {max_steps: 9}\nseed_everything: 5\n")
    config = [word.replace("FILE", str(tmp_path / "fit.yaml")) for word in words]
    found = ParsedCommandLine(["--trainer.max_steps", "3", *config, "--seed_everything=7"]).config
    assert (found.trainer.max_steps, found.seed_everything, found.data.tasks) == (3, 7, ["mnli"])
    if words[0].startswith("--"):
        (tmp_path / "fit.yaml").write_text("tasks: [udpos]\nseed: 5\nout: file\n")
        evaluation = make_parser().parse_args(["--seed=4", "--out=line", *config])
        assert (evaluation.seed, str(evaluation.out), evaluation.tasks) == (4, "line", ["udpos"])


def test_later_configs_override_earlier_ones():
    words = configs_first(["--a", "1", "--config", "x", "--b=2", "-c=y", "--config"])
    assert words == ["--config", "x", "-c=y", "--config", "--a", "1", "--b=2"]
