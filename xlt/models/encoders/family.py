"""Family: everything that xlt must know about encoders with the same `model_type` in their config.

N tokens.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from xlt.batch.packing import Packing
from xlt.models.kernels.attention import NAME
from xlt.system.torch_private import become


class EncoderFacts(NamedTuple):
    """Facts about an encoder that batches depend on.

    Args:
        first_position: Position id of the first token of a sequence.
        max_tokens: Largest number of tokens in a sequence, special tokens included.
    """

    first_position: int
    max_tokens: int


class MaskedNames(NamedTuple):
    """Names of the parts of the head for masked tokens in a model of transformers.

    Args:
        dense: The linear layer.
        norm: The norm.
        bias: The bias of the logits.
        decoder: The layer whose weights are the word embeddings.
        epsilon: Name of the norm's epsilon in the config.
    """

    dense: str = "lm_head.dense"
    norm: str = "lm_head.layer_norm"
    bias: str = "lm_head.bias"
    decoder: str = "lm_head.decoder"
    epsilon: str = "layer_norm_eps"

    @property
    def parts(self) -> dict[str, str]:
        """The names of a `MaskedHead`'s weights, with their names in transformers."""
        own = {"dense": self.dense, "layer_norm": self.norm}
        found = {f"{k}.{part}": f"{name}.{part}" for k, name in own.items() for part in ("weight", "bias")}
        return {**found, "bias": self.bias}


