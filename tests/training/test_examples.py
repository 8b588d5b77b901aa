from __future__ import annotations

import hashlib
import json
import lzma
from pathlib import Path

import datasets
import numpy as np
import pytest

from training.config import DataConfig
from training.examples import (
    DISGUISED,
    HEADS,
    OWN_ADS,
    ad_text,
    concatenate,
    fold_of,
    load_ads,
    load_public,
    public_rows,
    target_row,
)

NAN = float("nan")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def public(**changes: object) -> dict[str, object]:
    row = {
        "id": "1", "text": "a", "lang": "en", "region": None, "source": "s", "licence": "open", "kind": "post",
        "labels": {"hate": 1}, "group": "g",
    }  # fmt: skip
    return {**row, **changes}


def ad(**changes: object) -> dict[str, object]:
    row = {
        "id": "ad-1", "title": None, "body": "tea", "cta": None, "landing_text": None, "lang": "en", "regions": ["DE"],
        "labels": [], "kind": "clean", "note": None,
    }  # fmt: skip
    return {**row, **changes}


def write(path: Path, *rows: dict[str, object]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(lzma.compress(text.encode()) if path.suffix == ".xz" else text.encode())
    return path


def known(row: np.ndarray) -> dict[str, float]:
    return {head: float(value) for head, value in zip(HEADS, row, strict=True) if not np.isnan(value)}


def test_the_fold_of_a_group_is_a_hash_of_its_name() -> None:
    expected = int.from_bytes(hashlib.sha256(b"13:ad-0001").digest()[:8], "big") % 5
    assert fold_of(["ad-0001", "x", "ad-0001"], folds=5, seed=13)[[0, 2]].tolist() == [expected, expected]
    assert fold_of(["b", "ad-0001"], folds=5, seed=13)[1] == expected  # whatever stands beside it
    # Written down once: a fold that moved would let the heads see what the thresholds are fitted on.
    assert fold_of([f"g{i}" for i in range(8)], folds=5, seed=13).tolist() == [2, 1, 1, 3, 1, 0, 4, 2]


def test_folds_are_about_equal_and_follow_the_seed() -> None:
    names = np.array([f"group{i}" for i in range(5_000)])
    fold = fold_of(names, folds=4, seed=0)
    counts = np.bincount(fold, minlength=4)
    assert counts.min() > 1_100
    assert counts.max() < 1_400
    assert (fold != fold_of(names, folds=4, seed=1)).mean() > 0.6


def test_a_missing_label_is_unknown_and_never_0() -> None:
    row = target_row({"hate": 1, "scam": 0})
    assert row.dtype == np.float32
    assert known(row) == {"hate": 1, "scam": 0}
    assert known(target_row({"drugs": 1}, known=0.0)) == {**dict.fromkeys(HEADS, 0.0), "drugs": 1.0}


def test_public_names_become_our_heads() -> None:
    labels = {"clickbait": 1, "spam_scam": 0, "pressure_claim": 1, "bias": 1, "sexism": 0, "microaggression": 1}
    assert known(target_row(labels)) == {"sensational": 1, "scam": 0, "pressure": 1}


def test_a_label_that_a_table_fills_with_none_is_unknown() -> None:
    assert known(target_row({"scam": 1, "spam_scam": None, "hate": None})) == {"scam": 1}


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.xz"])
def test_public_rows(tmp_path: Path, name: str) -> None:
    path = write(
        tmp_path / name,
        public(text="Zürich 🎁", labels={"hate": 0, "clickbait": 1}, lang="de", kind="headline", group="g1"),
        public(text="b", labels={"drugs": 1}, source="agora_listing", licence="unverified"),
        public(text="c", licence="sa"),
        public(text="d", labels={"scam": 1}),
    )
    examples = load_public(path, DataConfig())
    assert examples.texts == ("Zürich 🎁", "b", "d")  # share-alike is not asked for; the drug listings always are
    assert [known(row) for row in examples.targets] == [{"hate": 0, "sensational": 1}, {"drugs": 1}, {"scam": 1}]
    assert (examples.lang[0], examples.kind[0], examples.group[0]) == ("de", "headline", "g1")
    assert load_public(path, DataConfig(licences=("open", "sa"))).texts == ("Zürich 🎁", "b", "c", "d")


def test_a_rows_region_is_that_of_its_tag_else_of_its_source(tmp_path: Path) -> None:
    path = write(
        tmp_path / "train.jsonl", public(region="en-CA"), public(region=None), public(region="México", source="x"),
        public(region=None, source="germeval18"), public(region="MX/ES"),
    )  # fmt: skip
    assert load_public(path, DataConfig()).region.tolist() == ["CA", "", "MX", "DE", ""]


@pytest.mark.parametrize("column", ["empty", "missing"])
def test_rows_need_no_word_of_their_region(tmp_path: Path, column: str) -> None:
    rows = [public(source="beep"), public()]
    if column == "missing":
        rows = [{key: value for key, value in row.items() if key != "region"} for row in rows]
    assert load_public(write(tmp_path / "train.jsonl", *rows), DataConfig()).region.tolist() == ["KR", ""]


def test_our_own_ads_are_of_no_region(tmp_path: Path) -> None:
    """They are written for several, and every region's adapter sees them."""
    assert load_ads(write(tmp_path / "ads.jsonl", ad(regions=["DE"]))).region.tolist() == [""]


def test_without_data_the_message_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"WARDLINE_DATA; training/data/README\.md"):
        public_rows(tmp_path)


