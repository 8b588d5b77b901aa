"""Rows with votes: what is read, what is left out, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.votes import ATTRIBUTES, VOTES_OF, load_voted, scores_of
from moderation.compat.perspective import ATTRIBUTES as PERSPECTIVES


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(identifier: str, **rest: Any) -> dict[str, Any]:
    return {"id": identifier, "text": f"text {identifier}", "lang": "en", "source": "s", "licence": "open", **rest}


def test_fractions_are_those_of_the_votes(tmp_path: Path) -> None:
    file = write(
        tmp_path / "rows.jsonl",
        row("a", votes={"toxic": [2, 3], "hate": [0, 4], "obscene": [3, 3]}, group="g"),
        row("b"),
        row("c", votes={"toxic": [1, 1]}),
        row("d", votes={"toxic": [1, 1], "violence": [2, 2]}, meta={"idx": "7"}, licence="sa", source="t", lang="de"),
        row("e", votes={"obscene": [3, 3]}),
    )
    rows = load_voted(file)
    assert rows.texts == ("text a", "text d"), "no votes, one voice or none of ours: no fraction"
    known = {name: rows.fraction[0, i] for i, name in enumerate(ATTRIBUTES) if not np.isnan(rows.fraction[0, i])}
    assert known == {"TOXICITY": pytest.approx(2 / 3), "IDENTITY_ATTACK": 0.0}
    assert rows.fraction[1, ATTRIBUTES.index("THREAT")] == 1.0
    assert np.isnan(rows.fraction[1, ATTRIBUTES.index("TOXICITY")])
    assert (rows.group.tolist(), rows.licence.tolist()) == (["g", "7"], ["open", "sa"])
    assert (rows.source.tolist(), rows.lang.tolist()) == (["s", "t"], ["en", "de"])


def test_rows_are_taken_by_mark_and_by_place(tmp_path: Path) -> None:
    rows = load_voted(write(tmp_path / "r.jsonl", *(row(str(i), votes={"toxic": [i, 3]}) for i in range(4))))
    marked, placed = rows.take(np.array([False, True, False, True])), rows.take(np.array([3, 1]))
    assert (marked.texts, placed.texts) == (("text 1", "text 3"), ("text 3", "text 1"))
    assert placed.fraction[:, 0].tolist() == [1.0, pytest.approx(1 / 3)]
    assert len(rows.take(np.zeros(4, dtype=bool))) == 0


@pytest.mark.parametrize("counts", [[4, 3], [1], "2 of 3", [-1, 3]])
def test_votes_of_another_form_are_refused(tmp_path: Path, counts: object) -> None:
    with pytest.raises(ValueError, match=r"votes: found .* in row a, expected \[positive, raters\]"):
        load_voted(write(tmp_path / "r.jsonl", row("a", votes={"toxic": counts})))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found no file 'none.jsonl'"):
        load_voted(tmp_path / "none.jsonl")


def test_scores_are_those_of_serving() -> None:
    probabilities = np.array([[0.5, 0.25, 0.125], [1.0, 0.0, 0.5]], dtype=np.float32)
    found = scores_of(probabilities, ("toxic", "violence", "scam"), ["THREAT", "TOXICITY", "SEVERE_TOXICITY"])
    assert found.tolist() == [[0.25, 0.5, 0.125], [0.0, 1.0, 0.0]]
    assert scores_of(probabilities[:0], ("toxic", "violence", "scam"), ["TOXICITY"]).shape == (0, 1)


def test_every_attribute_with_votes_is_one_of_perspectives() -> None:
    assert set(VOTES_OF) < set(PERSPECTIVES)
