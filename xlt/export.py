"""Turn a run's checkpoint into a model that transformers loads.

xlt export --run runs/mnli --head mnli --out exports/mnli

The folder holds config, tokenizer, encoder and head of the best checkpoint, and a model card. transformers
and its pipelines load the model with its head. For a retrieval task, the folder is a sentence-transformers
model. --push_to_hub uploads the folder.

Without --head, the folder holds the encoder, and the heads in a file that only xlt reads. transformers finds
the head for masked tokens in the weights. A finished run has the same files in its own folder, as model/.

For a run with model.lora, --unmerged true writes only the LoRA, as a folder that peft loads.

--checkpoint STEP exports another checkpoint. A run keeps its best checkpoint, the newest
(checkpoints.keep_last), and those of checkpoints.keep_every_n_steps. xlt evaluate --checkpoint STEP tests a
checkpoint without export.
"""

import sys
from collections.abc import Sequence

if __name__ == "__main__":
    from xlt.config.help import start

    start("export")

from jsonargparse import auto_cli

from xlt.config.parser import CommandParser
from xlt.config.run_command import run_command
from xlt.system.tables import counted
from xlt.training.checkpoint_files import step_of
from xlt.training.exporting import export_run
from xlt.training.run_folder import RunFolder


def export(args: Sequence[str]) -> None:
    """Export a checkpoint of a run.

    Args:
        args: Command-line arguments: those of `export_run`.
    """
    checkpoint = auto_cli(
        export_run, args=list(args), as_positional=False, parser_class=CommandParser, prog="xlt export"
    )
    print(f"{checkpoint} is exported")
    folder = RunFolder(checkpoint.parent.parent)
    if not folder.is_finished:
        steps = counted(folder.read_config()["trainer"]["max_steps"], "step")
        print(f"the run is not finished: this is step {step_of(checkpoint):,} of {steps}")


if __name__ == "__main__":
    sys.exit(run_command(export, sys.argv[1:]))
