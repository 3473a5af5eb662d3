"""The table that compares encoders: its arithmetic, and what a second start leaves out."""

import argparse
from pathlib import Path

import pytest

from scripts import encoder_table
from scripts.encoder_table import Score, table, write


def test_table_has_means_over_languages_and_their_spread_over_seeds(tmp_path: Path):
    scores = [
        Score("mini", "xnli", 0, "en", 60.0),
        Score("mini", "xnli", 0, "de", 50.0),
        Score("mini", "xnli", 0, "sw", 40.0),
        Score("mini", "xnli", 1, "en", 64.0),
        Score("mini", "xnli", 1, "de", 52.0),
        Score("mini", "xnli", 1, "sw", 46.0),
        Score("mini", "tatoeba", 0, "de", 8.0),
        Score("mini", "tatoeba", 1, "de", 8.0),
    ]
    # Means of the others 45 and 49: 47, SD 2 √2; English 62, SD 2 √2. Tatoeba has no English and no spread.
    assert table(scores, ["mini", "e5"], ["tatoeba", "xnli"]) == (
        "| encoder | tatoeba, 1 other languages | xnli, 2 other languages | xnli, English |\n"
        "| --- | --- | --- | --- |\n"
        "| mini | 8.0 | 47.0 ± 2.8 | 62.0 ± 2.8 |\n"
        "| e5 | – | – | – |\n"
    )
    write(scores, ["mini"], ["xnli"], tmp_path)
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert lines[:2] == ["encoder,task,seed,language,score", "mini,xnli,0,en,60.0000"]


def test_a_second_start_runs_only_what_is_missing(
    encoder_with_weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    called: list[tuple[str, str]] = []

    def call(module: str, keys: dict[str, object]) -> None:
        folder = Path(str(keys.get("out") or keys["trainer.default_root_dir"]))
        called.append((module, folder.name))
        folder.mkdir(parents=True)
        text = "task,language,metric,score\nxquad,de,em,10\nxquad,de,f1,20\n"
        (folder / ("results.csv" if module == "xlt.evaluate" else "results.json")).write_text(text)

    monkeypatch.setattr(encoder_table, "_call", call)
    arguments = argparse.Namespace(out=tmp_path, volume=5, accelerator="cpu", steps_factor=0.1)
    for _ in range(2):
        found = [encoder_table._scores("xquad", encoder_with_weights, seed, arguments) for seed in (0, 1)]
        assert found == [[("de", 15.0)]] * 2
        assert encoder_table._scores("tatoeba", encoder_with_weights, 0, arguments) == [("de", 15.0)]
    assert called == [
        ("xlt.fit", "xquad-s0"),
        ("xlt.evaluate", "xquad-s0-test"),
        ("xlt.fit", "xquad-s1"),
        ("xlt.evaluate", "xquad-s1-test"),
        ("xlt.evaluate", "tatoeba-test"),
    ]


def test_random_weights_depend_on_the_seed_alone(encoder_with_weights: str, tmp_path: Path):
    folders = [
        encoder_table._random(encoder_with_weights, seed, tmp_path / out)
        for seed, out in ((0, "a"), (0, "b"), (1, "a"))
    ]
    weights = [(Path(folder) / "model.safetensors").read_bytes() for folder in folders]
    assert weights[0] == weights[1] != weights[2]
    assert all((Path(folder) / "tokenizer.json").is_file() for folder in folders)
