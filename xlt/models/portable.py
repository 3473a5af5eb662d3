"""Models of transformers that are made of an encoder and a trained head, weight by weight. D hidden width."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from transformers import (
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from xlt.models.heads.head import Form

CLASSES = {
    "text-classification": AutoModelForSequenceClassification,
    "multiple-choice": AutoModelForMultipleChoice,
    "token-classification": AutoModelForTokenClassification,
    "question-answering": AutoModelForQuestionAnswering,
}
"""Class of transformers for each form whose model has a head of its own."""

PLACES = {
    "dense": ("classifier.dense", "{encoder}.pooler.dense", "pooler.dense"),
    "transform.dense": ("head.dense",),
    "transform.norm": ("head.norm",),
    "out_proj": ("classifier.out_proj", "qa_outputs", "classifier"),
}
"""Modules of a model that may hold a module of a head. The first that the model has is the one.

`classifier.dense` is RoBERTa's, `{encoder}.pooler.dense` that of BERT and of RoBERTa's multiple choice,
`pooler.dense` DeBERTa's and `head.dense` that of ModernBERT.
"""


def portable_model(
    form: Form, config: PretrainedConfig, weights: Mapping[str, Tensor], head: Mapping[str, Tensor]
) -> PreTrainedModel:
    """Return a model of transformers with the weights of an encoder and of a head. It shares their memory.

    Args:
        form: Form of the head, one of `CLASSES`.
        config: Config of the model, with the number of classes.
        weights: Weights of the encoder, by their names in the bare model.
        head: Weights of the head.

    Raises:
        ValueError: The model has no place for a weight of the head, or has weights that the head lacks.
    """
    with torch.device("meta"):
        model = CLASSES[form].from_config(config)
    wanted = model.state_dict()
    state = {f"{model.base_model_prefix}.{name}": tensor for name, tensor in weights.items()}
    state |= {name: head[own] for own, name in _names(model, head)}
    differ = sorted(wanted.keys() ^ state.keys())
    differ += [name for name in wanted.keys() & state.keys() if wanted[name].shape != state[name].shape]
    if differ:
        raise ValueError(
            f"the head does not fit {type(model).__name__} of transformers, which differs in {differ[0]}. "
            "Leave head out to export the encoder with its heads beside it"
        )
    model.load_state_dict(state, assign=True)
    return model


def _names(model: PreTrainedModel, head: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Return the name of each weight of a head, with its name in the model."""
    modules = {name for name, _ in model.named_modules()}
    for own in head:
        module, _, weight = own.removeprefix("pooler.").rpartition(".")
        places = [place.format(encoder=model.base_model_prefix) for place in PLACES.get(module, ())]
        yield own, next((f"{place}.{weight}" for place in places if place in modules), own)
