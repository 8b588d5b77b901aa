from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from training.config import DataConfig, ModerationConfig, load_config
from training.encoder_config import EncoderConfig


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_not_named_keeps_its_default(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, ""), ModerationConfig) == ModerationConfig()
    config = load_config(write(tmp_path, "version: '7'\nadapter: {rank: 4}\nlanguages: [en, de]"), ModerationConfig)
    assert (config.version, config.adapter.rank, config.languages) == ("7", 4, ("en", "de"))
    assert config.adapter.alpha == ModerationConfig().adapter.alpha
    assert config.heads == ModerationConfig().heads


def test_a_whole_number_may_stand_for_a_real_one(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "heads: {ad_weight: 3}"), ModerationConfig)
    assert isinstance(config.heads.ad_weight, float)
    assert config.heads.ad_weight == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed: 3", r"run\.yaml: unknown key 'sed', allowed: .*seed"),
        ("adapter: {rnk: 3}", r"run\.yaml\.adapter: unknown key 'rnk', allowed: .*rank"),
        ("seed: '3'", r"run\.yaml\.seed: found '3', expected a int such as 13"),
        ("seed: 3.5", r"run\.yaml\.seed: found 3\.5"),
        ("seed: true", r"run\.yaml\.seed: found True"),
        ("heads: {dropout: yes}", r"run\.yaml\.heads\.dropout: found True"),
        ("heads: {dropout: null}", r"run\.yaml\.heads\.dropout: found None"),
        ("languages: en", r"run\.yaml\.languages: found 'en', expected a tuple"),
        ("adapter: 3", r"run\.yaml\.adapter: found 3, expected a mapping"),
        ("[1, 2]", r"run\.yaml: found \[1, 2\], expected a mapping"),
        ("data: {licences: [open, mit]}", r"licences: found \['mit'\], allowed open, sa, unverified"),
        ("data: {folds: 1}", r"folds: found 1, allowed 2 or more"),
        ("adapter: {english_share: 80}", r"english_share: found 80\.0, allowed 0 to 1"),
        ("adapter: {layers: 0}", r"layers: found 0, allowed 1 or more"),
        ("adapter: {layers: 4, unfreeze: 0.25}", r"unfreeze: found 0\.25, allowed 0 to below 1 / 4 layers"),
        ("adapter: {unfreeze: -0.1}", r"unfreeze: found -0\.1"),
        (
            "heads: {loss_of: {hate: hinge}}",
            r"loss_of: found 'hinge' for 'hate', allowed bce, focal, asymm",
        ),
        ("heads: {loss_of: focal}", r"run\.yaml\.heads\.loss_of: found 'focal', expected a dict"),
        ("heads: {dropout: 1.0}", r"dropout: found 1\.0 for every head, allowed 0 to below 1"),
        ("heads: {dropout_of: {hate: -0.1}}", r"dropout: found -0\.1 for hate, allowed 0 to below 1"),
        ("heads: {dropout_of: {hate: much}}", r"dropout: found 'much' for hate"),
        ("heads: {weight_decay_of: {hate: -1}}", r"weight_decay: found -1 for hate, allowed 0 or more"),
        ("heads: {weight_decay_of: {hate: 1e-3}}", r"weight_decay: found '1e-3' for hate"),
        ("heads: {lora_start: 1.5}", r"lora_start: found 1\.5, allowed 0 to 1"),
        ("regions: {parent_weight: -1}", r"parent_weight: found -1\.0, allowed 0 or more"),
        ("regions: {epochs: 0}", r"epochs: found 0, allowed 1 or more"),
        ("adapter: {balance: equal}", r"balance: found 'equal', allowed static, pcgrad, gradnorm"),
        ("thresholds: {prevalence: 2}", r"prevalence: found 2\.0, allowed above 0 and below 1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config(write(tmp_path, text), ModerationConfig)


def test_heads_have_losses_and_strengths_of_their_own(tmp_path: Path) -> None:
    text = """
    adapter: {layers: 1, unfreeze: 0.2}
    heads:
      loss_of: {hate: focal, self_harm: class_balanced}
      dropout_of: {self_harm: 0.4}
      weight_decay_of: {self_harm: 0.1}
      lora_start: 1
    """
    config = load_config(write(tmp_path, text), ModerationConfig)
    assert (config.adapter.layers, config.adapter.unfreeze) == (1, 0.2)
    assert config.heads.loss_of == {"hate": "focal", "self_harm": "class_balanced"}
    assert (config.heads.dropout_of, config.heads.weight_decay_of) == ({"self_harm": 0.4}, {"self_harm": 0.1})
    assert config.heads.lora_start == 1.0
    assert config.heads.dropout == ModerationConfig().heads.dropout


def test_a_strategy_of_the_balance_is_named(tmp_path: Path) -> None:
    assert ModerationConfig().adapter.balance == "static"
    assert load_config(write(tmp_path, "adapter: {balance: pcgrad}"), ModerationConfig).adapter.balance == "pcgrad"


def test_only_rows_anyone_may_use_shape_the_model_by_default() -> None:
    assert DataConfig().licences == ("open",)
    assert ModerationConfig().adapter.licences == ("open",)


def test_the_encoders_configuration(tmp_path: Path) -> None:
    text = "alpha: 0.3\ncaps: {bible: 0.05}\nstatic: {pairs: 100}\ndistil: {temperature: 1}"
    config = load_config(write(tmp_path, text), EncoderConfig)
    assert (config.alpha, config.caps, config.static.pairs, config.distil.temperature) == (0.3, {"bible": 0.05}, 100, 1)


def test_a_stage_keeps_its_own_defaults_beside_the_keys_that_are_given(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "transformer: {sentences: 100}"), EncoderConfig)
    assert config.transformer == dataclasses.replace(EncoderConfig().transformer, sentences=100)
    assert (config.transformer.joint_weight, config.transformer.anchor_weight) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alpha: 1.5", "alpha: found 1.5, allowed 0 to 1"),
        ("caps: {bible: 1.0}", "caps: found 1.0 for 'bible', allowed above 0 and below 1"),
        ("distil: {pair: 3}", "unknown key 'pair', allowed: alpha, anchor_weight, batch_sentences"),
    ],
)
def test_a_wrong_encoder_configuration_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config(write(tmp_path, text), EncoderConfig)
