from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from training.base_model import LINEAR_LEVELS, load_base_model, round_to_int8


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
        scale = before[name].abs().amax(1, keepdim=True).clamp(min=1e-12) / levels  # the padding token's row is 0
        steps = once[name] / scale
        torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
        assert steps.abs().max() <= levels + 1e-3
        assert ((once[name] - before[name]).abs() <= scale / 2 + 1e-6).all()
    round_to_int8(base)
    for name, value in model.named_parameters():
        torch.testing.assert_close(value, once[name], atol=1e-6, rtol=1e-5)
