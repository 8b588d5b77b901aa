from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from training.encoder_config import EncoderConfig
from training.encoder_record import encoder_record, read_record, write_record
from training.parallel import Sentences


def test_the_record_counts_pairs_and_keeps_the_configuration() -> None:
    lang = np.array(["en", "de", "uk", "de", "en", "de"])
    source = np.array(["docs", "docs", "docs", "bible", "ui", "ui"])
    sentences = Sentences(("x",) * 6, lang, source, np.array([0, 0, 0, 0, 4, 4]))
    curve = {"stage": "static table", "steps": 2, "points": [[2, 0.5]]}
    found = encoder_record(EncoderConfig(seed=7), sentences, sha256="ab", curves=[curve, None])
    assert json.loads(json.dumps(found)) == found | {"config": json.loads(json.dumps(found["config"]))}
    assert found["config"]["seed"] == 7
    assert found["data"] == {
        "sentences": 6, "pairs": 4, "sha256": "ab",
        "languages": {"de": 3, "uk": 1}, "sources": {"docs": 2, "bible": 1, "ui": 1},
    }  # fmt: skip
    assert list(found["data"]["languages"]) == ["de", "uk"]
    assert found["curves"] == [curve]


def test_a_record_comes_back_and_goes(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    write_record(tmp_path, {"seed": 1})
    assert read_record(tmp_path) == {"seed": 1}
    write_record(tmp_path, None)
    assert read_record(tmp_path) is None
    write_record(tmp_path, None)  # nothing to remove is no fault
