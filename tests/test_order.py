"""Random order: a permutation, pure in its key, and the same on every version of numpy."""

import hashlib
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from xlt.data.sampling.order import draw, permutation, seed_of, uniform

LAW = settings(deadline=None, max_examples=50, derandomize=True, database=None)

keys = st.lists(st.one_of(st.integers(), st.text(max_size=5), st.none()), max_size=3)


def philox4x64(counter: list[int], key: list[int]) -> list[int]:
    """Ten rounds of Philox4x64 (Salmon et al. 2011, section 4.3), in plain integers."""
    word = 2**64 - 1
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * counter[0], 2**64)
        high1, low1 = divmod(0xCA5A826395121157 * counter[2], 2**64)
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0]
        key = [(key[0] + 0x9E3779B97F4A7C15) & word, (key[1] + 0xBB67AE8584CAA73B) & word]
    return counter


def test_draw_is_philox_with_the_hash_of_the_key() -> None:
    # The known answer of Random123's kat_vectors for a zero counter and a zero key.
    known = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert philox4x64([0] * 4, [0] * 2) == known
    digest = hashlib.sha256(b"('rows', 3, 'mnli', 0)").digest()
    key = [int.from_bytes(digest[8:16]), int.from_bytes(digest[:8])]
    # numpy counts up before it draws, so its first block has counter 1.
    expected = [number for block in (1, 2, 3) for number in philox4x64([block, 0, 0, 0], key)]
    assert draw(12, "rows", 3, "mnli", 0).tolist() == expected


@LAW
@given(st.integers(0, 200), keys)
def test_a_permutation_holds_each_number_once(num: int, key: list[object]) -> None:
    order = permutation(num, *key)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(num))


@LAW
@given(st.integers(0, 200), keys)
def test_a_permutation_depends_on_its_key_alone(num: int, key: list[object]) -> None:
    first = permutation(num, *key)
    np.random.default_rng(0).random(5)
    permutation(num + 1, "another")
    assert permutation(num, *key).tolist() == first.tolist()


def test_another_key_gives_another_order() -> None:
    orders = {tuple(permutation(50, "rows", seed, task, epoch)) for seed, task, epoch in np.ndindex(4, 4, 4)}
    assert len(orders) == 64


def test_a_key_is_not_the_text_of_its_parts_joined() -> None:
    assert seed_of("a", "b") != seed_of("ab")
    assert seed_of(1, 23) != seed_of(12, 3)
    assert seed_of(1) != seed_of("1")


@LAW
@given(st.integers(0, 100), st.integers(0, 100), keys)
def test_a_shorter_draw_is_a_prefix_of_a_longer(num: int, more: int, key: list[object]) -> None:
    assert draw(num, *key).tolist() == draw(num + more, *key)[:num].tolist()
    assert uniform(num, *key).tolist() == uniform(num + more, *key)[:num].tolist()


def test_uniform_numbers_are_the_top_53_bits_as_a_fraction() -> None:
    expected = [(number >> 11) / 2**53 for number in draw(1000, "u").tolist()]
    found = uniform(1000, "u")
    assert found.tolist() == expected
    assert found.min() >= 0
    assert found.max() < 1


def test_all_orders_of_three_are_equally_likely() -> None:
    counts = Counter(tuple(permutation(3, "order", seed)) for seed in range(3000))
    assert len(counts) == 6
    deviation = (3000 * 1 / 6 * 5 / 6) ** 0.5
    assert all(abs(count - 500) < 4 * deviation for count in counts.values())


@LAW
@given(keys, st.integers(1, 128))
def test_a_seed_has_no_more_than_the_bits_asked_for(key: list[object], bits: int) -> None:
    assert 0 <= seed_of(*key, bits=bits) < 2**bits


def test_the_default_seed_fits_a_signed_64_bit_number() -> None:
    assert all(0 <= seed_of(i) < 2**63 for i in range(1000))
    assert max(seed_of(i) for i in range(1000)) > 2**62
