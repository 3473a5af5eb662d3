"""Write the model card of a small encoder, with a figure of its learning curves."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from transformers import AutoConfig

from xlt.system.files import write_atomically
from xlt.training.metrics_file import read_events

NAMED = ("en", "ar", "zh", "kk")
"""Languages that the figure of the learning curves names."""

LICENCES = """\
| origin | what | licence |
|---|---|---|
| ms-docs, ms-docs-mt | two courses about cloud and edge computing; the translations are machine-made | MIT |
| quran | verses and translations (risan/quran-json) | CC BY-SA 4.0 |
| bible | es, pt, fi, zh whole, sw, uk, eu, et in part | MIT / CC0 as stated; single editions may be under copyright |
| lafand-mt | Swahili-English news | GPL-3 file in its repository |
| pb-stories | children's stories | CC BY |
| wisesight | Thai posts | CC0 |
| multi30k | photo captions, train only | research use |
| squad-train | contexts of SQuAD's training questions | CC BY-SA 4.0 |
| ud-train | training sentences of XTREME's udpos | Universal Dependencies, by treebank |
| wikiann-train | training sentences of PAN-X | Wikipedia, CC BY-SA |

Text of the origin `ted` (CC BY-NC-ND, which forbids derivatives) was left out. The weights are for research; whoever
wants to use them otherwise has to look at these terms first."""


def write_card(folder: Path, found: Mapping[str, Any], runs: Sequence[Path]) -> None:
    """Write README.md and loss.png into the encoder's folder.

    Args:
        folder: Folder of the encoder.
        found: Measurements by name. The card has no section for a part without measurements.
        runs: Folders of the pretraining runs, in order.
    """
    if all((run / "metrics.jsonl").is_file() for run in runs):
        draw_curves([run / "metrics.jsonl" for run in runs], folder / "loss.png")
    config = AutoConfig.from_pretrained(folder)
    size = (folder / "model.safetensors").stat().st_size / 1e6
    report = json.loads((folder / "tokenizer_report.json").read_text(encoding="utf-8"))["languages"]
    place = f"encoders/{folder.name}"
    parts = [_opening(config, size, place)]
    if "pretrained_minus_random" in found:
        parts.append(_verdict(found["pretrained_minus_random"]))
    if "runs" in found:
        parts.append(_how(found, place))
    if "tatoeba" in found:
        parts.append(_retrieval(found))
    if "pretrained_minus_random" in found:
        parts.append(_fine_tuning(found["pretrained_minus_random"]))
    if "perplexity" in found and "text" in found:
        parts.append(_languages(found, report))
    parts.append(f"## The text's licences\n\n{LICENCES}")
    write_atomically(folder / "README.md", "\n\n".join(parts) + "\n")


def _opening(config: Any, size: float, folder: str) -> str:
    return f"""\
# xlt's mini encoder

A miniature of XLM-R: {config.num_hidden_layers} layers of width {config.hidden_size}, {config.num_attention_heads} \
heads, {config.vocab_size:,} pieces, weights in half precision ({size:.1f} MB), pretrained by xlt on
little text of 43 languages, a third of it machine-translated technical prose. It shows on a laptop what
intermediate training and zero-shot transfer do. It is no substitute for XLM-R, whose text is 2.5 TB (Conneau et al.
2020); the text of this encoder is 0.2 GB.

    AutoModel.from_pretrained("{folder}")              # or AutoModelForMaskedLM
    xlt fit --config ... --model.encoder {folder}

