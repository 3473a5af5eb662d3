"""Measure the CPU time of each corruption of images, in milliseconds per image of 224 × 224 pixels.

python -m benchmarks.corruptions
"""

import time
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from xlt.evaluation.perturbations.corruption import KINDS, SEVERITIES, SIDE, corrupted_pixels
from xlt.system.tables import aligned

REPEATS = 5
"""Number of calls. The fastest counts, because other programs may share the machine."""


def drawn() -> np.ndarray:
    """Return the pixels of a picture with large and small shapes."""
    coarse = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def milliseconds(call: Callable[[], object]) -> float:
    """Return the CPU time of the fastest of REPEATS calls, in milliseconds."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        call()
        times.append(1000 * (time.process_time() - start))
    return min(times)


def measure(kinds: Sequence[str] = KINDS) -> dict[str, list[float]]:
    """Return the CPU time of each severity in milliseconds, by kind of corruption, the fastest kind first.

    Args:
        kinds: Kinds to measure. Defaults to all.
    """
    pixels = drawn()
    found = {
        kind: [milliseconds(lambda: corrupted_pixels(pixels, kind, s, 0)) for s in SEVERITIES]  # noqa: B023
        for kind in kinds
    }
    return dict(sorted(found.items(), key=lambda item: max(item[1])))


def main() -> None:
    """Measure all kinds of corruptions, and print a table."""
    lines = [[kind, *(f"{value:.1f}" for value in values)] for kind, values in measure().items()]
    print(aligned([["ms per image, severity", *map(str, SEVERITIES)], *lines]))


if __name__ == "__main__":
    main()