@dataclass(frozen=True, kw_only=True)
class Family:
    """Encoders with the same `model_type`, and the parts of their models that xlt reads or replaces.

    Args:
        model_type: The `model_type` of the configs.
        model: Class of the model without a head.
        masked: Class of the model with the head for masked tokens.
        facts: Return the first position and the longest input of a config.
        read_layer: For the class of a layer, the class that computes only the states that are read.
        words: Path of the table of word embeddings in the model.
        layers: Path of the list of layers in the model.
        final_norm: Path of the norm after the last layer. Empty if there is none.
        own_classes: For classes of the model's modules, the classes that read packed sequences. Empty for a
            model whose attention is a function that can be replaced.
        below: Paths of the modules below the lowest layer. A model may lack some of them.
        positions: Path of a table of positions that has no row for tokens without a position. Empty if there
            is none.
        has_segments: True if the model reads segment ids.
        skips_padding: True if a pad token inside a text has the position before the first one, and the tokens
            after it do not count it.
        arguments: Arguments of `model` other than the config.
        dropouts: Names of the dropout probabilities in the config.
        settings: For each setting of the config that changes the mathematics, the values that are tested.
        derived: Return further settings, computed from the config.
        masked_names: Names of the parts of the head for masked tokens.
        examples: Models of the family on the hub.
        longest: Longest input of the examples, in tokens.
        tested: Sizes and settings of the tests, in words.
    """

    model_type: str
    model: type[PreTrainedModel]
    masked: type[PreTrainedModel]
    facts: Callable[[Any], EncoderFacts]
    read_layer: type[nn.Module]
    words: str = "embeddings.word_embeddings"
    layers: str = "encoder.layer"
    final_norm: str = ""
    own_classes: Mapping[type[nn.Module], type[nn.Module]] = field(default_factory=dict)
    below: tuple[str, ...] = ("embeddings",)
    positions: str = ""
    has_segments: bool = True
    skips_padding: bool = False
    arguments: Mapping[str, Any] = field(default_factory=lambda: {"add_pooling_layer": False})
    dropouts: tuple[str, ...] = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    settings: Mapping[str, tuple[object, ...]]
    derived: Callable[[Any], Mapping[str, object]] = lambda _: {}
    masked_names: MaskedNames = field(default_factory=MaskedNames)
    examples: tuple[str, ...]
    longest: int = 512
    tested: str = "lengths 1 to 512"

    def bare(self, config: PretrainedConfig) -> PreTrainedModel:
        """Return a model without a head, with random weights."""
        return self.model(config, **self.arguments)

    @property
    def in_blocks(self) -> bool:
        """True if attention is computed in blocks on every device, by classes of xlt's own."""
        return bool(self.own_classes)

    def pack(self, model: PreTrainedModel) -> None:
        """Let a model read packed sequences, in place."""
        if not self.own_classes:
            model.set_attn_implementation(NAME)
        for module in model.modules():
            if type(module) in self.own_classes:
                become(module, self.own_classes[type(module)])

    def layers_of(self, model: PreTrainedModel) -> nn.ModuleList:
        """Return the layers of a model."""
        layers = model.get_submodule(self.layers)
        assert isinstance(layers, nn.ModuleList)
        return layers

    def cut(self, model: PreTrainedModel, layers: int) -> None:
        """Drop the layers above the lowest `layers`.

        The norm after the last layer is dropped with that layer: the states are those that transformers
        returns as `hidden_states`.
        """
        stack = self.layers_of(model)
        if layers < len(stack):
            del stack[layers:]
            if self.final_norm:
                model.set_submodule(self.final_norm, nn.Identity())

    def drop_with(self, config: PretrainedConfig, probability: float) -> None:
        """Set all dropout probabilities of a config."""
        for name in self.dropouts:
            setattr(config, name, probability)

    def segments(self, config: PretrainedConfig, input_ids: Tensor, segment_ids: Tensor | None) -> Tensor:
        """Return the segment ids that a model reads: 0 if there are none, or if the model has one segment."""
        if segment_ids is None or config.type_vocab_size < 2:
            return torch.zeros_like(input_ids)
        return segment_ids

    def position_ids_read(
        self,
        config: PretrainedConfig,
        input_ids: Int[Tensor, "1 N"],
        position_ids: Int[Tensor, "1 N"],
        packing: Packing,
    ) -> Int[Tensor, "1 N"]:
        """Return the position ids that a model reads, of position ids that count every token.

        A text may hold the pad token, such as `<pad>` in a web page.

        Args:
            config: Config of the model.
            input_ids: Token ids of the sequences end to end.
            position_ids: Position ids of the tokens. Tokens of images have `pad_token_id`.
            packing: Lengths of the sequences.

        Source: `create_position_ids_from_input_ids` of transformers' XLM-R.
        """
        if not self.skips_padding:
            return position_ids
        pad = config.pad_token_id
        is_padding = (input_ids == pad) & (position_ids != pad)
        counts = is_padding.cumsum(1)
        before = (counts - is_padding.long())[0].index_select(0, packing.starts)
        skipped = counts - torch.repeat_interleave(before, packing.lengths, output_size=input_ids.shape[1])
        return torch.where(is_padding, pad, position_ids - skipped)

    def refusal(self, config: PretrainedConfig) -> str:
        """Return why a config cannot be served; an empty string if it can."""
        found = {name: getattr(config, name, allowed[0]) for name, allowed in self.settings.items()}
        for name, value in {**found, **self.derived(config)}.items():
            allowed = self.settings[name]
            if value not in allowed:
                return (
                    f"its config.json sets {name} to {value!r}, which xlt has not been tested with: it must "
                    f"be {' or '.join(map(repr, allowed))}"
                )
        return ""

    def masked_state(self, head: Mapping[str, Tensor], table: Tensor) -> dict[str, Tensor]:
        """Return the weights of a head for masked tokens by their names in transformers.

        Args:
            head: Weights of a MaskedHead.
            table: The word embeddings.
        """
        names = self.masked_names
        state = {names.parts[name]: tensor for name, tensor in head.items()}
        return state | {f"{names.decoder}.weight": table, f"{names.decoder}.bias": head["bias"]}


def learned_facts(config: PretrainedConfig) -> EncoderFacts:
    """Return the facts of an encoder whose position table begins with rows that no token uses.

    Source: `create_position_ids_from_input_ids` of transformers' XLM-R, which follows fairseq.
    """
    first = int(config.pad_token_id) + 1  # type: ignore[arg-type]
    return EncoderFacts(first, config.max_position_embeddings - first)


def counted_facts(config: PretrainedConfig) -> EncoderFacts:
    """Return the facts of an encoder whose positions begin at 0."""
    return EncoderFacts(0, config.max_position_embeddings)
