"""Tasks with images: every task file on drawn scenes and on rows in the hub's layout, and their kinds."""

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY
from PIL import Image as Picture

from scripts.draw_scenes import XFLICKRCO, XVNLI, draw_scenes
from scripts.scene_words import LANGUAGES, THINGS, Scene, Thing, all_scenes, english
from xlt import tasks
from xlt.batch.predictions import Predictions
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.examples import ImageCaption, ImageTextPair, TextPair
from xlt.data.image_store import IMAGE_KEY, Imagery, image_keys
from xlt.data.images import key_of
from xlt.data.sources import Hub, Split
from xlt.evaluation.report import Report, summarise
from xlt.evaluation.scores import CellScore
from xlt.kinds import Classification, VisualClassification, VisualRetrieval
from xlt.list_tasks import facts_of
from xlt.models.heads.classification import ClassificationHead
from xlt.models.heads.image_retrieval import ImageTextHead
from xlt.splits.cache import key_of as cache_key_of
from xlt.splits.reading import read_examples
from xlt.splits.splits import Splits, with_labels

PER_IMAGE = 4
PAD = 1
NAMES = (
    *("flickr_captions", "gqa", "marvl", "nlvr2", "snli_ve", "xflickrco", "xgqa", "xvnli", "xvnli_premise"),
)


@pytest.fixture(scope="module")
def text() -> TextEncoder:
    """The mini tokenizer, with four tokens an image."""
    return TextEncoder(load_tokenizer(str(REPOSITORY / "encoders" / "mini")), 128, 8, image_tokens=PER_IMAGE)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root of drawn scenes."""
    root = tmp_path_factory.mktemp("scenes")
    draw_scenes(root, train=40, validation=10, test=12)
    return root


def png(number: int) -> dict[str, Any]:
    """A struct with a small picture, each number another."""
    content = io.BytesIO()
    Picture.new("RGB", (4, 4), (number % 256, number // 256, 0)).save(content, "PNG")
    return {"bytes": content.getvalue(), "path": None}


def write(root: Path, path: str, rows: list[dict[str, Any]]) -> None:
    """A parquet file of a data root."""
    file = root / f"{path}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)


def question(i: int, answer: str) -> dict[str, Any]:
    """A row of GQA's questions."""
    return {"id": str(i), "imageId": f"im{i % 3}", "question": f"Question {i}?", "answer": answer}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with rows in the layout and the columns of the hub's repositories."""
    root = tmp_path_factory.mktemp("hub")
    for code in XVNLI:
        pair = {"hypothesis": f"{code} h", "caption": f"{code} p", "image": png(1)}
        labels = ["0", "1", "2", "-"]
        rows = [{**pair, "label": label, "pair_id": f"p{i}"} for i, label in enumerate(labels)]
        names = {"0": "entailment", "1": "neutral", "2": "contradiction", "-": "-"}
        write(root, f"floschne/xvnli/default/{code}", [{**r, "label": names[r["label"]]} for r in rows])
    shuffled = [
        {"Flickr30K_ID": "1", "gold_label": label, "image": png(i), "sentence": f"s {i}"}
        for i, label in enumerate(("entailment", "contradiction", "neutral"))
    ]
    for split in ("train", "validation"):
        write(root, f"Phando/snli-ve-shuffled/default/{split}", shuffled)
    with_premise = [
        {"filename": f"{i}.jpg", "image": png(i), "premise": "p", "hypothesis": "h", "label": i % 3}
        for i in range(120)
    ]
    write(root, "Multimodal-Fatima/SNLI-VE_train/default/train", with_premise)
    for split, answers in (("train", ("no", "yes", "red", "no")), ("val", ("yes", "purple"))):
        rows = [question(i, answer) for i, answer in enumerate(answers)]
        write(root, f"lmms-lab/GQA/{split}_balanced_instructions/{split}", rows)
        images = [{"id": f"im{i}", "image": png(i)} for i in range(3)]
        write(root, f"lmms-lab/GQA/{split}_balanced_images/{split}", images)
    for code in ("en", "de"):
        asked = [{"question": f"{code}?", "answer": a, "image": png(9)} for a in ("red", "purple", "no")]
        write(root, f"floschne/xgqa/default/{code}", asked)
    both = {"left_img": png(1), "right_img": png(2)}
    write(root, "floschne/marvl/default/sw", [{"hypothesis": "x", "label": v, **both} for v in (True, False)])
    for split in ("train", "validation", "test"):
        rows = [{"sentence": f"{split} {v}", "label": v, **both} for v in ("True", "False")]
        write(root, f"lil-lab/nlvr2/default/{split}", rows)
    for split in ("train", "val", "test"):
        captions = [{"image": png(i), "caption": [f"{i} a", f"{i} b"]} for i in range(3)]
        write(root, f"umaru97/flickr30k_train_val_test/default/{split}", captions)
    for code in XFLICKRCO:
        rows = [{"image": png(i), "sentences": [f"{code} {i}"], "id": str(i)} for i in range(3)]
        write(root, f"floschne/xflickrco/default/{code}", rows)
    return root


