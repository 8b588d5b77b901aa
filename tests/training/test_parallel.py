from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from training.parallel import Sentences, load_parallel, pack, pair_chances, with_siblings
from training.tokenizer import train_tokenizer

ROWS = (
    {"en": "fresh bread", "source": "docs", "translations": {"de": "frisches Brot", "fr": "pain frais"}},
    {"en": "an old town", "source": "bible_bcv", "translations": {"de": "eine alte Stadt"}},
    {"en": "fresh bread", "source": "ui", "translations": {"de": "Frischbrot"}},
)


def write(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS]
    (folder / "part-0.jsonl.xz").write_bytes(lzma.compress("".join(lines[:2]).encode()))
    (folder / "part-1.jsonl").write_text(lines[2], encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["fresh bread in an old town", "frisches Brot"] * 5, vocabulary=400, alphabet=40)


def test_translations_know_their_english_sentence_which_is_kept_once(tmp_path: Path) -> None:
    found = load_parallel(write(tmp_path))
    assert found.texts == (
        "fresh bread", "frisches Brot", "pain frais", "an old town", "eine alte Stadt", "Frischbrot",
    )  # fmt: skip
    assert found.lang.tolist() == ["en", "de", "fr", "en", "de", "de"]
    assert found.english.tolist() == [0, 0, 0, 3, 3, 0]
    assert found.source.tolist() == ["docs", "docs", "docs", "bible_bcv", "bible_bcv", "ui"]


def test_without_files_the_message_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"part-\*\.jsonl\.xz.*WARDLINE_DATA; training/data/README\.md"):
        load_parallel(tmp_path)


def test_packed_tokens_are_the_tokenizers(tokenizer: Tokenizer) -> None:
    texts = ["fresh bread", "", "frisches Brot in town", "an old town"]
    packed = pack(tokenizer, texts, max_tokens=3)
    expected = [tokenizer.encode(text, add_special_tokens=False).ids[:3] for text in texts]
    assert [packed.ids[a:b].tolist() for a, b in zip(packed.offsets, packed.offsets[1:], strict=False)] == expected


def test_bags_join_the_rows_asked_for(tokenizer: Tokenizer) -> None:
    texts = ["fresh bread", "", "frisches Brot in town", "an old town"]
    packed = pack(tokenizer, texts, max_tokens=99)
    ids, starts = packed.bags(np.array([2, 1, 0]))
    rows = [tokenizer.encode(texts[i], add_special_tokens=False).ids for i in (2, 1, 0)]
    assert ids.tolist() == [*rows[0], *rows[1], *rows[2]]
    assert starts.tolist() == [0, len(rows[0]), len(rows[0])]


def made(counts: dict[tuple[str, str], int]) -> Sentences:
    lang = np.array([lang for (lang, _), n in counts.items() for _ in range(n)])
    source = np.array([source for (_, source), n in counts.items() for _ in range(n)])
    return Sentences(("x",) * len(lang), lang, source, np.zeros(len(lang), dtype=np.int64))


def test_languages_are_drawn_by_a_power_of_their_size_and_english_never() -> None:
    sentences = made({("en", "docs"): 50, ("de", "docs"): 400, ("he", "docs"): 25})
    chances = pair_chances(sentences, alpha=0.5, caps={})
    assert chances.sum() == pytest.approx(1.0)
    assert chances[sentences.lang == "en"].sum() == 0
    assert chances[sentences.lang == "de"].sum() == pytest.approx(20 / 25)
    assert pair_chances(sentences, alpha=1.0, caps={})[60] == pytest.approx(1 / 425)


def test_a_source_is_held_to_its_share() -> None:
    sentences = made({("en", "docs"): 5, ("de", "docs"): 60, ("he", "bible"): 20, ("he", "bible_bcv"): 20})
    chances = pair_chances(sentences, alpha=1.0, caps={"bible": 0.1, "docs": 0.95})
    assert chances[np.char.startswith(sentences.source, "bible")].sum() == pytest.approx(0.1)
    assert chances.sum() == pytest.approx(1.0)
    small = pair_chances(made({("de", "docs"): 99, ("he", "bible"): 1}), alpha=1.0, caps={"bible": 0.1})
    assert small.tolist() == pytest.approx([0.01] * 100)


def test_a_corpus_of_one_capped_source_is_left_alone() -> None:
    assert pair_chances(made({("he", "bible"): 4}), alpha=1.0, caps={"bible": 0.1}).tolist() == [0.25] * 4


def test_a_weighted_source_is_drawn_more_often_and_its_language_is_not() -> None:
    sentences = made({("de", "docs"): 30, ("de", "news"): 10, ("he", "docs"): 40})
    chances = pair_chances(sentences, alpha=1.0, caps={}, weights={"news": 3.0})
    assert chances[sentences.lang == "de"].sum() == pytest.approx(0.5)
    assert chances[sentences.source == "news"].sum() == pytest.approx(0.25)


def test_siblings_translate_the_same_sentence_once_each() -> None:
    english = np.array([0, 0, 0, 0, 4, 4, 6])
    rng = np.random.default_rng(0)
    groups = with_siblings(np.array([2, 5, 2]), english, siblings=1, rng=rng)
    assert [group[0] for group in groups] == [2, 5, 2]
    assert {group[1] for group in (groups[0], groups[2])} <= {1, 3}
    assert len(groups[1]) == 1  # nobody else translates it
    [every] = with_siblings(np.array([2]), english, siblings=9, rng=rng)
    assert sorted(every.tolist()) == [1, 2, 3]
    assert [group.tolist() for group in with_siblings(np.array([1]), english, siblings=0, rng=rng)] == [[1]]
