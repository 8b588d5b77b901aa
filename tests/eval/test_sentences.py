"""Sentences from files: columns, splits, thinning, and clear refusals."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest

from eval.sentences import (
    NTREX,
    SIMILARITY,
    TATOEBA,
    TOPICS_DEV,
    TOPICS_TRAIN,
    Pool,
    ScoredPairs,
    TopicRows,
    load_pools,
    load_scored_pairs,
    load_topics,
)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(text.encode("utf-8")))
    return folder


def topic_lines(*ids: str) -> str:
    rows = [{"lang": lang, "id": i, "label": "travel", "text": f"{lang} {i}"} for lang in ("eng", "deu") for i in ids]
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_pools_are_read_per_language(tmp_path: Path) -> None:
    text = 'de\tA "quoted" one\tEin "Zitat"\nde\tTwo\tZwei\u2028Zeilen\nth\tOne\tหนึ่ง\n'
    assert load_pools(write(tmp_path, NTREX, text), NTREX) == (
        Pool("de", ('A "quoted" one', "Two"), ('Ein "Zitat"', "Zwei\u2028Zeilen")),
        Pool("th", ("One",), ("หนึ่ง",)),
    )


def test_only_the_dev_split_of_the_scored_pairs_counts(tmp_path: Path) -> None:
    text = "de\tdev\t4.75\ta\tb\nde\ttest\t1\tc\td\nen\tdev\t0\te\tf\n"
    found = load_scored_pairs(write(tmp_path, SIMILARITY, text))
    assert found == (ScoredPairs("de", (4.75,), ("a",), ("b",)), ScoredPairs("en", (0.0,), ("e",), ("f",)))


def test_topics_have_both_splits(tmp_path: Path) -> None:
    write(tmp_path, TOPICS_TRAIN, topic_lines("1", "2"))
    topics = load_topics(write(tmp_path, TOPICS_DEV, topic_lines("3")))
    assert topics.dev[1] == TopicRows("deu", ("3",), ("travel",), ("deu 3",))
    assert [rows.ids for rows in topics.train] == [("1", "2"), ("1", "2")]


def test_a_sentence_in_both_splits_is_refused(tmp_path: Path) -> None:
    write(tmp_path, TOPICS_TRAIN, topic_lines("1", "2"))
    with pytest.raises(ValueError, match="id: found 1 sentences in both splits, such as '2'"):
        load_topics(write(tmp_path, TOPICS_DEV, topic_lines("2", "3")))


def test_thinning_keeps_order_repeats_and_keeps_pools_parallel() -> None:
    pools = [Pool(name, tuple(map(str, range(50))), tuple(f"{name}{i}" for i in range(50))) for name in ("de", "th")]
    first, second = (pool.thinned(9, seed=2) for pool in pools)
    assert first.english == second.english == pools[0].thinned(9, seed=2).english
    assert [int(i) for i in first.english] == sorted(map(int, first.english))
    assert first.translations == tuple(f"de{i}" for i in first.english)
    assert pools[0].thinned(50, seed=2) == pools[0]
    pairs = ScoredPairs("de", tuple(map(float, range(9))), tuple("abcdefghi"), tuple("ABCDEFGHI")).thinned(4, seed=1)
    assert all(
        chr(97 + int(s)) == a == b.lower() for s, a, b in zip(pairs.scores, pairs.first, pairs.second, strict=True)
    )
    rows = TopicRows("de", ("0", "1", "2"), ("x", "y", "z"), ("X", "Y", "Z")).thinned(2, seed=1)
    assert [label.upper() for label in rows.labels] == list(rows.texts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("de\tA\n", "line 1 of tatoeba.tsv.xz: found 2 columns, expected 3"),
        ("de\tA\tB\nde\tA\t \n", "line 2 of tatoeba.tsv.xz"),
        ("", "found no lines in 'tatoeba.tsv.xz'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_pools(write(tmp_path, TATOEBA, text), TATOEBA)


@pytest.mark.parametrize("score", ["5.1", "-1", "nan", "high"])
def test_a_score_out_of_range_is_refused(tmp_path: Path, score: str) -> None:
    with pytest.raises(ValueError, match=f"score: found '{score}' in stsb_dev.tsv.xz, allowed 0 to 5"):
        load_scored_pairs(write(tmp_path, SIMILARITY, f"de\tdev\t{score}\ta\tb\n"))


def test_missing_files_splits_and_fields_are_named(tmp_path: Path) -> None:
    for load in (load_scored_pairs, load_topics, lambda folder: load_pools(folder, NTREX)):
        with pytest.raises(ValueError, match=r"data: found no file '.*' in '.*'; training/data/README.md"):
            load(tmp_path)
    with pytest.raises(ValueError, match="split: found no line of 'dev'"):
        load_scored_pairs(write(tmp_path, SIMILARITY, "de\ttest\t1\ta\tb\n"))
    write(tmp_path, TOPICS_DEV, topic_lines("1"))
    with pytest.raises(ValueError, match="row 1 of train.jsonl.xz: found"):
        load_topics(write(tmp_path, TOPICS_TRAIN, '{"lang": "eng", "text": "a"}\n'))