def read(name: str, split: Split, root: Path) -> list[Any]:
    """All examples of a task's own rows."""
    task = tasks.load(name)
    raw_splits = [raw for source in task.sources for raw in source.open(split, [root], task.language)]
    return list(read_examples(task, raw_splits))


# Every task file


@pytest.mark.parametrize("name", NAMES)
def test_a_task_file_is_short_and_tells_its_facts(name: str):
    task = tasks.load(name)
    source = (REPOSITORY / "xlt" / "tasks" / f"{name}.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 40
    assert "https://" in source.split('"""')[1]
    assert task.licence
    assert re.search(r"\b(19|20)\d\d\b", task.citation)
    assert type(task) in (VisualClassification, VisualRetrieval)
    assert task.mean_without_english == bool(task.languages)


CASES: list[tuple[str, Split, str, int, int]] = [
    ("snli_ve", "train", "scenes", 120, 1),
    ("snli_ve", "validation", "scenes", 30, 1),
    ("xvnli_premise", "train", "scenes", 120, 1),
    ("xvnli_premise", "validation", "scenes", 30, 1),
    *((f"xvnli/{code}", "test", "scenes", 36, 1) for code in XVNLI),
    ("xvnli_premise/ru", "test", "scenes", 36, 1),
    ("flickr_captions", "train", "scenes", 120, 1),
    ("flickr_captions/de", "train", "scenes", 40, 1),
    ("flickr_captions/fr", "validation", "scenes", 10, 1),
    ("flickr_captions/cs", "test", "scenes", 12, 1),
    *((f"xflickrco/{code}", "test", "scenes", 12, 1) for code in XFLICKRCO),
    ("xvnli/es", "test", "hub", 4, 1),
    ("xvnli_premise/es", "test", "hub", 4, 1),
    ("snli_ve", "train", "hub", 3, 1),
    ("gqa", "train", "hub", 4, 1),
    ("gqa", "validation", "hub", 2, 1),
    ("xgqa/de", "test", "hub", 3, 1),
    ("nlvr2", "train", "hub", 2, 2),
    ("nlvr2", "validation", "hub", 2, 2),
    ("marvl/sw", "test", "hub", 2, 2),
    ("marvl/en", "test", "hub", 2, 2),
    ("flickr_captions", "validation", "hub", 6, 1),
    ("flickr_captions/en", "test", "hub", 6, 1),
    ("xflickrco/ja", "test", "hub", 3, 1),
]
"""Task, split, data root, rows, images a row."""


@pytest.mark.parametrize(("name", "split", "root", "rows", "num_images"), CASES)
def test_task_reads_and_encodes_its_rows(
    name: str,
    split: Split,
    root: str,
    rows: int,
    num_images: int,
    text: TextEncoder,
    request: pytest.FixtureRequest,
):
    task, found = tasks.load(name), read(name, split, request.getfixturevalue(root))
    assert len(found) == rows
    task = task.with_labels_of(found)
    examples = [example for example in found if task.is_labelled(example)]
    columns, num_cut = task.encode(examples, 7, text)
    assert num_cut == 0
    num_pads = PER_IMAGE * num_images if isinstance(task, VisualClassification) else 0
    for i, example in enumerate(examples):
        sides = (example.text, None) if isinstance(example, ImageCaption) else (example.first, example.second)
        (plain,) = text.pairs([sides])
        ids = columns["input_ids"][i]
        assert ids == [plain.ids[0], *[PAD] * num_pads, *plain.ids[1:]]
        assert (columns["lengths"][i], columns["example"][i], columns["weight"][i]) == (
            [len(ids)],
            [7 + i],
            [1],
        )
        assert columns[IMAGE_KEY][i] == image_keys(example.images)
        assert len(example.images) == num_images
        assert [key_of(image.read()) for image in example.images] == [image.key for image in example.images]
    if isinstance(task, VisualClassification):
        assert {target for (target,) in columns["targets"]} == set(range(len(task.labels)))


def test_the_dev_photos_of_the_premise_variant_are_not_trained_on(hub: Path):
    parts = [read("xvnli_premise", split, hub) for split in ("train", "validation")]
    keys = [{example.images[0].key for example in part} for part in parts]
    assert sum(map(len, parts)) == 120
    assert min(map(len, parts)) > 0
    assert not keys[0] & keys[1]


@pytest.mark.parametrize("label", ["-", -1, None, ""])
def test_rows_without_a_gold_label_are_left_out(label: Any):
    for name in ("xvnli", "xgqa", "marvl"):
        task = tasks.load(name)
        images = (png(1),) * task.num_images  # type: ignore[attr-defined]
        example = task.by_name(ImageTextPair("a", None, label, images=images))  # type: ignore[arg-type]
        task.check(example)
        assert not task.is_labelled(example)


def test_languages_without_training_rows_are_refused_and_with_them_are_few_shot_rows(
    scenes: Path, text: TextEncoder, tmp_path: Path
):
    splits = Splits([scenes], tmp_path / "cache", text)
    with pytest.raises(
        FileNotFoundError,
        match=r"has no row in de, but in ar, en, es, fr, ru; de/Phando/snli-ve-shuffled/default/train",
    ):
        splits.for_training(tasks.load("xvnli/de"), "train")
    rows = pq.read_table(scenes / "xvnli_train.parquet").to_pylist()
    few = [{**row, "language": "de"} for row in rows[:9]]
    write(tmp_path / "root", "xvnli_train", rows + few)
    for name in ("xvnli_validation", "flickr/train"):
        write(tmp_path / "root", name, pq.read_table(scenes / f"{name}.parquet").to_pylist())
    splits = Splits([tmp_path / "root"], tmp_path / "cache", text)
    encoded = splits.for_training(tasks.load("xvnli/de"), "train")
    assert encoded.meta.examples == 9
    assert len(encoded.subset(4, 0, "xvnli", "train")) == 4
    assert splits.for_training(tasks.load("xvnli/de"), "validation").meta.examples == 30


# The kind of classification


def test_answers_of_the_training_rows_are_the_classes_and_unseen_ones_are_errors(
    hub: Path, text: TextEncoder, tmp_path: Path
):
    splits, task = Splits([hub], tmp_path, text), tasks.load("xgqa")
    for split, targets in (("train", [0, 2, 1, 0]), ("validation", [2, -1])):
        encoded = splits.for_training(task, split)
        task = with_labels(task, encoded)
        assert task.labels == ("no", "red", "yes")
        assert encoded.features.scalars("targets").tolist() == targets
    german = replace(task, name="xgqa/de")
    encoded = splits.open(german, "test")
    assert encoded.features.scalars("targets").tolist() == [1, -1, 0]
    outputs = {"prediction": np.array([1, 1, 2])}
    found = Predictions(outputs, encoded.features, np.arange(3))
    scores = german.score(found)
    assert scores.metrics == {"accuracy": pytest.approx(100 / 3)}
    assert scores.details["unseen_answers"] == 1
    assert german.example_scores(found).tolist() == [100.0, 0.0, 0.0]  # type: ignore[union-attr]
    assert "unseen_answers" not in tasks.load("xvnli").score(found).details


def test_a_long_text_is_cut_and_images_do_not_count(text: TextEncoder):
    task = tasks.load("marvl")
    example = ImageTextPair("word " * 300, None, "true", images=(png(1), png(2)))
    columns, num_cut = task.encode([example], 0, text)
    assert num_cut == 1
    assert columns["lengths"] == [[text.max_length + 2 * PER_IMAGE]]


def test_rows_without_their_images_have_the_tokens_of_the_text_alone(text: TextEncoder):
    example = ImageTextPair("a star", None, "true")
    columns, _ = tasks.load("marvl").encode([example], 0, text)
    assert columns["input_ids"] == [text.singles(["a star"])[0].ids]
    assert columns[IMAGE_KEY] == [[]]


def test_wrong_examples_are_refused():
    task = tasks.load("marvl")
    with pytest.raises(ValueError, match="the row has 1 images, but the TASK sets num_images=2"):
        task.check(ImageTextPair("a", None, "true", images=(png(1),)))
    with pytest.raises(
        ValueError, match="read returned a TextPair: a task about images needs an ImageTextPair"
    ):
        task.check(TextPair("a", None, "true"))
    with pytest.raises(ValueError, match="label 'maybe' is not one of: 0 false, 1 true"):
        task.check(ImageTextPair("a", None, "maybe", images=(png(1), png(2))))


def test_a_tokenizer_without_a_pad_token_is_refused():
    tokenizer = load_tokenizer(str(REPOSITORY / "encoders" / "mini"))
    tokenizer.pad_token = None
    example = ImageTextPair("a", None, 0, images=(png(1),))
    with pytest.raises(
        ValueError, match=r"model\.encoder has no pad token, which stands for images: name pad"
    ):
        tasks.load("xvnli").encode([example], 0, TextEncoder(tokenizer, 16, 4))


def test_kinds_tell_their_images_and_heads():
    xvnli, captions = tasks.load("xvnli"), tasks.load("flickr_captions")
    assert xvnli.imagery() == Imagery(as_tokens=True)
    assert captions.imagery() == Imagery(as_tokens=False, num_negatives=512)
    assert isinstance(xvnli.head(8, 0.1), ClassificationHead)
    assert isinstance(captions.head(8, 0.1), ImageTextHead)
    assert tasks.load("mnli").imagery() is None


def test_the_cache_key_depends_on_image_tokens_of_images_in_the_sequence_only(text: TextEncoder):
    longer = replace(text, image_tokens=PER_IMAGE + 1)
    for name, differs in (("xvnli", True), ("flickr_captions", False), ("xnli", False)):
        task = tasks.load(name)
        keys = {cache_key_of(task, [], encoder, []) for encoder in (text, longer)}
        assert (len(keys) == 2) == differs
        other = replace(task, mean_without_english=not task.mean_without_english)
        assert cache_key_of(task, [], text, []) == cache_key_of(other, [], text, [])


# The report, and the list of tasks


def cell(task: str, language: str, score: float, perturbation: str = "") -> CellScore:
    """The score of a cell."""
    figures: tuple[Any, ...] = ({"accuracy": score}, {"accuracy": 33.0}, {})
    return CellScore(task, language, "test", "runs/x", 10, *figures, "f", perturbation)


def test_the_mean_leaves_english_out_and_stands_beside_the_one_with_english():
    xvnli, xnli = tasks.load("xvnli"), tasks.load("xnli")
    scores = {"en": 80.0, "ar": 50.0, "es": 61.0}
    found = summarise(xvnli, scores)
    assert (str(found.mean), str(found.with_english)) == ("55.5 (2/4)", "63.7 (3/5)")
    assert (found.gap, found.worst) == (24.5, "ar")
    assert summarise(xvnli, {}).mean.wanted == 4
    assert summarise(xvnli, {"en": 80.0}).mean.value is None
    assert summarise(xnli, scores).with_english is None
    cells = [cell("xvnli", code, score) for code, score in scores.items()] + [cell("xnli", "en", 70.0)]
    cells += [cell("xvnli", "en", 60.0, "noise-5"), cell("xvnli", "ar", 40.0, "noise-5")]
    report = Report([xvnli, xnli], cells)
    lines = report.table().splitlines()
    mean = next(i for i, line in enumerate(lines) if line.startswith("mean"))
    assert lines[mean].split() == ["mean", "55.5", "(2/4)", "70.0", "(1/15)"]
    assert lines[mean + 1].split() == ["with", "English", "63.7", "(3/5)", "–"]
    noisy = report.perturbed_table().splitlines()
    assert noisy[2].split()[:2] == ["clean", "55.5"]
    assert noisy[-1].split()[:2] == ["noise-5", "40.0"]
    summary = report.summary()["tasks"]
    assert summary["xvnli"]["with_english"] == {"value": pytest.approx(191 / 3), "found": 3, "wanted": 5}
    assert "with_english" not in summary["xnli"]
    assert "with English" not in Report([xnli], cells[3:4]).table()


def test_the_list_of_tasks_knows_their_sources_and_sizes():
    found = {name: facts_of(name) for name in NAMES}
    assert found["xvnli"]["source"] == "data root: xvnli.parquet, or floschne/xvnli default"
    assert (
        found["gqa"]["source"]
        == "lmms-lab/GQA train_balanced_instructions; lmms-lab/GQA val_balanced_instructions"
    )
    assert found["nlvr2"]["source"] == "data root: lil-lab/nlvr2"
    assert {
        name: facts["phase"] for name, facts in found.items() if facts["phase"] != "target"
    } == dict.fromkeys(("gqa", "nlvr2", "snli_ve"), "intermediate")
    sizes = {name: (facts["train"], facts["dev"], facts["test"]) for name, facts in found.items()}
    assert sizes["xvnli"] == ("of snli_ve", "of snli_ve", "1,164")
    assert sizes["gqa"] == ("943,000", "132,062", "-")
    assert sizes["marvl"] == ("of nlvr2", "of nlvr2", "1,012 to 1,242")


# Drawn scenes


def test_scenes_are_drawn_again_to_the_same_bytes_and_differ(scenes: Path, tmp_path: Path):
    draw_scenes(tmp_path, train=40, validation=10, test=12)
    files = sorted(path.relative_to(scenes) for path in scenes.rglob("*.parquet"))
    assert len(files) == 9
    for file in files:
        assert (tmp_path / file).read_bytes() == (scenes / file).read_bytes()
    images = [
        image
        for name in ("flickr/train", "flickr/validation", "flickr/test", "xvnli_images")
        for image in pq.read_table(scenes / f"{name}.parquet")["image"].to_pylist()
    ]
    assert len(set(images)) == len(images) == 40 + 10 + 12 + 12


def test_labels_of_statements_follow_from_the_scene(scenes: Path):
    things = {LANGUAGES["en"].noun(thing): thing for thing in THINGS}
    rows = pq.read_table(scenes / "xvnli_train.parquet").to_pylist()
    assert {row["language"] for row in rows} == {"en", "ar", "es", "fr", "ru"}
    for row in [row for row in rows if row["language"] == "en"]:
        about = re.fullmatch(r"There is (a .+) (in|on the back of) the picture\.", row["hypothesis"])
        assert about is not None
        assert about[1] in things
        is_there = about[1] in re.findall(r"a \w+ \w+", row["premise"].lower())
        if about[2] == "in":
            assert row["label"] == (0 if is_there else 2)
        else:
            assert row["label"] == 1


def test_captions_agree_in_gender():
    scene = Scene((Thing("blue", "star"), Thing("green", "square")), is_side_by_side=True)
    assert {code: language.caption(scene) for code, language in LANGUAGES.items()} == {
        "en": "On the left a blue star, on the right a green square.",
        "de": "Links ist ein blauer Stern, rechts ist ein grünes Quadrat.",
        "fr": "À gauche une étoile bleue, à droite un carré vert.",
        "cs": "Vlevo je modrá hvězda, vpravo je zelený čtverec.",
        "es": "A la izquierda hay una estrella azul y a la derecha un cuadrado verde.",
        "id": "Di kiri ada bintang biru, di kanan ada persegi hijau.",
        "ja": "左に青い星、右に緑の正方形があります。",
        "ru": "Слева синяя звезда, справа зелёный квадрат.",
        "tr": "Solda mavi bir yıldız, sağda yeşil bir kare var.",
        "zh": "左边有一个蓝色的星形，右边有一个绿色的正方形。",
        "ar": "على اليسار نجمة زرقاء وعلى اليمين مربع أخضر.",
    }
    assert english(scene)[2] == "A green square is to the right of a blue star."
    assert len(set(all_scenes())) == 1104


def test_more_scenes_than_there_are_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"train 1000, validation 60, test 60: .* at most 1104"):
        draw_scenes(tmp_path, train=1000)


def test_a_kind_of_text_is_as_before():
    assert Classification(source=Hub("a/b"), read=lambda row: row).imagery() is None  # type: ignore[arg-type,return-value]