`python -m scripts.encoder` measures all figures and writes this page and `metrics.json`. The samples are
small: do not compare the figures with published ones."""


MUST_WIN = ("mnli", "udpos")
"""Tasks on which the encoder must be better than random weights to be the default encoder."""


def _verdict(found: Mapping[str, Any]) -> str:
    """Return a sentence on the comparison with random weights, on the tasks of MUST_WIN."""
    lost = [task for task in MUST_WIN if found[task]["mean"] <= 2 * found[task]["sd"]]
    if not lost:
        return f"It is clearly better than random weights on {' and '.join(MUST_WIN)} (more than two SDs over seeds)."
    return (
        f"**A candidate, not the default.** It is not clearly better than random weights on {' and '.join(lost)} "
        "(by more than two SDs over seeds; below)."
    )


def _how(found: Mapping[str, Any], folder: str) -> str:
    """Return the section with the commands, steps, tokens and hours of pretraining."""
    names = [run["name"] for run in found["runs"]]
    places = [*(f"runs/{name.removeprefix('pretrain-')}" for name in names[:-1]), folder]
    commands = "\n".join(
        f"    xlt fit --config configs/pretrain/{name.removeprefix('pretrain-').replace('-', '_')}.yaml\n"
        f"    xlt export --run runs/{name} --out {place} --precision float16"
        for name, place in zip(names, places, strict=True)
    )
    rows = [
        [
            run["name"],
            f"{run['steps']:,}",
            f"{run['tokens']:,}",
            f"{run['hours']:.1f}",
            ", ".join(f"{task} {share:.0%}" for task, share in run["weights"].items()),
        ]
        for run in found["runs"]
    ]
    return f"""\
## How it was made

    python scripts/train_tokenizer.py --text TEXT --out NEW      # the tokenizer, once; TEXT is also XLT_DATA
{commands}
    python -m scripts.encoder --encoder {folder} --text TEXT --data MIRROR

The folder `NEW` must not exist yet. Name it in `model.encoder` of configs/pretrain/mini.yaml.

{_table(["run", "steps", "tokens", "hours", "shares of the steps"], rows)}

On {found["hardware"]}, {found["runs"][0]["precision"]}, torch {found["runs"][0]["torch"]}. `mlm` is masked language
modelling (15 % of the tokens, 80/10/10, a batch in one language), `tlm` the same on sentence pairs, `ranking` the ranking
of translations (Feng et al. 2022), which trains what Tatoeba and BUCC test: those two are no test of transfer for this
encoder. Languages are drawn with alpha = 0.3. One text in fifty is held out.

![loss on held-out text by language](loss.png)"""


def _retrieval(found: Mapping[str, Any]) -> str:
    at = found["tatoeba"]
    return f"""\
## Sentence retrieval

Tatoeba, the nearest English sentence by cosine of mean-pooled states, accuracy in percent (chance 0.1; languages with
fewer than 1,000 sentences are easier). Layer {found["tatoeba_layer"]} (0 is the embeddings) is the best on \
{", ".join(found["tatoeba_layer_chosen_on"])}; on the other languages with at least 1 MB of text, \
{", ".join(found["tatoeba_reported_on"])}:

- mean **{found["tatoeba_mean_reported"]:.1f}**, of those in other scripts \
**{found["tatoeba_mean_other_scripts_reported"]:.1f}**; all {len(at)} languages {found["tatoeba_mean_all"]:.1f}

{_without_ranking(found)}{_in_columns(["language", "accuracy"], [[k, f"{v:.1f}"] for k, v in sorted(at.items())], 4)}"""


def _without_ranking(found: Mapping[str, Any]) -> str:
    """Return a sentence on retrieval without translation ranking; an empty text if it was not measured."""
    if "without_ranking" not in found:
        return ""
    other = found["without_ranking"]
    shares = ", ".join(f"{task} {share:.0%}" for task, share in other["weights"].items())
    mean, scripts = other["tatoeba_mean_reported"], other["tatoeba_mean_other_scripts_reported"]
    return f"""\
Another encoder, trained from random weights without the ranking of translations (configs/pretrain/mini.yaml with \
{shares}; {other["steps"]:,} steps, {other["tokens"]:,} tokens, else the same), reaches {mean:.1f} and {scripts:.1f}, \
at layer {other["tatoeba_layer"]}: ranking, not masked text alone, aligns the languages within this budget.

