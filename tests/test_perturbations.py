"""Perturbed test sets: their names, which rows they are made of, and what cannot be perturbed."""

import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from benchmark_rows import write, write_root
from conftest import REPOSITORY
from lightning.fabric import Fabric

from xlt import tasks
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.evaluation.perturbations.noise import Noise
from xlt.evaluation.perturbations.perturbations import Inapplicable, Name, Perturbations, names_of
from xlt.evaluation.perturbations.similarity import Aligner, Link, Stretch
from xlt.evaluation.plan import Missing, brief, in_words
from xlt.splits.reading import read_examples
from xlt.splits.splits import Splits


@pytest.fixture(scope="session")
def root(samples: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """XTREME's layout, with a parallel XNLI: the other languages are English with xx before each word."""
    root = write_root(Path(samples[0]), tmp_path_factory.mktemp("perturbed"))
    rows = pq.read_table(root / "google/xtreme/XNLI/validation.parquet").to_pylist()
    english = [row for row in rows if row["language"] == "en"]
    spoken = [
        {
            name: re.sub(r"\b(?=\w)", "xx", value) if name.startswith("sentence") and code != "en" else value
            for name, value in {**row, "language": code}.items()
        }
        for code in ("ar", "de", "en", "th")
        for row in english
    ]
    write(root, "XNLI", "validation", spoken)
    return root


@pytest.fixture
def splits(root: Path, cache: str, tiny_encoder: str) -> Splits:
    return Splits([root], Path(cache), TextEncoder(load_tokenizer(tiny_encoder), 128, 32))


class ByPlace:
    """An aligner that links the words with the same number."""

    key, is_released = "by place", False

    def links(self, pairs: list[tuple[Stretch, Stretch]]) -> list[list[Link]]:
        return [[(i, i) for i in range(min(len(one.words), len(other.words)))] for one, other in pairs]

    def release(self) -> None:
        self.is_released = True


BY_PLACE: Any = ByPlace()


@pytest.fixture
def found(splits: Splits, tmp_path: Path) -> Any:
    """The parts of a task in a language with a perturbation; words are aligned by their place."""

    def parts(name: Name, cell: str) -> Any:
        task = tasks.load(cell)
        split = "test" if task.only_test else "validation"
        perturbations = Perturbations({task.group: [name]}, splits, tmp_path / "alignments", BY_PLACE, seed=0)
        return perturbations.perturbed(name, task, split, splits.raw_splits(task, split))

    return parts


def examples(cell: str, parts: Any) -> list[Any]:
    return list(read_examples(tasks.load(cell), parts))


def test_each_mix_is_drawn_so_many_times_and_a_name_given_twice_counts_once():
    names = names_of(["noise-5", "mix-15", "noise-5"], 2)
    assert list(map(str, names)) == ["noise-5", "mix-15-0", "mix-15-1"]
    assert names[1:] == [Name("mix", 15, 0), Name("mix", 15, 1)]
    assert names_of([], 4) == []


@pytest.mark.parametrize(
    ("names", "num_mixes", "message"),
    [
        (["nose-5"], 4, "perturbations names 'nose-5': it must be noise-PERCENT or mix-PERCENT"),
        (["noise"], 4, "perturbations names 'noise'"),
        (["mix-15-0"], 4, "perturbations names 'mix-15-0'"),
        (["noise-0"], 4, "perturbations noise-0 is 0 percent: it must be 1 to 100"),
        (["mix-101"], 4, "perturbations mix-101 is 101 percent: it must be 1 to 100"),
        (["mix-15"], 0, "num_mixes is 0: it must be at least 1"),
    ],
)
def test_what_is_no_perturbation_is_refused(names: list[str], num_mixes: int, message: str):
    with pytest.raises(ValueError, match=message):
        names_of(names, num_mixes)


def test_noisy_rows_are_the_rows_with_noise(found: Any, splits: Splits):
    clean = examples("xnli/de", splits.raw_splits(tasks.load("xnli/de"), "validation"))
    assert examples("xnli/de", found(Name("noise", 20), "xnli/de")) == [Noise(20, 0)(e) for e in clean]


def test_rows_have_keys_of_their_own_and_the_clean_ones_keep_theirs(found: Any, splits: Splits):
    task = tasks.load("xnli/de")
    clean = splits.raw_splits(task, "validation")
    perturbed = [
        found(name, "xnli/de")
        for name in (Name("noise", 5), Name("noise", 10), Name("mix", 15), Name("mix", 15, 1))
    ]
    folders = [splits.folder(task, "validation", parts) for parts in (clean, *perturbed)]
    assert len(set(folders)) == 5
    assert folders[0] == splits.folder(task, "validation", splits.raw_splits(task, "validation"))
    opened = splits.open(task, "validation", perturbed[1])
    assert opened.folder == folders[2]
    assert opened.meta.examples == splits.open(task, "validation").meta.examples == 40
    assert opened.meta.content != splits.open(task, "validation").meta.content


def test_mixed_rows_hold_words_of_both_languages(found: Any):
    for cell in ("xnli/de", "xnli/en"):
        mixed = " ".join(example.first for example in examples(cell, found(Name("mix", 50), cell)))
        speakers = [word.startswith("xx") for word in mixed.split() if word.isalpha()]
        assert 0.4 < sum(speakers) / len(speakers) < 0.6


@pytest.mark.parametrize(
    ("name", "cell", "reason"),
    [
        (Name("noise", 5), "bucc2018/de", "to find pairs of sentences"),
        (Name("mix", 15), "bucc2018/de", "to find pairs of sentences"),
        (Name("mix", 15), "tatoeba/de", "tatoeba is not parallel"),
        (Name("mix", 15), "udpos/de", "udpos is not parallel"),
        (Name("mix", 15), "xnli/th", "the words of th cannot be told apart"),
        (
            Name("mix", 15),
            "pawsx/de",
            "in order .* of the labels agree",
        ),  # other rows, not their translations
    ],
)
def test_what_cannot_be_perturbed_has_a_reason(found: Any, name: Name, cell: str, reason: str):
    with pytest.raises(Inapplicable, match=reason):
        found(name, cell)


def test_nothing_is_mixed_where_english_is_missing(found: Any, root: Path, tmp_path: Path, splits: Splits):
    rows = pq.read_table(root / "google/xtreme/XNLI/validation.parquet").to_pylist()
    write(tmp_path, "XNLI", "validation", [row for row in rows if row["language"] == "de"])
    alone = Splits([tmp_path], tmp_path / "cache", splits.text)
    task = tasks.load("xnli/de")
    with pytest.raises(Inapplicable, match="has no row in en"):
        Perturbations({}, alone, tmp_path, BY_PLACE, 0).perturbed(
            Name("mix", 15), task, "validation", alone.raw_splits(task, "validation")
        )


def mixed_parts(perturbations: Perturbations, splits: Splits, *cells: str) -> list[Any]:
    tested = [(tasks.load(cell), splits.raw_splits(tasks.load(cell), "validation")) for cell in cells]
    return [
        part
        for task, parts in tested
        for part in perturbations.perturbed(Name("mix", 30), task, "validation", parts)
    ]


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize(
    ("languages", "cells", "aligned"),
    [
        (["de", "en"], ["xnli/de", "xnli/en"], ["de-en"]),
        (["de"], ["xnli/de"], ["de-en"]),
        (["ar", "de", "th", "en"], ["xnli/ar", "xnli/en"], ["ar-en", "de-en"]),
        (None, ["xnli/en"], ["ar-en", "de-en"]),
    ],
)
def test_only_languages_asked_for_are_aligned_and_each_is_told(
    languages: list[str] | None,
    cells: list[str],
    aligned: list[str],
    splits: Splits,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    perturbations = Perturbations({}, splits, tmp_path / "links", BY_PLACE, 0, languages)
    parts = mixed_parts(perturbations, splits, *cells)
    with caplog.at_level("INFO", "xlt"):
        perturbations.align([*parts, *splits.raw_splits(tasks.load("xnli/de"), "validation")])
    assert caplog.messages == [
        f"aligning words, {number} of {len(aligned)}: xnli {pair}, 80 pairs of texts"
        for number, pair in enumerate(aligned, 1)
    ]
    # The links of both languages are of the same texts here, so they lie in one file.
    assert len(list((tmp_path / "links").iterdir())) == 1


@pytest.mark.usefixtures("found")
def test_english_alone_has_no_language_to_mix_in(splits: Splits, tmp_path: Path):
    perturbations = Perturbations({}, splits, tmp_path, BY_PLACE, 0, ["en", "th"])
    with pytest.raises(
        Inapplicable, match=r"none of the languages asked for \(en, th\) can be mixed into en"
    ):
        mixed_parts(perturbations, splits, "xnli/en")


@pytest.mark.usefixtures("found")
def test_rows_mixed_from_other_languages_have_keys_of_their_own(splits: Splits, tmp_path: Path):
    task = tasks.load("xnli/en")
    keys = {
        splits.folder(
            task,
            "validation",
            mixed_parts(Perturbations({}, splits, tmp_path, BY_PLACE, 0, asked), splits, task.name),
        )
        for asked in (None, ["en", "de"], ["en", "ar"], ["en", "ar", "de"])
    }
    assert len(keys) == 3


@pytest.mark.usefixtures("found")
def test_rows_mixed_by_another_aligner_have_keys_of_their_own(splits: Splits, tmp_path: Path):
    task, other = tasks.load("xnli/de"), ByPlace()
    other.key = "another encoder"
    keys = {
        splits.folder(
            task, "validation", mixed_parts(Perturbations({}, splits, tmp_path, by, 0), splits, task.name)
        )
        for by in (BY_PLACE, other)  # pyright: ignore[reportArgumentType]
    }
    assert len(keys) == 2


def test_words_are_aligned_by_an_encoder(splits: Splits, tmp_path: Path):
    """The links of encoders/mini, which aligns badly, are kept and mix words of both languages."""
    fabric = Fabric(accelerator="cpu", devices=1)

    def mixed() -> list[Any]:
        aligner = Aligner(str(REPOSITORY / "encoders" / "mini"), lambda name: name, 512, fabric)
        perturbations = Perturbations({}, splits, tmp_path, aligner, 0)
        parts = mixed_parts(perturbations, splits, "xnli/de")
        perturbations.align(parts)
        assert "_encoder" not in vars(aligner)
        return examples("xnli/de", parts)

    found = mixed()
    (path,) = tmp_path.iterdir()
    before = path.stat().st_mtime_ns
    assert mixed() == found
    assert path.stat().st_mtime_ns == before
    spoken = [word.startswith("xx") for example in found for word in example.first.split() if word.isalpha()]
    assert 0 < sum(spoken) < len(spoken)


def test_the_aligner_gives_its_memory_back(splits: Splits, tmp_path: Path):
    aligner: Any = ByPlace()
    Perturbations({}, splits, tmp_path, aligner, 0).align([])
    assert aligner.is_released


def test_what_is_missing_is_told_once_for_each_reason():
    missing = [
        Missing("udpos", "de", "not parallel", "mix-15"),
        Missing("udpos", "en", "not parallel", "mix-15"),
        Missing("udpos", "de", "not parallel", "mix-30"),
        Missing("xnli", "sw", "no rows"),
    ]
    assert in_words(missing) == ["udpos de mix-15 en mix-30: not parallel", "xnli sw: no rows"]
    more = [*missing, Missing("xnli", "th", "no th.parquet"), Missing("xnli", "ar", "no ar.parquet")]
    assert brief(more, "out/summary.json") == [
        "udpos de mix-15 en mix-30: not parallel",
        "xnli sw th ar: 3 languages; the reasons are in out/summary.json",
    ]
