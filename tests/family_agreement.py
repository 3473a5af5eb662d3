"""Print how well each family of encoders agrees with the padded model of transformers.

python tests/family_agreement.py

The table of docs/encoders.md: largest differences of states and gradients in single precision, at the lengths
of `xlt encoders`, of the tiny encoders with large random weights that the tests compare.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from tiny_families import CONFIGS, encoder_of

from xlt.models.encoders.agreement import agreement


def main() -> None:
    """Print a line for each family."""
    print("| family | difference of states | largest state | difference of gradients | largest gradient |")
    print("|---|--:|--:|--:|--:|")
    for kind in CONFIGS:
        with TemporaryDirectory() as folder:
            found = agreement(encoder_of(Path(folder), kind))
        print(
            f"| {kind} | {found.states:.1e} | {found.largest_state:.1f} | {found.gradients:.1e} "
            f"| {found.largest_gradient:.0f} |"
        )


if __name__ == "__main__":
    main()
