"""Every family of encoders, packed, against `transformers`' own padded model with the same weights."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_attention import TOKEN_INDICES, assert_gradients_agree, error, gradients
from tiny_families import CONFIGS, WINDOW, config_of, encoder_of, write_family
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForMaskedLM, BertConfig, BertModel, ElectraConfig
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position
from transformers.models.modernbert.modeling_modernbert import ModernBertModel

from xlt.batch.images import BatchImages
from xlt.batch.packing import pack
from xlt.data.encode import load_tokenizer
from xlt.models.encoders.agreement import (
    Agreement,
    agreement,
    padded_model,
    random_sequences,
    run_packed,
    run_padded,
)
from xlt.models.encoders.families import FAMILIES, check_config
from xlt.models.encoders.text import Encoder, load_config
from xlt.models.heads.language_modelling import MaskedHead
from xlt.models.kernels import attention
from xlt.models.kernels.linear import FUSED, Linear
from xlt.models.optim import adamw
from xlt.models.saving import save_encoder

MINI = Path(__file__).parents[1] / "encoders" / "mini"

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{kind: (kind, {}) for kind in CONFIGS},
    "modernbert, all layers global": ("modernbert", {"layer_types": ["full_attention"] * 4}),
    "modernbert, last layer local": ("modernbert", {"num_hidden_layers": 3}),
    "modernbert with biases": (
        "modernbert",
        {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True},
    ),
    "deberta without buckets": ("deberta-v2", {"position_buckets": -1, "norm_rel_ebd": "none"}),
    "deberta with projections of distances": ("deberta-v2", {"share_att_key": False, "type_vocab_size": 2}),
    "deberta, queries alone": ("deberta-v2", {"pos_att_type": ["c2p"], "share_att_key": False}),
    "deberta, keys alone": ("deberta-v2", {"pos_att_type": ["p2c"]}),
    "bert of one segment": ("bert", {"type_vocab_size": 1}),
    "bert whose pad token has a trained row": ("bert", {"pad_token_id": 7}),
}


@pytest.fixture(scope="module", params=CASES)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """A tiny encoder of each family."""
    kind, changes = CASES[request.param]
    return encoder_of(tmp_path_factory.mktemp("family"), kind, **changes)


LENGTHS = {
    "to the window's double": [1, 2, WINDOW // 2, WINDOW // 2 + 1, WINDOW, WINDOW + 1, 2 * WINDOW],
    "longest": [512, 3, 100],
}


@pytest.mark.parametrize("read", ["None", "starts", "every second", "words"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
def test_packed_equals_padded_eager(lengths: list[int], read: str, encoder: Encoder):
    ids, segments = random_sequences(encoder, lengths, len(lengths))
    token_indices = TOKEN_INDICES[read](pack(lengths))
    model = padded_model(encoder)
    found = run_packed(encoder, ids, segments, token_indices)
    expected = run_padded(encoder, model, ids, segments)
    expected = expected if token_indices is None else expected[token_indices]
    assert found.shape == expected.shape
    assert error(found, expected) < 1e-5
    torch.manual_seed(2)
    weights = torch.randn_like(found)
    ours = gradients(encoder.transformer, found, weights)
    theirs = gradients(model, expected, weights)
    assert_gradients_agree(ours, theirs, 1e-5)


def test_sequences_of_which_no_token_is_read_cost_nothing_and_change_nothing(encoder: Encoder):
    ids, segments = random_sequences(encoder, [70, 3, 9], 4)
    whole = run_packed(encoder, ids, segments)
    indices = torch.tensor([70, 72])
    assert error(run_packed(encoder, ids, segments, indices), whole[indices]) < 1e-5


def test_packed_equals_padded_sdpa_in_bf16(encoder: Encoder):
    ids, segments = random_sequences(encoder, [40, 1, 64, 17], 0)
    model = padded_model(encoder, "sdpa")
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = run_packed(encoder, ids, segments), run_padded(encoder, model, ids, segments)
    assert error(found, expected) < 3e-2


def test_layers_inside_are_the_hidden_states_of_transformers(encoder: Encoder):
    lengths = [5, 40, 1]
    ids, _ = random_sequences(encoder, lengths, 3)
    model = padded_model(encoder)
    padded = nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=encoder.config.pad_token_id)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        expected = model(padded, mask.long(), output_hidden_states=True).hidden_states
    packing = pack(lengths)
    places = torch.cat([torch.arange(n) for n in lengths]) + encoder.facts.first_position
    means = encoder.means(torch.cat(ids)[None], places[None], packing)
    assert len(means) == len(expected) == 1 + encoder.config.num_hidden_layers
    for own, states in zip(means, expected, strict=True):
        theirs = torch.stack([states[i, :n].mean(0) for i, n in enumerate(lengths)])
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-5)
    for layer in range(1, len(expected)):
        lower = copy.deepcopy(encoder)
        lower.cut(layer)
        assert len(lower.layers) == layer
        assert error(run_packed(lower, ids), expected[layer][mask]) < 1e-5
        starts = run_packed(lower, ids, token_indices=packing.starts)
        assert error(starts, expected[layer][:, 0]) < 1e-5


def test_the_family_uses_the_packed_attention_without_a_mask(encoder: Encoder):
    if encoder.family.own_classes:
        pytest.skip("its layers have an attention of their own")
    seen: list[Any] = []
    # The last layer of some families calls the function itself if it reads a part of the tokens.

    def spy(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **keywords: Any) -> Any:
        seen.append((mask, keywords.get("sliding_window")))
        return attention.packed_attention(module, query, key, value, mask, **keywords)

    attention.AttentionInterface.register(attention.NAME, spy)
    try:
        run_packed(encoder, random_sequences(encoder, [9, 4])[0])
    finally:
        attention.AttentionInterface.register(attention.NAME, attention.packed_attention)
    assert [mask for mask, _ in seen] == [None] * encoder.config.num_hidden_layers
    if isinstance(encoder.transformer, ModernBertModel):
        # Half the window on each side; transformers adds one.
        is_local = [kind == "sliding_attention" for kind in encoder.config.layer_types]
        assert [window for _, window in seen] == [WINDOW // 2 + 1 if local else None for local in is_local]


def test_the_self_check_agrees(encoder: Encoder):
    found = agreement(encoder)
    assert found.agrees
    assert found.lengths[0] == 1
    assert found.lengths[-1] == (2 * WINDOW if encoder.family.model_type == "modernbert" else 256)


def test_the_self_check_finds_a_difference_above_the_tolerance():
    assert Agreement((1,), 0.9e-4, 1.0, 1.9e-4, 2.0).agrees
    assert not Agreement((1,), 1.1e-4, 1.0, 0.0, 2.0).agrees
    assert not Agreement((1,), 0.0, 1.0, 2.1e-4, 2.0).agrees


def test_wide_layers_and_linear_layers_are_those_of_xlt(encoder: Encoder):
    modules = list(encoder.transformer.modules())
    assert {type(module) for module in modules if isinstance(module, nn.Linear)} == {Linear}
    wide = [module for module in modules if isinstance(module, tuple(FUSED.values()))]
    has_wide = encoder.family.model_type != "modernbert"
    assert len(wide) == (encoder.config.num_hidden_layers if has_wide else 0)


@pytest.mark.parametrize("kind", CONFIGS)
def test_dropout_is_set_everywhere(kind: str, tmp_path: Path):
    encoder = Encoder(write_family(tmp_path, kind), from_scratch=True, dropout=0.3)
    found = {module.p for module in encoder.transformer.modules() if isinstance(module, nn.Dropout)}
    assert found == {0.3}
    if kind == "modernbert":
        assert {layer.attn.attention_dropout for layer in encoder.layers} == {0.3}
    ids = random_sequences(encoder, [9, 20])[0]

    def states(seed: int, token_indices: Tensor | None) -> Tensor:
        torch.manual_seed(seed)
        return run_packed(encoder, ids, token_indices=token_indices)

    for indices in (None, torch.tensor([0, 9])):
        assert torch.equal(states(0, indices), states(0, indices))
        assert not torch.equal(states(0, indices), states(1, indices))


@pytest.mark.parametrize("kind", CONFIGS)
def test_each_layer_has_a_rate_of_its_own_and_the_last_norm_that_of_the_top(kind: str, tmp_path: Path):
    model = nn.Module()
    model.encoder = Encoder(write_family(tmp_path, kind), from_scratch=True)
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {
        names[parameter]: group["lr"]
        for group in adamw(model, 1.0, 0.01, layer_decay=0.5).param_groups
        for parameter in group["params"]
    }
    layers = model.encoder.layers
    for i, layer in enumerate(layers):
        own = {names[parameter] for parameter in layer.parameters()}
        assert {found.pop(name) for name in own} == {0.5 ** (len(layers) - 1 - i)}
    norm = FAMILIES[kind].final_norm
    last = {name for name in found if norm and f".{norm}." in name}
    assert {found[name] for name in last} <= {1.0}
    assert bool(last) == (kind in ("xlm-roberta-xl", "modernbert"))
    assert {rate for name, rate in found.items() if name not in last} == {0.5 ** len(layers)}


@pytest.mark.parametrize("kind", CONFIGS)
def test_only_the_rows_in_use_of_the_words_are_trained(kind: str, tmp_path: Path):
    encoder = encoder_of(tmp_path, kind)
    ids = [torch.tensor([5, 9, 11]), torch.tensor([9, 20])]
    expected = run_packed(encoder, ids)
    encoder.words.train_only(torch.tensor([5, 9, 11, 20]))
    found = run_packed(encoder, ids)
    assert torch.equal(found, expected)
    found.sum().backward()
    assert encoder.words.weight.grad is not None
    assert encoder.words.weight.grad.shape == (4, 32)


# Masked language modelling, saving


@pytest.mark.parametrize("changes", [{}, {"with_biases": True}])
@pytest.mark.parametrize("kind", CONFIGS)
def test_the_masked_head_is_that_of_transformers(kind: str, changes: dict[str, Any], tmp_path: Path):
    if changes and kind != "modernbert":
        pytest.skip("only ModernBERT has optional biases")
    own = {"norm_bias": True, "classifier_bias": True} if changes else {}
    own |= {FAMILIES[kind].masked_names.epsilon: 0.05}
    folder = write_family(tmp_path / "config", kind, **own)
    torch.manual_seed(0)
    theirs = FAMILIES[kind].masked(load_config(folder)).eval()
    for parameter in theirs.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 1.0, 0.2)
    theirs.tie_weights()
    theirs.save_pretrained(tmp_path / "theirs")
    encoder = Encoder(str(tmp_path / "theirs")).eval()
    head = MaskedHead(32)
    head.tie(encoder)
    ids = [torch.arange(10, 30)]
    expected = theirs(ids[0][None]).logits[0]
    torch.testing.assert_close(head(run_packed(encoder, ids), pack([20]), {}), expected, rtol=1e-4, atol=1e-4)
    # The export holds the head, and transformers finds it there.
    weights = encoder.transformer.state_dict()
    tokenizer = load_tokenizer(str(MINI))
    save_encoder(
        weights, str(tmp_path / "theirs"), tokenizer, head.state_dict(), {}, {}, tmp_path / "out", "float32"
    )
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(again(ids[0][None]).logits[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", CONFIGS)
def test_transformers_loads_what_is_saved(kind: str, tmp_path: Path):
    encoder = encoder_of(tmp_path / "config", kind)
    weights, name = encoder.transformer.state_dict(), str(tmp_path / "config")
    save_encoder(weights, name, load_tokenizer(str(MINI)), {}, {}, {}, tmp_path / "out", "float32")
    loaded = AutoModel.from_pretrained(tmp_path / "out").eval()
    ids, _ = random_sequences(encoder, [20])
    expected = run_packed(encoder, ids)
    torch.testing.assert_close(loaded(ids[0][None]).last_hidden_state[0], expected, rtol=1e-4, atol=1e-5)
    again = Encoder(str(tmp_path / "out")).eval()
    assert torch.equal(run_packed(again, ids), expected)


def test_a_masked_head_with_weights_of_its_own_is_refused(tmp_path: Path):
    encoder = encoder_of(tmp_path, "bert", tie_word_embeddings=False)
    with pytest.raises(ValueError, match=r"tie_word_embeddings is false .* Name another encoder"):
        encoder.masked_head()


def test_an_xlm_r_in_the_form_of_bert_has_the_same_states(tmp_path: Path):
    # As multilingual-e5-small is on the hub: positions from 0, two segments, and another pad token.
    ours = Encoder(str(MINI)).eval()
    sizes = {name: size for name, size in ours.config.to_dict().items() if name in BertConfig().to_dict()}
    sizes |= {"model_type": "bert", "type_vocab_size": 2, "max_position_embeddings": 512, "pad_token_id": 0}
    model = BertModel(BertConfig(**sizes), add_pooling_layer=False)
    state = ours.transformer.state_dict()
    state["embeddings.position_embeddings.weight"] = state["embeddings.position_embeddings.weight"][2:]
    state["embeddings.token_type_embeddings.weight"] = state[
        "embeddings.token_type_embeddings.weight"
    ].repeat(2, 1)
    model.load_state_dict(state)
    model.save_pretrained(tmp_path)
    ids = [torch.randint(5, 300, (length,)) for length in (512, 1, 30)]
    theirs = Encoder(str(tmp_path)).eval()
    assert theirs.facts == (0, 512)
    assert error(run_packed(theirs, ids), run_packed(ours, ids)) < 1e-5


# Images


@pytest.mark.parametrize("kind", CONFIGS)
def test_parts_of_images_have_no_position_of_the_text(kind: str, tmp_path: Path):
    encoder = encoder_of(tmp_path, kind)
    first, ids = encoder.facts.first_position, torch.randint(5, 300, (7,))
    positions = first + torch.tensor([[0, -1, -1, 1, 2, 3, 4]])
    features = torch.randn(1, 2, 32)
    zero = torch.zeros(1, dtype=torch.long)
    images = BatchImages(features.flatten(0, 1), zero, zero, torch.tensor([1, 2]))
    found = encoder(ids[None], positions, pack([7]), None, images)
    model = padded_model(encoder)
    words = model.get_input_embeddings()(ids)[None].index_copy(1, torch.tensor([1, 2]), features)
    if encoder.family.positions:
        # Embedding by hand: words and segment, and positions but for the images.
        table = model.get_submodule(encoder.family.positions).weight
        places = torch.cat([table[:1], torch.zeros(2, 32), table[1:5]])
        words = words + places[None] - table[:7]
        expected = model(inputs_embeds=words).last_hidden_state
    elif kind == "deberta-v2":
        mask, distances = torch.ones(1, 7), positions[0][:, None] - positions[0]
        buckets = make_log_bucket_position(distances, 16, 512).long()[None]
        states = model.embeddings(inputs_embeds=words, mask=mask)
        expected = model.encoder(states, mask, relative_pos=buckets).last_hidden_state
    else:
        expected = model(inputs_embeds=words, position_ids=positions).last_hidden_state
    assert error(found, expected[0]) < 1e-5
    if kind.startswith(("xlm", "roberta")):
        assert not model.get_submodule("embeddings.position_embeddings").weight[first - 1].any()


# Refusals


def refusal(config: Any) -> str:
    """Why an encoder is refused; an empty string if it is not."""
    try:
        check_config("name", config)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", CONFIGS)
def test_tiny_configs_are_served(kind: str):
    assert refusal(config_of(kind)) == ""


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("bert", "is_decoder", True),
        ("bert", "hidden_act", "relu"),
        ("bert", "position_embedding_type", "relative_key"),
        ("xlm-roberta", "is_decoder", True),
        ("xlm-roberta", "hidden_act", "tanh"),
        ("roberta", "position_embedding_type", "relative_key_query"),
        ("xlm-roberta-xl", "is_decoder", True),
        ("deberta-v2", "relative_attention", False),
        ("deberta-v2", "position_biased_input", True),
        ("deberta-v2", "conv_kernel_size", 3),
        ("deberta-v2", "pooler_hidden_act", "tanh"),
        ("modernbert", "hidden_activation", "silu"),
        ("modernbert", "classifier_activation", "relu"),
        ("modernbert", "decoder_bias", False),
    ],
)
def test_settings_that_change_the_mathematics_are_refused(kind: str, name: str, value: Any):
    message = refusal(config_of(kind, **{name: value}))
    assert message.startswith(f"model.encoder 'name': its config.json sets {name} to {value!r}")
    assert message.endswith("Name another model")


def test_scaled_rotary_positions_are_refused():
    config = config_of("modernbert")
    config.rope_parameters["full_attention"]["rope_type"] = "linear"
    assert "sets rope_type to 'linear'" in refusal(config)


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu"])
@pytest.mark.parametrize("kind", ["xlm-roberta", "roberta", "xlm-roberta-xl"])
def test_other_activations_of_xlm_r_agree(kind: str, activation: str, tmp_path: Path):
    assert agreement(encoder_of(tmp_path, kind, hidden_act=activation)).agrees


def test_an_unknown_type_of_model_is_refused_with_the_families(tmp_path: Path):
    ElectraConfig().save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"has the type electra, but xlt packs xlm-roberta, .*, deberta-v2 alone"
    ):
        load_config(str(tmp_path))


def test_layers_whose_attention_is_in_blocks_are_not_compiled(tmp_path: Path):
    encoder = encoder_of(tmp_path, "deberta-v2")
    with pytest.raises(ValueError, match=r"model\.compile is True: it must be false .* the type deberta-v2"):
        encoder.compile_layers()


def test_the_settings_of_mdeberta_on_the_hub_are_served():
    settings = {"layer_norm_eps": 1e-7, "max_relative_positions": -1, "position_buckets": 256}
    config = config_of("deberta-v2", **settings, type_vocab_size=0, pos_att_type="p2c|c2p")
    check_config("name", config)
    config.pos_att_type = ["c2p", "p2p"]
    assert "sets pos_att_type to 'c2p|p2p'" in refusal(config)
    config.pos_att_type, config.embedding_size = ["c2p"], 16
    assert "sets embedding_size - hidden_size to -16, " in refusal(config)


def test_the_first_deberta_is_refused_with_encoders_of_similar_quality(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "deberta"}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"attention interface, .* microsoft/mdeberta-v3-base or"):
        load_config(str(tmp_path))


# Sizes


def test_a_large_vocabulary_and_8192_positions(tmp_path: Path):
    sizes = {"vocab_size": 256_000, "max_position_embeddings": 8192, "num_attention_heads": 1}
    sizes |= {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "local_attention": 128}
    encoder = encoder_of(tmp_path, "modernbert", **sizes)
    assert encoder.facts.max_tokens == 8192
    ids, _ = random_sequences(encoder, [8192])
    assert max(map(int, ids[0])) > 200_000
    model = padded_model(encoder, "sdpa")
    with torch.no_grad():
        found, expected = run_packed(encoder, ids), run_padded(encoder, model, ids)
    assert error(found, expected) < 1e-5
    encoder.words.train_only(torch.from_numpy(np.unique(ids[0].numpy())))
    with torch.no_grad():
        assert torch.equal(run_packed(encoder, ids), found)
