from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, GPT2Config, GPT2Model

from retrieval_shared.torch_families import FAMILIES
from retrieval_shared.torch_rows import int8_rows
from training.base_model import LINEAR_LEVELS, check_max_tokens, load_base_model, round_to_int8


def test_a_folder_in_hugging_face_layout(tiny_base: Path) -> None:
    base = load_base_model(str(tiny_base))
    assert not base.model.training
    assert base.model.config.hidden_size == 32
    assert base.sha256 == hashlib.sha256((tiny_base / "model.safetensors").read_bytes()).hexdigest()
    encoding = base.tokenizer.encode("Free bet " * 400)
    assert len(encoding.ids) == 802  # neither cut nor padded
    assert encoding.tokens[:3] == ["[CLS]", "free", "bet"]


def test_the_expected_hash_is_accepted_and_another_refused(tiny_base: Path) -> None:
    load_base_model(str(tiny_base), sha256=load_base_model(str(tiny_base)).sha256)
    with pytest.raises(ValueError, match=r"weights have sha256 [0-9a-f]{64}, expected 0000"):
        load_base_model(str(tiny_base), sha256="0" * 64)


def test_without_a_hash_the_name_tells_encoders_apart(tiny_base: Path) -> None:
    base = load_base_model(str(tiny_base))
    assert base.identity == base.sha256
    found = {dataclasses.replace(base, sha256="", name=name).identity for name in ("org/one", "org/two")}
    assert len(found | {base.identity}) == 3
    assert {len(each) for each in found} == {64}


def test_rounding_leaves_what_int8_can_hold_and_changes_it_once(tiny_base: Path) -> None:
    base = load_base_model(str(tiny_base))
    model = base.model
    before = {name: value.clone() for name, value in model.named_parameters()}
    round_to_int8(base)
    once = {name: value.clone() for name, value in model.named_parameters()}
    changed = {name for name, value in before.items() if not torch.equal(value, once[name])}
    # six linear layers of two blocks and the word table; neither biases, norms nor positions
    assert len(changed) == 13
    for name in changed:
        levels = 127 if "word_embeddings" in name else LINEAR_LEVELS
        _, scale = int8_rows(before[name], levels=levels)
        steps = once[name] / scale
        torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
        assert steps.abs().max() <= levels + 1e-3
        assert ((once[name] - before[name]).abs() <= scale / 2 + 1e-6).all()
    round_to_int8(base)
    for name, value in model.named_parameters():
        assert torch.equal(value, once[name]), name


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_loads_from_a_folder(tiny_families: dict[str, Path], name: str) -> None:
    base = load_base_model(str(tiny_families[name]))
    assert base.model.config.model_type == name
    assert not base.model.training
    assert base.dim == 32
    assert base.max_tokens == (1_024 if name == "modernbert" else 320)
    encoding = base.tokenizer.encode("Free bet " * 400)
    assert len(encoding.ids) == 802
    assert encoding.tokens[:3] == ["[CLS]", "free", "bet"]


@pytest.mark.parametrize("name", FAMILIES)
def test_rounding_changes_the_adapted_layers_and_the_words_of_every_family(
    tiny_families: dict[str, Path], name: str
) -> None:
    base = load_base_model(str(tiny_families[name]))
    before = {name: value.clone() for name, value in base.model.named_parameters()}
    round_to_int8(base)
    changed = {name for name, value in base.model.named_parameters() if not torch.equal(value, before[name])}
    assert len(changed) == 2 * len(FAMILIES[name].linears) + 1
    assert f"{FAMILIES[name].words}.weight" in changed


def test_a_checkpoint_in_half_precision_is_read_as_float32(tiny_families: dict[str, Path], tmp_path: Path) -> None:
    base = load_base_model(str(tiny_families["deberta-v2"]))
    AutoModel.from_pretrained(tiny_families["deberta-v2"], dtype=torch.float16).save_pretrained(tmp_path)
    for path in tiny_families["deberta-v2"].glob("tokenizer*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    half = load_base_model(str(tmp_path)).model
    for name, value in base.model.named_parameters():
        torch.testing.assert_close(half.get_parameter(name), value.half().float())


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    GPT2Model(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1, n_positions=8)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="model_type: found 'gpt2', allowed bert, deberta-v2, modernbert, roberta"):
        load_base_model(str(tmp_path))


def test_a_length_beyond_what_the_encoder_reads_is_refused(tiny_families: dict[str, Path]) -> None:
    base = load_base_model(str(tiny_families["xlm-roberta"]))
    check_max_tokens(base, {"max_tokens": 320, "adapter.max_tokens": 128})
    with pytest.raises(ValueError, match=r"adapter.max_tokens: found 321, allowed up to 320, which '.*' reads"):
        check_max_tokens(base, {"max_tokens": 320, "adapter.max_tokens": 321})
