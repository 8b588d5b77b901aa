"""The whole evaluation of encoders whose every answer is known, its page and its command."""

from __future__ import annotations

import itertools
import json
import lzma
import re
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from typer.testing import CliRunner

from eval import compared
from eval import encoder as module
from eval.cli import app
from eval.compared import Compared, Float32
from eval.document import read_json
from eval.encoder import Options, evaluate, page, write_encoder
from eval.readme import encoder_results
from eval.sections.encoder_summary import LINES
from eval.sentences import NTREX, SIMILARITY, TATOEBA, TOPICS_DEV, TOPICS_TRAIN
from eval.suites.speed import ROUNDS, Timed
from retrieval_shared.bundle import ENCODER_RECORD

N = 32
LABELS = ("sports", "travel")
MANIFEST = SimpleNamespace(name="made-up", version="1", digest="ab" * 32)
RECORD = {
    "config": {"seed": 1},
    "data": {"sentences": 20, "pairs": 10, "sha256": "cd", "languages": {"de": 10}, "sources": {"made up": 10}},
    "teacher": {"name": "a teacher", "sha256": "ef"},
    "curves": [{"stage": "distil", "steps": 100, "points": [[0, 3.5], [100, 2.0]]}],
}


class Reader:
    """Reads the number in a text, which is its meaning, in the languages it knows; else sees only the language."""

    def __init__(self, *known: str, dim: int = 48) -> None:
        self._known, self._dim = {"en", *known}, dim

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([self._vector(*text.split()) for text in texts])

    def _vector(self, language: str, meaning: str) -> np.ndarray:
        seed = meaning if language in self._known else language
        found = np.random.default_rng(zlib.crc32(seed.encode())).standard_normal(self._dim)
        if meaning.startswith("topic"):  # topics share a direction, so that a probe can learn them
            found = 0.1 * found + 9 * np.eye(self._dim)[LABELS.index(meaning.split("-")[1])] * (seed == meaning)
        return (found / np.linalg.norm(found)).astype(np.float32)


def write(folder: Path, name: str, lines: Sequence[str]) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress("".join(f"{line}\n" for line in lines).encode()))


def topic_lines(start: int, n: int) -> list[str]:
    return [
        json.dumps({"lang": f"{language}_Latn", "id": str(i), "label": LABELS[i % 2],
                    "text": f"{language} topic-{LABELS[i % 2]}-{i}"})
        for language in ("en", "de", "th") for i in range(start, start + n)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def sentences_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sentences")
    write(folder, NTREX, [f"{x}\ten {i}\t{x} {i}" for x in ("de", "th") for i in range(N)])
    write(folder, TATOEBA, [f"de\ten {i}\tde {i}" for i in range(50)] + [f"th\ten {i}\tth {i}" for i in range(20)])
    scored = [(x, i) for x in ("en", "de", "th") for i in range(12)]
    write(folder, SIMILARITY, [f"{x}\tdev\t{5 * (i % 2)}\t{x} {i}\t{x} {i if i % 2 else i + 99}" for x, i in scored])
    write(folder, TOPICS_TRAIN, topic_lines(0, 20))
    write(folder, TOPICS_DEV, topic_lines(20, 10))
    return folder


def tokenizer() -> Tokenizer:
    return Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))


def timer() -> Callable[[], float]:
    """A clock that tells one second more whenever it is asked."""
    seconds = itertools.count()
    return lambda: float(next(seconds))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("bundle")
    (folder / ENCODER_RECORD).write_text(json.dumps(RECORD), encoding="utf-8")
    return SimpleNamespace(manifest=MANIFEST, path=folder)


@pytest.fixture(scope="module")
def measured(sentences_folder: Path, bundle: Any) -> dict[str, Any]:
    encoders = {"shipped": Reader("de"), "english only": Reader(), "all": Reader("de", "th", dim=64)}
    asked = Compared(
        encoders,
        tokens={"shipped": tokenizer(), "english only": len},
        served={name: Timed(encoders[name], tokenizer()) for name in ("shipped", "english only")},
        bundle=bundle,
        float32=Float32("all", "12" * 32, None),
    )
    options = Options(seed=3, resamples=10, clock=timer(), now=datetime(2026, 1, 2, tzinfo=UTC))
    return evaluate(asked, sentences_folder, options)


def by_name(report: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each for each in report["encoders"]}


