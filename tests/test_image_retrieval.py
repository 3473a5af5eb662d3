"""Retrieval of images and captions: recall by brute force, ties, chance, and the head's loss."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xlt.batch.packing import pack
from xlt.batch.predictions import Predictions
from xlt.data.image_store import IMAGE_KEY, image_keys
from xlt.data.images import Image
from xlt.data.sources import Hub
from xlt.kinds import VisualRetrieval
from xlt.metrics.collapse import COLLAPSED
from xlt.metrics.image_retrieval import RANKS, rank
from xlt.models.heads.image_retrieval import MAX_SCALE, START, ImageTextHead

TASK = VisualRetrieval(source=Hub("a/b"), read=lambda row: row)  # type: ignore[arg-type,return-value]


class Keys:
    """The encoded rows of captions of images."""

    def __init__(self, keys: list[int]) -> None:
        self._columns = {
            IMAGE_KEY: [np.array(image_keys([Image(key, bytes)]), np.int32) for key in keys],
        }

    def gather(self, column: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = [self._columns[column][row] for row in rows]
        return np.concatenate(values), np.array(list(map(len, values)))


def predictions(text: Tensor, image: Tensor, keys: list[int]) -> Predictions:
    """Outputs of the head for captions of images."""
    outputs = {"text": text.numpy(), "image": image.numpy()}
    return Predictions(outputs, Keys(keys), np.arange(len(keys)))


def drawn(seed: int, counts: list[int]) -> tuple[Tensor, Tensor, list[int]]:
    """Vectors of captions and images, in a shuffled order; keys use all 64 bits."""
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(len(counts), 6))
    numbers = generator.permutation(np.repeat(np.arange(len(counts)), counts))
    text = vectors[numbers] + 1.5 * generator.normal(size=(len(numbers), 6))
    keys = [2**63 + 977 * int(n) for n in numbers]
    return torch.from_numpy(text).float(), torch.from_numpy(vectors[numbers]).float(), keys


def by_hand(text: Tensor, image: Tensor, keys: list[int], k: int) -> tuple[float, float]:
    """Recalls at k of both directions by sorting all cosines, in double precision."""
    distinct = list(dict.fromkeys(keys))
    vectors = {key: image[keys.index(key)].double().numpy() for key in distinct}
    texts = [vector.double().numpy() for vector in text]

    def cosine(one: np.ndarray, other: np.ndarray) -> float:
        return float(one @ other / np.sqrt((one @ one) * (other @ other)))

    found_images = sum(
        key in sorted(distinct, key=lambda other: -cosine(own, vectors[other]))[:k]
        for own, key in zip(texts, keys, strict=True)
    )
    found_texts = 0
    for key in distinct:
        best = sorted(range(len(texts)), key=lambda i: -cosine(texts[i], vectors[key]))[:k]
        found_texts += key in [keys[i] for i in best]
    return 100 * found_images / len(texts), 100 * found_texts / len(distinct)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("counts", [[1] * 30, [1, 5, 2, 3, 1, 1, 4, 2] * 3, [2, 1]])
def test_recalls_equal_those_of_sorting_all_cosines(seed: int, counts: list[int]):
    text, image, keys = drawn(seed, counts)
    scores = TASK.score(predictions(text, image, keys))
    found = {**scores.metrics, **scores.details}
    for k in RANKS:
        assert (found[f"ir_r{k}"], found[f"tr_r{k}"]) == pytest.approx(by_hand(text, image, keys, k))
    assert list(scores.metrics) == ["ir_r1", "tr_r1"]
    assert scores.mean == pytest.approx(sum(by_hand(text, image, keys, 1)) / 2)
    assert scores.details["images"] == len(counts)


@pytest.mark.parametrize("counts", [[1, 1, 1, 1], [2, 1, 3], [1, 4]])
def test_chance_is_that_of_all_orders(counts: list[int]):
    text, image, keys = drawn(0, counts)
    chance = TASK.score(predictions(text, image, keys)).chance
    # The nearest caption of an image is any caption with equal probability.
    by_image = [count / sum(counts) for count in counts]
    assert chance["tr_r1"] == pytest.approx(100 * np.mean(by_image))
    assert chance["ir_r1"] == pytest.approx(100 / len(counts))


def test_of_equal_cosines_the_first_wins():
    text, image, keys = torch.ones(4, 3), torch.ones(4, 3), [5, 6, 7, 8]
    scores = TASK.score(predictions(text, image, keys))
    assert scores.metrics == {"ir_r1": 25.0, "tr_r1": 25.0}
    assert TASK.example_scores(predictions(text, image, keys)).tolist() == [100.0, 0.0, 0.0, 0.0]  # type: ignore[union-attr]


def test_example_scores_have_the_score_as_their_mean_if_each_image_has_one_caption():
    found = predictions(*drawn(3, [1] * 40))
    scores = TASK.example_scores(found)
    assert scores is not None
    assert set(scores) == {0.0, 50.0, 100.0}
    assert scores.mean() == pytest.approx(TASK.score(found).mean)
    assert TASK.example_scores(predictions(*drawn(3, [1, 2, 1]))) is None


def test_a_constant_model_has_collapsed():
    text, image, keys = drawn(1, [1] * 30)
    constant = TASK.score(predictions(torch.ones_like(text), image, keys))
    assert constant.details[COLLAPSED] == 1
    assert TASK.score(predictions(image, image, keys)).details[COLLAPSED] == 0


def test_the_ranking_has_at_most_as_many_columns_as_there_are():
    ranking = rank(*drawn(0, [2, 1])[:2], [1, 1, 2])
    assert ranking.images.shape == (3, 2)
    assert ranking.captions.shape == (2, 3)
    assert ranking.image_hits(10).all()


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="size is 0 and num_negatives is 5: size must be at least 1"):
        VisualRetrieval(source=Hub("a/b"), read=TASK.read, size=0, num_negatives=5)


# The head


def identity_head(log_scale: float) -> ImageTextHead:
    """A head of two dimensions whose maps change nothing."""
    head = ImageTextHead(2, 2)
    with torch.no_grad():
        head.text.weight.copy_(torch.eye(2))
        head.image.weight.copy_(torch.eye(2))
        head.log_scale.fill_(log_scale)
    return head


def test_the_loss_is_the_number_worked_out_by_hand():
    # Captions (1, 0) and (0, 1), images (1, 0) and (1, 1): cosines 1 and 0.7071 | 0 and 0.7071, factor 1.
    # To images: ln(e + e^0.7071) - 1 = 0.5574 and ln(1 + e^0.7071) - 0.7071 = 0.4008.
    # To captions: ln(e + 1) - 1 = 0.3133 and ln 2 = 0.6931. Half of the sum of all four is 0.9823.
    head, packing = identity_head(0.0), pack([1, 2])
    states = torch.tensor([[3.0, 0.0], [1.0, 1.0], [-1.0, 2.0]])
    columns = {"images": torch.tensor([[2.0, 0.0], [1.0, 1.0]]), "image_ids": torch.tensor([4, 9])}
    loss = head.loss(head(states, packing, columns), packing, columns)
    assert loss.item() == pytest.approx(0.9823, abs=5e-5)


def test_the_scale_starts_at_the_inverse_of_a_temperature_and_has_a_limit():
    assert ImageTextHead(4, 3).log_scale.exp().item() == pytest.approx(START)
    packing, columns = pack([1, 1]), {"images": torch.eye(2), "image_ids": torch.arange(2)}
    losses = []
    for log_scale in (math.log(MAX_SCALE), 9.0):
        head = identity_head(log_scale)
        losses.append(head.loss(head(torch.ones(2, 2), packing, columns), packing, columns).item())
    assert losses[0] == losses[1]


def case(num_negatives: int) -> tuple[ImageTextHead, Tensor, list[int], dict[str, Tensor]]:
    """A head with states of captions, of which some share an image, and negatives."""
    generator = torch.Generator().manual_seed(num_negatives)
    lengths, ids = [3, 1, 4, 2, 5], torch.tensor([7, 3, 7, 1, 3])
    torch.manual_seed(0)
    head = ImageTextHead(8, 6)
    by_image = torch.randn(10, 8, generator=generator)
    columns = {"images": by_image[ids], "image_ids": ids}
    if num_negatives:
        negatives = torch.randint(0, 10, (num_negatives,), generator=generator)
        columns |= {"negatives": by_image[negatives], "negative_ids": negatives}
    return head, torch.randn(sum(lengths), 8, generator=generator), lengths, columns


def written_out(
    head: ImageTextHead, states: Tensor, lengths: list[int], columns: dict[str, Tensor]
) -> Tensor:
    """The loss row by row, with a list of the wrong answers of each."""
    texts = [head.text(part.mean(0)) for part in states.split(lengths)]
    ids = columns["image_ids"].tolist()
    images = list(zip(ids, columns["images"], strict=True))
    wrong = images + list(
        zip(columns["negative_ids"].tolist(), columns["negatives"], strict=True)
        if "negatives" in columns
        else ()
    )
    scale = head.log_scale.exp()
    total = torch.zeros(())
    for i, text in enumerate(texts):
        own = F.cosine_similarity(text, head.image(images[i][1]), dim=0)
        others = [
            F.cosine_similarity(text, head.image(vector), dim=0) for key, vector in wrong if key != ids[i]
        ]
        captions = [
            F.cosine_similarity(texts[j], head.image(images[i][1]), dim=0)
            for j in range(len(texts))
            if ids[j] != ids[i]
        ]
        for answers in (others, captions):
            total = total - (scale * torch.stack([own, *answers])).log_softmax(0)[0] / 2
    return total


@pytest.mark.parametrize("num_negatives", [0, 1, 40])
def test_loss_and_gradients_equal_those_written_out_with_equal_images_left_out(num_negatives: int):
    head, states, lengths, columns = case(num_negatives)
    packing = pack(lengths)
    losses = [
        head.loss(head(states, packing, columns), packing, columns),
        written_out(head, states, lengths, columns),
    ]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
    ours, theirs = (torch.autograd.grad(loss, list(head.parameters())) for loss in losses)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_vectors_do_not_depend_on_the_other_rows_of_a_micro_batch():
    head, states, lengths, columns = case(0)
    packing = pack(lengths)
    whole = head.predict(head(states, packing, columns), packing, columns)
    assert {name: tuple(value.shape) for name, value in whole.items()} == {"text": (5, 6), "image": (5, 6)}
    for row, part in enumerate(states.split(lengths)):
        alone, own = pack([lengths[row]]), {"images": columns["images"][row : row + 1]}
        found = head.predict(head(part, alone, own), alone, own)
        for name in ("text", "image"):
            torch.testing.assert_close(found[name][0], whole[name][row])
            assert found[name].norm().item() == pytest.approx(1, abs=1e-6)


def test_the_loss_does_not_depend_on_the_order_of_rows():
    head, states, lengths, columns = case(8)
    order = [3, 0, 4, 1, 2]
    moved = {k: v[order] if k in ("images", "image_ids") else v for k, v in columns.items()}
    parts = states.split(lengths)
    packings = pack(lengths), pack([lengths[i] for i in order])
    loss = head.loss(head(states, packings[0], columns), packings[0], columns)
    other = head.loss(head(torch.cat([parts[i] for i in order]), packings[1], moved), packings[1], moved)
    assert loss.item() == pytest.approx(other.item(), rel=1e-6)
