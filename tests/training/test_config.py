from __future__ import annotations

from pathlib import Path

import pytest

from training.config import DataConfig, ModerationConfig, load_config


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_not_named_keeps_its_default(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "")) == ModerationConfig()
    config = load_config(write(tmp_path, "version: '7'\nadapter: {rank: 4}\nlanguages: [en, de]"))
    assert (config.version, config.adapter.rank, config.languages) == ("7", 4, ("en", "de"))
    assert config.adapter.alpha == ModerationConfig().adapter.alpha
    assert config.heads == ModerationConfig().heads


def test_a_whole_number_may_stand_for_a_real_one(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "heads: {ad_weight: 3}"))
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
        ("thresholds: {prevalence: 2}", r"prevalence: found 2\.0, allowed above 0 and below 1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config(write(tmp_path, text))


def test_only_rows_anyone_may_use_shape_the_model_by_default() -> None:
    assert DataConfig().licences == ("open",)
    assert ModerationConfig().adapter.licences == ("open",)