def test_the_report_is_plain_json_and_says_what_it_rests_on(measured: dict[str, Any]) -> None:
    json.dumps(measured, allow_nan=False)
    assert (measured["created"], measured["seed"], measured["quick"]) == ("2026-01-02", 3, False)
    assert measured["bundle"] == {"name": "made-up@1", "digest": "ab" * 32}
    assert measured["n"] == 2 * N + 70 + 36 + 30
    assert [each["name"] for each in measured["encoders"]] == ["shipped", "english only", "all"]
    assert [each["dim"] for each in measured["encoders"]] == [48, 48, 64]


def test_every_encoder_is_measured_on_its_own(measured: dict[str, Any]) -> None:
    found = by_name(measured)
    chance = 1 / N
    expected = {"shipped": (1 + chance) / 2, "english only": chance, "all": 1.0}
    for name, value in expected.items():
        assert found[name]["ntrex"]["mean"] == pytest.approx(value, abs=0.04), name
    assert found["shipped"]["ntrex"]["worst"]["language"] == "th"
    assert found["shipped"]["tatoeba"]["pools"] == [20, 50]
    assert found["shipped"]["similarity"]["english"] > 0.8
    assert found["shipped"]["similarity"]["mean_others"] is None, "Thai is one point, so that it has no correlation"
    assert found["all"]["similarity"]["mean_others"] > 0.8
    assert found["shipped"]["topics"]["mean"] == pytest.approx(0.75)
    assert found["all"]["topics"]["mean"] == 1.0


def test_a_language_the_encoder_cannot_read_has_collapsed(measured: dict[str, Any]) -> None:
    found = {name: each["geometry"]["collapsed"] for name, each in by_name(measured).items()}
    assert {reason.split(":")[0] for reason in found["shipped"]} == {"th"}
    assert {reason.split(":")[0] for reason in found["english only"]} == {"de", "th"}
    assert found["all"] == []


def test_fertility_stands_where_a_tokenizer_was_given(measured: dict[str, Any]) -> None:
    found = {name: each["fertility"] for name, each in by_name(measured).items()}
    assert found["shipped"]["mean_unknown"] == 1.0
    assert found["english only"]["mean_unknown"] is None
    assert found["all"] is None


def test_bundles_are_timed_and_only_they(measured: dict[str, Any]) -> None:
    assert [each["bundle"] for each in measured["encoders"]] == [True, True, False]
    found = measured["speed"]
    assert found["rounds"] == ROUNDS
    assert found["machine"]["cores"] >= 1
    for line in found["lines"]:
        assert [each["name"] for each in line["encoders"]] == ["shipped", "english only"]
        assert [each["ratio"]["rounds"] for each in line["encoders"]] == [[1.0] * ROUNDS] * 2
        assert line["encoders"][0]["texts_per_s"]["median"] == line["n"], "a pass takes one second"


def test_a_quick_run_is_timed_once(sentences_folder: Path) -> None:
    reader = Reader()
    asked = Compared({"a": reader}, served={"a": Timed(reader, tokenizer())})
    report = evaluate(asked, sentences_folder, Options(quick=True, resamples=2, clock=timer()))
    assert report["speed"]["rounds"] == 1


def test_the_bundles_record_of_its_training_is_in_the_report(measured: dict[str, Any]) -> None:
    assert measured["training"] == RECORD
    assert "distil, 100 steps" in page(measured)


def test_the_first_encoder_is_set_against_float32(measured: dict[str, Any]) -> None:
    assert measured["float32"] == {"name": "all", "sha256": "12" * 32, "same": None}
    row = next(row for row in page(measured).split("<tr>") if row.startswith("<td>SIB-200: accuracy, mean"))
    assert "<td>−25.0 pt</td></tr>" in row