"""


def _fine_tuning(found: Mapping[str, Any]) -> str:
    rows = [
        [
            task,
            f"{figures['steps']:,} of {figures['tokens']:,} tokens",
            *(_mean(figures[form]) for form in ("pretrained", "random")),
            f"{figures['mean']:+.1f} ± {figures['sd']:.1f}",
        ]
        for task, figures in found.items()
    ]
    return f"""\
## Against random weights

Fine-tuned for as many steps from these weights and from random ones, three seeds, score in percent, mean and standard
deviation.

{_table(["task", "steps", "pretrained", "random", "difference"], rows)}"""


def _languages(found: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    rows = []
    for language, text in found["text"].items():
        held, pieces = found["perplexity"][language], report[language]
        rows.append(
            [
                language,
                f"{text['tokens']:,}",
                f"{text['machine_translated_percent']:.0f}",
                f"{held['loss']:.2f}",
                f"{held['perplexity']:,.0f}",
                f"{held['unigram_perplexity']:,.0f}",
                f"{pieces['pieces_per_unit']:.2f} a {pieces['unit']}",
                f"{pieces['unk_percent']:.3f}",
            ]
        )
    heads = ["language", "tokens", "MT %", "loss", "perplexity", "unigram's", "pieces", "unknown %"]
    return f"""\
## Languages

- *tokens*: number of training tokens of plain text.
- *MT %*: percentage of characters in machine-translated text.
- *loss*, *perplexity*: of hidden tokens in held-out text, loss in nats.
- *unigram's*: perplexity of a model that knows only the frequencies of the tokens in the language's text.
- *pieces*: number of pieces per word or character.
- *unknown %*: percentage of pieces that are unknown to the tokenizer.

{_table(heads, rows)}"""


def _mean(values: Sequence[float]) -> str:
    mean = sum(values) / len(values)
    deviation = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    return f"{mean:.1f} ± {deviation:.1f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _in_columns(heads: Sequence[str], rows: Sequence[Sequence[str]], columns: int) -> str:
    """Return a long narrow table in Markdown, folded into several columns side by side."""
    height = -(-len(rows) // columns)
    blank = [""] * len(heads)
    wide = [
        [
            cell
            for c in range(columns)
            for cell in (rows[c * height + r] if c * height + r < len(rows) else blank)
        ]
        for r in range(height)
    ]
    return _table([*heads] * columns, wide)


def draw_curves(metrics: Sequence[Path], out: Path) -> None:
    """Draw the loss on held-out text over the steps of all runs: one line per language, and their mean.

    Args:
        metrics: Files metrics.jsonl of the runs, in order.
        out: Image file to write.
    """
    events: list[dict[str, Any]] = []
    for path in metrics:
        before = events[-1]["step"] if events else 0
        mine = [event for event in read_events(path) if "val/score" in event]
        events += [{**event, "step": before + event["step"]} for event in mine]
    keys = sorted(key for key in events[-1] if key.startswith("val/mlm/") and key.endswith("/loss"))
    steps = [event["step"] for event in events]
    figure = Figure(figsize=(7, 4.2), dpi=110)
    axes = figure.subplots()
    for key in keys:
        name, losses = key.split("/")[2], [event[key] for event in events]
        named = name in NAMED
        axes.plot(steps, losses, lw=1.1 if named else 0.5, color=None if named else "0.75", zorder=1 + named)
        if named:
            end = (steps[-1], losses[-1])
            axes.annotate(name, end, xytext=(4, -3), textcoords="offset points", fontsize=8)
    means = [sum(event[key] for key in keys) / len(keys) for event in events]
    axes.plot(steps, means, lw=2.4, color="black", label=f"mean of {len(keys)} languages")
    axes.set(xlabel="steps", ylabel="nats a hidden token", title="Masked language modelling on held-out text")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(out)
