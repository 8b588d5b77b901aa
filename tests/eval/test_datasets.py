"""Rows from files: label names, unknown labels, ads, and clear refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eval.datasets import SUITES, data_folder, is_english, load_rows, load_suite, load_training


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_public_names_become_heads_and_a_missing_label_is_unknown(tmp_path: Path) -> None:
    labels = {"clickbait": 1, "spam_scam": 0, "pressure_claim": 1, "bias": 1}
    suite = load_rows(write(tmp_path / "a.jsonl", {"id": "1", "text": "t", "labels": labels}))
    assert np.array_equal(
        suite.labels(["sensational", "scam", "pressure", "hate"]), np.array([[1.0, 0.0, 1.0, np.nan]]), equal_nan=True
    )


def test_an_ad_is_its_fields_and_the_list_form_of_labels_is_read(tmp_path: Path) -> None:
    ad = {"id": "1", "title": "T", "body": "B", "cta": None, "landing_text": "", "labels": ["scam"], "regions": ["DE"]}
    [row] = load_rows(write(tmp_path / "a.jsonl", ad)).rows
    assert row.text == "T\nB"
    assert row.fields == {"title": "T", "body": "B"}
    assert row.labels == {"scam": 1.0}
    assert row.regions == ("DE",)


def test_parallel_prompts_share_a_group(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "text": "a", "meta": {"idx": "7"}},
        {"id": "2", "text": "b", "meta": {"idx": "7"}},
        {"id": "3", "text": "c"},
    ]
    assert [row.group for row in load_rows(write(tmp_path / "a.jsonl", *rows)).rows] == ["7", "7", "3"]


def test_training_rows_by_licence_and_source(made_up_data: Path) -> None:
    assert len(load_training(made_up_data, licences=("open",)).rows) == 240
    assert len(load_training(made_up_data, licences=("open",), without_sources=("posts",)).rows) == 160
    assert {row.source for row in load_training(made_up_data, licences=(), also_sources=("shop",)).rows} == {"shop"}


def test_every_suite_of_a_folder_loads(made_up_data: Path) -> None:
    for name in SUITES:
        suite = load_suite(made_up_data, name)
        assert suite.texts
        assert suite.column("lang").shape == (len(suite.rows),)


def test_thinning_keeps_order_and_repeats(made_up_data: Path) -> None:
    suite = load_suite(made_up_data, "dev")
    thin = suite.thinned(20, seed=1)
    assert len(thin.rows) == 20
    assert thin == suite.thinned(20, seed=1)
    places = [suite.rows.index(row) for row in thin.rows]
    assert places == sorted(places)
    assert suite.thinned(10_000, seed=1) is suite


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "1", "labels": {}}, "text: found None in a.jsonl, row 1"),
        ({"id": "1", "text": ""}, "text: found ''"),
        ({"id": "1", "text": 5}, "text: found 5"),
        ({"id": "1", "text": "t", "labels": {"hate": 2}}, "labels: found"),
        ({"id": "1", "text": "t", "labels": "hate"}, "labels: found 'hate'"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_rows(write(tmp_path / "a.jsonl", row))


def test_the_folder_comes_from_the_argument_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WARDLINE_DATA", raising=False)
    with pytest.raises(ValueError, match="WARDLINE_DATA"):
        data_folder()
    monkeypatch.setenv("WARDLINE_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    with pytest.raises(ValueError, match="not a folder"):
        data_folder(tmp_path / "none")


def test_unknown_suites_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allowed dev, hatecheck"):
        load_suite(tmp_path, "train")
    with pytest.raises(ValueError, match="found no file 'dev"):
        load_suite(tmp_path, "dev")


def test_english() -> None:
    assert is_english("en")
    assert is_english("en-GB")
    assert not is_english("und")
    assert not is_english("enm")