def test_of_our_own_ads_every_head_but_toxic_is_known(tmp_path: Path) -> None:
    path = write(tmp_path / "ads.jsonl", ad(labels=["drugs", "scam"], kind="multi", lang="fi"), ad(id="ad-2"))
    ads = load_ads(path)
    first, second = (known(row) for row in ads.targets)
    assert {head for head, value in first.items() if value} == {"drugs", "scam"}
    assert set(first) == set(second) == set(HEADS) - {"toxic"}
    assert set(ads.source) == {OWN_ADS}
    assert (ads.kind.tolist(), ads.lang.tolist(), ads.group.tolist()) == (
        ["multi", "clean"],
        ["fi", "en"],
        ["ad-1", "ad-2"],
    )


def test_texts_are_taken_as_serving_reads_them(tmp_path: Path) -> None:
    path = write(tmp_path / "ads.jsonl", ad(body="buy v1agra", labels=["drugs"], kind="evasion"), ad(id="ad-2"))
    assert load_ads(path).texts == ("buy viagra", "tea")
    assert load_public(write(tmp_path / "train.jsonl", public(text="buy v1agra")), DataConfig()).texts == (
        "buy viagra",
    )


def test_of_disguised_copies_comes_what_undoing_left(tmp_path: Path) -> None:
    body = "fresh bread every morning, delivered to your door in the old town by our bike no later than at six"
    path = write(
        tmp_path / "ads.jsonl", ad(body=body, labels=["drugs"], kind="positive"),
        ad(id="ad-2", body="buy v1agra", kind="evasion"),
    )  # fmt: skip
    ads = load_ads(path, disguised_copies=9)
    copies = np.flatnonzero(ads.kind == DISGUISED)
    assert ads.texts[:2] == (body, "buy viagra")
    assert copies.tolist() == list(range(2, len(ads)))
    assert 0 < len(copies) < 9  # most disguises are undone in full
    assert set(ads.group[copies]) == {"ad-1"}  # what was written in disguise needs no other
    np.testing.assert_array_equal(ads.targets[copies], np.repeat(ads.targets[:1], len(copies), axis=0))
    assert len({*ads.texts}) == len(ads)
    assert load_ads(path, disguised_copies=9).texts == ads.texts


def test_an_ads_text_is_its_fields_in_the_order_of_serving() -> None:
    assert ad_text({"body": "b", "landing_text": "l", "title": "t", "cta": None, "note": "n"}) == "t\nb\nl"


def test_take_and_concatenate(tmp_path: Path) -> None:
    ads = load_ads(write(tmp_path / "ads.jsonl", *(ad(id=str(i), body=f"text {i}") for i in range(4))))
    part = ads.take(np.array([3, 1]))
    assert (part.texts, part.group.tolist(), len(part)) == (("text 3", "text 1"), ["3", "1"], 2)
    both = concatenate([part, ads.take(np.array([0]))])
    assert both.texts == ("text 3", "text 1", "text 0")
    assert both.targets.shape == (3, len(HEADS))


def test_regions_stay_with_their_rows(tmp_path: Path) -> None:
    rows = [public(text=f"text {i}", region=region) for i, region in enumerate(["BR", None, "TR"])]
    rest = load_public(write(tmp_path / "train.jsonl", *rows), DataConfig())
    both = concatenate([load_ads(write(tmp_path / "ads.jsonl", ad())), rest.take(np.array([2, 0]))])
    assert (both.texts, both.region.tolist()) == (("tea", "text 2", "text 0"), ["", "TR", "BR"])
