"""Our own ads: what the datasheet promises, and that they are nobody else's rows."""

from __future__ import annotations

import json
import lzma
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from moderation.regions import check_region
from training.examples import HEADS, ad_text

ADS = Path(__file__).resolve().parent.parent.parent / "training" / "data" / "ads.jsonl"
GUIDELINE_HEADS = HEADS[:-1]  # all but the auxiliary `toxic`
KEYS = {"id", "title", "body", "cta", "landing_text", "lang", "regions", "labels", "kind", "note"}
LABELS_OF_KIND = {"positive": (1, 1), "multi": (2, 15), "evasion": (1, 15), "hard_negative": (0, 0), "clean": (0, 0)}
SHINGLE, NEAR = 5, 0.5

Row = Mapping[str, Any]


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def ads() -> list[Row]:
    return read(ADS)


def plain(text: str) -> str:
    """Case, width, punctuation and spacing do not tell two texts apart."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def shingles(row: Row) -> frozenset[str]:
    text = re.sub(r"\s+", " ", ad_text(row)).lower()
    return frozenset(text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1)))


def near_pairs(rows: Sequence[Row], others: Sequence[Row] = ()) -> list[tuple[str, str, float]]:
    """Return the pairs of `rows` with `others` (none: within `rows`) whose shingles have a Jaccard index from .5 up."""
    left = [shingles(row) for row in rows]
    right = [shingles(row) for row in others] or left
    columns = {shingle: i for i, shingle in enumerate(sorted(frozenset().union(*left, *right)))}
    # One product of two sparse tables counts what every pair shares.
    shared = (_table(left, columns) @ _table(right, columns).T).toarray()
    sizes = np.array([len(own) for own in left])[:, None] + np.array([len(own) for own in right])[None, :]
    jaccard = shared / (sizes - shared)
    near = np.argwhere(jaccard >= NEAR if others else np.triu(jaccard >= NEAR, k=1))
    return [(rows[i]["id"], (others or rows)[k]["id"], round(float(jaccard[i, k]), 2)) for i, k in near]


def _table(sets: Sequence[frozenset[str]], columns: Mapping[str, int]) -> csr_array:
    indices = [columns[shingle] for own in sets for shingle in own]
    ends = np.cumsum([0, *(len(own) for own in sets)])
    return csr_array((np.ones(len(indices), dtype=np.int32), indices, ends), shape=(len(sets), len(columns)))


def test_near_pairs_finds_what_a_plain_comparison_finds() -> None:
    texts = [
        "win a free bet now",
        "win a free bet now!",
        "win a free bet today",
        "tea",
        "tea",
        "bread every day",
        "a free",
    ]
    rows = [{"id": str(i), "body": text} for i, text in enumerate(texts)]
    found = {(left, right) for left, right, _ in near_pairs(rows)}
    sets = [shingles(row) for row in rows]
    assert found == {
        (str(i), str(k))
        for k in range(len(rows))
        for i in range(k)
        if len(sets[i] & sets[k]) / len(sets[i] | sets[k]) >= NEAR
    }
    assert {("0", "1"), ("0", "2"), ("3", "4")} <= found


def test_enough_distinct_ads_in_enough_languages(ads: list[Row]) -> None:
    assert len({plain(ad_text(row)) for row in ads}) == len(ads) >= 1_500
    assert len({row["id"] for row in ads}) == len(ads)
    languages = Counter(row["lang"] for row in ads)
    assert len([language for language, count in languages.items() if count >= 8]) >= 12


def test_every_head_has_ads(ads: list[Row]) -> None:
    counts = Counter(label for row in ads for label in row["labels"])
    assert set(counts) == set(GUIDELINE_HEADS)
    assert min(counts.values()) >= 40, counts


def test_every_kind_has_ads(ads: list[Row]) -> None:
    counts = Counter(row["kind"] for row in ads)
    assert set(counts) == set(LABELS_OF_KIND)
    assert min(counts.values()) >= 100, counts


def test_every_row_has_its_form(ads: list[Row]) -> None:
    for row in ads:
        assert set(row) == KEYS, row["id"]
        texts = [row[name] for name in ("title", "body", "cta", "landing_text", "note")]
        assert all(text is None or (isinstance(text, str) and text.strip()) for text in texts), row["id"]
        assert isinstance(row["body"], str), row["id"]
        assert re.fullmatch("[a-z]{2}", row["lang"]), row["id"]
        assert row["regions"], row["id"]
        for region in row["regions"]:
            check_region(region)
        assert len(set(row["labels"])) == len(row["labels"]), row["id"]
        fewest, most = LABELS_OF_KIND[row["kind"]]
        assert fewest <= len(row["labels"]) <= most, row["id"]


def test_no_two_ads_are_alike(ads: list[Row]) -> None:
    assert near_pairs(ads) == []


def test_no_ad_is_like_one_of_the_development_set(ads: list[Row], data_dir: Path) -> None:
    development = read(data_dir / "moderation" / "ads" / "ads_dev.jsonl")
    assert len(development) > 200
    assert near_pairs(ads, development) == []


@pytest.mark.slow
def test_no_training_text_is_in_an_evaluation_suite(ads: list[Row], data_dir: Path) -> None:
    """By the whole text, normalised; an overlap is told by file and count, never by its text."""
    suites = {}
    for path in sorted((data_dir / "moderation" / "eval").glob("*.jsonl.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as file:
            suites.update(dict.fromkeys((plain(json.loads(line)["text"]) for line in file), path.name))
    assert len(suites) > 30_000
    overlap = Counter(suites[text] for row in ads if (text := plain(ad_text(row))) in suites)
    with lzma.open(data_dir / "moderation" / "train.jsonl.xz", "rt", encoding="utf-8") as file:
        overlap.update(suites[text] for line in file if (text := plain(json.loads(line)["text"])) in suites)
    assert overlap == {}
