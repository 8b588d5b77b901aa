from __future__ import annotations

import json

import pytest

from eval.bench.http_client import is_flagged
from retrieval_shared.errors import WardlineError


def answer(*results: dict[str, object]) -> bytes:
    return json.dumps({"results": results}).encode()


OK = {"status": "ok", "degraded": False}


def test_an_item_is_flagged_when_a_policy_is_touched_in_any_region() -> None:
    clean = {**OK, "decisions": [{"entries": []}, {"entries": []}]}
    touched = {**OK, "decisions": [{"entries": []}, {"entries": [{"policy": "gambling"}]}]}
    assert is_flagged(answer(clean, touched)) == [False, True]


@pytest.mark.parametrize("bad", [{"status": "error"}, {"status": "ok", "degraded": True, "decisions": []}])
def test_an_answer_without_the_model_is_not_measured(bad: dict[str, object]) -> None:
    with pytest.raises(WardlineError, match="without its model, or not at all"):
        is_flagged(answer(bad))
