"""The whole evaluation of a model whose every answer is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval.document import write_json
from eval.moderation import Options, code_digest, evaluate


def test_the_report_is_plain_json_and_says_what_it_rests_on(report: dict[str, Any]) -> None:
    json.dumps(report, allow_nan=False)
    assert report["created"] == "2026-01-02"
    assert report["seed"] == 3
    assert report["bundle"]["name"] == "first@1"
    assert len(report["bundle"]["digest"]) == 64
    assert report["n"] == 160 + 40 + 8 + 16 + 8 + 72 + 9


def test_a_model_that_knows_the_keywords_ranks_perfectly(report: dict[str, Any]) -> None:
    heads = {record["head"]: record for record in report["dev"]["heads"]}
    assert set(heads) == {"drugs", "sensational", "scam", "hate", "toxic"}
    assert all(record["ap"] == 1.0 for record in heads.values())
    assert heads["drugs"]["unlabelled_negatives"]
    assert not heads["hate"]["unlabelled_negatives"]
    assert report["dev"]["macro"]["ap"] == 1.0
    assert 0.5 < report["dev"]["macro"]["ap_baseline"] <= 1.0
    assert report["dev"]["macro"]["difference"]["groups"] == 80


def test_the_one_benign_ad_that_fires_is_counted_everywhere(report: dict[str, Any]) -> None:
    ads = report["ads_dev"]
    assert ads["false_positives"]["all"]["benign"]["k"] == 1
    assert ads["false_positives"]["all"]["hard_negative"]["k"] == 1
    assert ads["false_positives"]["all"]["clean"]["k"] == 0
    assert {record["region"] for record in ads["regions"]} == {"DE", "US"}
    for record in ads["regions"]:
        assert record["n"] == 40
        assert record["false_alarms"]["k"] == 1
        assert record["served_false_alarms"]["k"] == 1
    truth = {row["truth"]: row for row in ads["confusion"]["rows"]}
    gambling = ads["confusion"]["heads"].index("gambling")
    assert truth["gambling"]["fires"][gambling] == 1.0
    assert truth["hard_negative"]["fires"][gambling] == 0.2
    assert truth["gambling"]["n"] == 2


def test_deleting_the_keyword_beats_deleting_at_random(report: dict[str, Any]) -> None:
    faithfulness = report["faithfulness"]
    assert faithfulness["n"] == 31
    heads = {record["head"]: record for record in faithfulness["heads"]}
    for head in ("hate", "scam", "drugs"):  # short words: a random span often misses them
        assert heads[head]["drop_evidence"] > 0.6
        assert heads[head]["drop_evidence"] > heads[head]["drop_random"]


def test_both_bundles_are_named_and_only_the_unseen_one_may_be_compared(report: dict[str, Any]) -> None:
    first, second = report["rtplx"]["models"]
    assert (first["name"], first["saw_training_rows"]) == ("first@1", False)
    assert (second["name"], second["saw_training_rows"]) == ("second@1", True)
    assert "secret-prompt" not in json.dumps(report)


def test_every_text_is_scored_once(made_up_data: Path, keyword_moderator: Any, tmp_path: Path) -> None:  # noqa: ANN401
    options = Options(resamples=2, baseline=False, cache=tmp_path)
    evaluate(keyword_moderator, made_up_data, options=options)
    before = keyword_moderator.calls
    again = evaluate(keyword_moderator, made_up_data, options=options)
    assert keyword_moderator.calls == before + 40, "only `moderate` runs again: all scores come from the folder"
    assert again["baseline"] is None


def test_scores_on_disk_die_with_the_code_that_reads_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("retrieval_shared/text.py", "retrieval_shared/obfuscation/words.txt", "moderation/classifier.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a", encoding="utf-8")
    monkeypatch.setattr("eval.moderation.ROOT", tmp_path)
    before = code_digest()
    assert code_digest() == before
    (tmp_path / "retrieval_shared/obfuscation/words.txt").write_text("b", encoding="utf-8")
    assert code_digest() != before


def test_a_comparison_of_training_strategies_is_taken_along_where_there_is_one(
    made_up_data: Path, keyword_moderator: Any, tmp_path: Path
) -> None:
    compared: dict[str, Any] = {"strategies": {"static": {}}}
    for path, expected in ((tmp_path / "balance.json", compared), (tmp_path / "none.json", None)):
        write_json(tmp_path / "balance.json", compared)
        options = Options(resamples=2, baseline=False, quick=True, balance=path)
        assert evaluate(keyword_moderator, made_up_data, options=options)["balance"] == expected


def test_a_quick_run_thins_the_suites_and_says_so(made_up_data: Path, keyword_moderator: Any, monkeypatch: Any) -> None:  # noqa: ANN401
    monkeypatch.setattr("eval.moderation.QUICK_ROWS", 30)
    found = evaluate(keyword_moderator, made_up_data, options=Options(resamples=2, baseline=False, quick=True))
    assert found["quick"]
    assert found["dev"]["n"] == 30
    assert found["ads_dev"]["n"] == 40


def test_a_missing_file_is_named(keyword_moderator: Any, tmp_path: Path) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=r"ads_dev\.jsonl"):
        evaluate(keyword_moderator, tmp_path)


def test_a_bundle_of_more_licences_stands_beside_on_dev(report: dict[str, Any]) -> None:
    wider, dev = report["wider"], report["dev"]
    assert wider["name"] == "second@1"
    assert wider["macro_english"]["ap_baseline"] == dev["macro_english"]["ap"]
    # The same keywords: the other bundle is as good on every head.
    assert {head["head"]: head["ap_shipped"] for head in wider["heads"]} == {h["head"]: h["ap"] for h in dev["heads"]}
    assert all(head["ap"] == head["ap_shipped"] for head in wider["heads"])
