"""List the families of encoders that xlt trains, or compare an encoder with transformers' own model.

xlt encoders

xlt encoders intfloat/multilingual-e5-small

Without a name, the command prints a table of the families. With a name, it prints the largest differences
between xlt's packed encoder and the padded model of transformers. The name is that of an encoder on the hub,
of a folder, or of the folder of a finished run.
"""

import sys
from collections.abc import Sequence

if __name__ == "__main__":
    from xlt.config.help import start

    start("encoders")

from xlt.config.parser import CommandParser
from xlt.config.run_command import run_command
from xlt.models.encoders.agreement import TOLERANCE, Agreement, agreement
from xlt.models.encoders.families import FAMILIES
from xlt.models.encoders.text import Encoder
from xlt.system.tables import aligned

LEGEND = """\
Column longest: longest input of the encoders in column "such as", in tokens. The config.json of another
encoder may set another limit. xlt refuses models of other types.
`xlt encoders NAME` compares an encoder with transformers' own padded model."""
"""Lines below the table."""


def make_parser() -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser(prog="xlt encoders")
    parser.add_argument(
        "name",
        nargs="?",
        type=str,
        default="",
        help="Encoder to compare: a name on the hub, a folder, or the folder of a finished run. Defaults to "
        "none, which lists the families.",
    )
    return parser


def table() -> str:
    """Return a table of the families, with one encoder on each line."""
    lines = [["model_type", "longest", "tested", "such as"]]
    for family in FAMILIES.values():
        first, *others = family.examples
        lines.append([family.model_type, f"{family.longest:,}", family.tested, first])
        lines += [["", "", "", other] for other in others]
    return aligned(lines, num_left=4)


def comparison(name: str, encoder: Encoder, found: Agreement) -> str:
    """Return the sizes of an encoder and its differences from transformers' model, in lines.

    Args:
        name: Name of the encoder.
        encoder: The encoder.
        found: The differences.
    """
    shape, lengths = encoder.shape, ", ".join(map(str, found.lengths))
    return (
        f"{name}: {encoder.family.model_type}, {shape['num_hidden_layers']} layers x {shape['hidden_size']}, "
        f"{shape['vocab_size']:,} word embeddings, at most {encoder.facts.max_tokens:,} tokens\n"
        f"packed against padded, random sequences of {lengths} tokens, in single precision:\n"
        f"largest difference of states     {found.states:.1e}, largest state {found.largest_state:.1e}\n"
        f"largest difference of gradients  {found.gradients:.1e}, largest gradient "
        f"{found.largest_gradient:.1e}"
    )


def list_encoders(args: Sequence[str]) -> None:
    """Run the command.

    Args:
        args: Command-line arguments.

    Raises:
        FileNotFoundError: There is no such encoder, or it has no weights.
        ValueError: The encoder is of no known family, or differs from transformers' model.
    """
    name = make_parser().parse_args(list(args)).name
    if not name:
        print(f"{table()}\n\n{LEGEND}")
        return
    encoder = Encoder(name)
    found = agreement(encoder)
    print(comparison(name, encoder, found))
    if not found.agrees:
        raise ValueError(
            f"{name} differs from transformers' own model by more than {TOLERANCE:g} of the largest value: "
            "do not train it with xlt, and report its config.json"
        )


if __name__ == "__main__":
    sys.exit(run_command(list_encoders, sys.argv[1:]))