def test_a_quick_run_is_thinned(sentences_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUICK_ROWS", 5)
    report = evaluate(Compared({"a": Reader()}), sentences_folder, Options(quick=True, resamples=2))
    assert report["n"] == (2 + 2 + 3 + 3) * 5
    assert report["quick"]
    assert (report["speed"], report["training"], report["float32"]) == (None, None, None)
    [found] = report["encoders"]
    assert found["topics"]["n_train"] == 20
    assert found["geometry"]["collapsed"] is None
    assert "too few sentences to judge" in page(report)


def test_the_page_shows_every_encoder_and_needs_nothing_from_outside(measured: dict[str, Any]) -> None:
    html = page(measured)
    top = html[: html.index("<nav>")]
    for wanted in ("2026-01-02", "seed 3", f"n = {measured['n']}", "ab" * 32, "12" * 32, "english only (d = 48)"):
        assert wanted in top
    assert not re.search(r"<(script|link|img|iframe)\b", html)
    assert html.count("<svg") == html.count("<figcaption>") == 5
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    for caption in re.findall(r"<figcaption>(.*?)</figcaption>", html):
        assert re.search(r"\bn\b", caption), caption
    assert "Smaller pools, whose figures are flattered: th 20." in html
    assert "NaN" not in html


def test_one_encoder_of_no_bundle_is_drawn_in_bars(measured: dict[str, Any]) -> None:
    alone = {"bundle": None, "float32": None, "speed": None, "training": None}
    html = page({**measured, **alone, "encoders": measured["encoders"][2:]})
    assert "of no bundle" in html
    assert "No tokenizer was given" in html


@pytest.mark.parametrize("vector", [np.eye(40)[0], np.zeros(40)])
def test_one_vector_for_all_texts_is_told_from_chance_in_nothing(sentences_folder: Path, vector: np.ndarray) -> None:
    flat = SimpleNamespace(encode=lambda texts: np.tile(vector, (len(texts), 1)))
    report = evaluate(Compared({"flat": flat}), sentences_folder, Options(resamples=2))
    [found] = report["encoders"]
    assert found["ntrex"]["mean"] == pytest.approx(1 / N)
    assert found["similarity"]["english"] is None
    assert found["topics"]["mean"] == 0.5
    assert len({reason.split(":")[0] for reason in found["geometry"]["collapsed"]}) == 3
    assert found["zero_vectors"] == (0 if vector.any() else found["texts"])
    assert "collapsed in 3 languages" in page(report)


def test_one_sentence_per_language_is_enough_to_run(tmp_path: Path) -> None:
    write(tmp_path, NTREX, ["de\ten 1\tde 1"])
    write(tmp_path, TATOEBA, ["de\ten 1\tde 1"])
    write(tmp_path, SIMILARITY, ["en\tdev\t5\ten 1\ten 2"])
    write(tmp_path, TOPICS_TRAIN, topic_lines(0, 2))
    write(tmp_path, TOPICS_DEV, topic_lines(2, 1))
    report = evaluate(Compared({"a": Reader("de")}), tmp_path, Options(resamples=2))
    [found] = report["encoders"]
    assert (found["ntrex"]["mean"], found["ntrex"]["pools"]) == (1.0, [1])
    assert found["geometry"]["mean"]["mean_cosine"] is None
    assert "pool of 1 sentence" in page(report)


def test_writing_gives_both_files(measured: dict[str, Any], tmp_path: Path) -> None:
    files = write_encoder(measured, tmp_path / "out")
    assert read_json(files.json) == measured
    assert files.html.read_text(encoding="utf-8") == page(measured)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["encoder.html", "encoder.json"]


def test_bad_arguments_are_refused(sentences_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found no file 'ntrex_dev.tsv.xz' in 'eval'; training/data/README.md"):
        evaluate(Compared({"a": Reader()}), tmp_path)
    broken = SimpleNamespace(encode=lambda texts: np.full((len(texts), 4), np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match="vectors of bad: found .* that are not finite"):
        evaluate(Compared({"bad": broken}), sentences_folder)


def test_the_command_measures_and_writes(
    sentences_folder: Path, bundle: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def load(bundles: Sequence[Path | None], *, paths: Path | None) -> Compared:
        asked.extend([*bundles, paths])
        return Compared({"shipped": Reader("de")}, tokens={"shipped": tokenizer()}, bundle=bundle)

    monkeypatch.setattr(compared, "load_compared", load)
    arguments = ["--data", str(sentences_folder), "--out", str(tmp_path), "--beside", "other", "--resamples", "2"]
    result = CliRunner().invoke(app, ["encoder", *arguments, "--paths", "float32"])
    assert result.exit_code == 0, result.output
    assert "encoder.html" in result.output
    assert read_json(tmp_path / "encoder.json")["bundle"]["name"] == "made-up@1"
    assert asked == [None, Path("other"), Path("float32")]


def test_the_command_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WARDLINE_DATA", raising=False)
    result = CliRunner().invoke(app, ["encoder"])
    assert (result.exit_code, "WARDLINE_DATA" in result.output) == (2, True)
    result = CliRunner().invoke(app, ["encoder", "--data", str(tmp_path), "--bundle", str(tmp_path / "none")])
    assert (result.exit_code, "no model bundle" in result.output) == (2, True)


def test_the_readme_gets_every_line_of_the_summary(measured: dict[str, Any]) -> None:
    text = encoder_results(measured)
    assert text.startswith("Bundle `made-up@1` (sha256 `abababababab`)")
    table = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in table[0]] == ["Measured", "shipped", "english only", "all"]
    assert [row[0].strip() for row in table[2:]] == [line.title for line in LINES]
    assert {len(row) for row in table} == {4}
