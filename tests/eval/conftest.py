"""A made-up data folder, a model that reads keywords, and the report of the one on the other."""

from __future__ import annotations

import json
import lzma
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eval.moderation import DECIDED_AT, Options, evaluate
from moderation.decision import Context, Evidence, decide, with_evidence
from moderation.policy_document import load_policy
from moderation.thresholds import HeadThreshold, Thresholds

POLICY = load_policy("ads-default")
HEADS = tuple(head.name for head in POLICY.heads)
AD_HEADS = tuple(head for head in HEADS if head != "toxic")
KEYWORDS = {head: head.replace("_", " ") for head in HEADS}
FUNCTIONS = {"derog_neg_emote_h": 1, "counter_quote_nh": 0}


@dataclass
class KeywordModerator:
    """A stand-in of `moderation.Moderator`: a head is .9 where its keyword stands, else a small number."""

    bundle: Any
    calls: int = 0
    name: str = "keywords"

    heads = HEADS
    policy = POLICY

    @property
    def classifier(self) -> KeywordModerator:
        """Return itself: it undoes nothing."""
        return self

    @property
    def thresholds(self) -> Thresholds:
        """Return one pair of thresholds for all heads."""
        cut = HeadThreshold(escalate=0.5, act=0.8, basis="made up", positives=1, negatives=1)
        return Thresholds.of(prevalence=0.02, heads=dict.fromkeys(HEADS, cut))

    @property
    def versions(self) -> dict[str, str]:
        """Return a version."""
        return {"heads": self.name, "policy_set": self.policy.ref}

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Return [n, H]."""
        self.calls += len(texts)
        rows = [
            [
                0.9 if KEYWORDS[head] in text.lower() else zlib.crc32(f"{head}{text}".encode()) % 100 / 400
                for head in HEADS
            ]
            for text in texts
        ]
        return np.array(rows, dtype=np.float32).reshape(len(texts), len(HEADS))

    def moderate(self, items: Sequence[Any]) -> list[Any]:
        """Return decisions with the keyword as evidence."""
        return [self._moderate(item) for item in items]

    def _moderate(self, item: Any) -> Any:  # noqa: ANN401 - an item mapping in, a decision's stand-in out
        text = "\n".join(item["fields"].values())
        probabilities = dict(zip(HEADS, self.probabilities([text])[0].tolist(), strict=True))
        evidence = {
            head: [Evidence(field, start, start + len(word), word, 1.0, "model")]
            for head, word in KEYWORDS.items()
            for field, value in item["fields"].items()
            if (start := value.lower().find(word)) >= 0
        }
        parts = [
            decide(
                probabilities,
                region=region,
                policy=POLICY,
                thresholds=self.thresholds,
                context=Context(),
                at=DECIDED_AT,
            )
            for region in item["regions"]
        ]
        return SimpleNamespace(status="ok", decisions=tuple(with_evidence(part, evidence) for part in parts))


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write JSON lines, compressed where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(lzma.compress(text) if path.suffix == ".xz" else text)


def public_rows(seed: int, n: int = 160) -> list[dict[str, Any]]:
    """Rows of three sources: two label four heads between them, one knows positives of `drugs` only."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        source, heads = [("posts", ("hate", "toxic")), ("texts", ("clickbait", "spam_scam")), ("shop", ("drugs",))][
            i % 3
        ]
        labels = {head: int(source == "shop" or rng.random() < 0.4) for head in heads}
        words = [
            {"clickbait": "sensational", "spam_scam": "scam"}.get(head, head) for head, value in labels.items() if value
        ]
        rows.append({
            "id": f"r{i}", "text": f"{' '.join(words)} text {i} {rng.integers(1000)}", "lang": ("en", "de")[i // 3 % 2],
            "region": "US" if i % 2 else None, "source": source, "licence": "open", "kind": "post", "labels": labels,
            "group": f"g{i // 2}",
        })  # fmt: skip
    return rows


def ad_rows() -> list[dict[str, Any]]:
    """Two ads per head that name it, and benign ones; one benign ad is flagged."""
    rows = []
    for i, head in enumerate((*AD_HEADS, *AD_HEADS)):
        labels = {name: int(name == head) for name in AD_HEADS}
        rows.append(
            {"title": f"Offer {i}", "body": f"all about {KEYWORDS[head]} here", "labels": labels, "kind": "positive"}
        )
    for i in range(10):
        body = "nothing but gambling help" if i == 0 else f"garden chairs number {i}"
        kind = "hard_negative" if i < 5 else "clean"
        rows.append({"title": "Offer", "body": body, "labels": dict.fromkeys(AD_HEADS, 0), "kind": kind})
    return [
        {
            "id": f"ad{i}",
            "cta": "Buy",
            "landing_text": None,
            "lang": ("en", "de", "tr")[i % 3],
            "regions": ["DE", "US"],
            **row,
        }
        for i, row in enumerate(rows)
    ]


def suite_rows(lang: str) -> list[dict[str, Any]]:
    """Functional cases of hate in one language."""
    return [
        {"id": f"{lang}{i}", "text": f"{'hate' if label else 'kind'} {lang} {i}", "lang": lang, "source": "made_up",
         "labels": {"hate": label}, "meta": {"func": function, "target": "nobody"}}
        for i in range(4) for function, label in FUNCTIONS.items()
    ]  # fmt: skip


def rtplx_rows() -> list[dict[str, Any]]:
    """Prompts in three locales; English has no Azure scores, Swahili no labels of hate."""
    rows = []
    for lang in ("en", "de", "sw"):
        for i in range(24):
            labels = {
                head: int(i % 4 == 0) for head in ("hate", "sexual", "violence", "self_harm", "harassment", "toxic")
            }
            if lang == "sw":
                del labels["hate"]
            acs = {"IdentityAttack": i / 24, "SexualContent": 1 - i % 4 / 4, "Violence": 0.5, "SelfHarm": 0.1}
            meta = {"idx": str(i), **({} if lang == "en" else {"acs": acs})}
            text = f"secret-prompt {lang} {i} {'hate sexual violence' if i % 4 == 0 else ''}"
            rows.append(
                {"id": f"{lang}{i}", "text": text, "lang": lang, "source": "made_up", "labels": labels, "meta": meta}
            )
    return rows


@pytest.fixture(scope="session")
def made_up_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of the usual layout with a few made-up rows per file."""
    folder = tmp_path_factory.mktemp("data")
    suites = folder / "moderation" / "eval"
    write_rows(folder / "moderation" / "train.jsonl.xz", public_rows(1, n=240))
    write_rows(folder / "moderation" / "dev.jsonl.xz", public_rows(2))
    write_rows(folder / "moderation" / "ads" / "ads_dev.jsonl", ad_rows())
    write_rows(suites / "hatecheck.jsonl.xz", suite_rows("en"))
    write_rows(suites / "hatemojicheck.jsonl.xz", suite_rows("en"))
    write_rows(suites / "multilingual_hatecheck.jsonl.xz", [*suite_rows("de"), *suite_rows("fr")])
    safe = [{"id": f"x{i}", "text": f"how to {'violence' if i == 1 else 'kill'} {i}", "lang": "en", "source": "made_up",
             "labels": {"unsafe": int(i > 5)}, "meta": {"type": "homonyms"}} for i in range(9)]  # fmt: skip
    write_rows(suites / "xstest.jsonl.xz", safe)
    write_rows(suites / "rtplx_prompts.jsonl.xz", rtplx_rows())
    return folder


def bundle(folder: Path, *, name: str, without: Sequence[str] = ()) -> Any:  # noqa: ANN401 - a stand-in of Bundle
    """Return a stand-in of a bundle: a name, a digest and the training configuration."""
    folder.mkdir(exist_ok=True)
    config = {"data": {"licences": ["open"], "also_sources": [], "without_sources": list(without), "ads": ""}}
    (folder / "training.json").write_text(json.dumps(config), encoding="utf-8")
    manifest = SimpleNamespace(name=name, version="1", digest=f"{zlib.crc32(name.encode()):064x}")
    return SimpleNamespace(manifest=manifest, file=lambda file: folder / file)


@pytest.fixture(scope="session")
def keyword_moderator(tmp_path_factory: pytest.TempPathFactory) -> KeywordModerator:
    """A moderator that says it never saw the RTP-LX rows."""
    without = ("rtplx_prompts", "rtplx_completions", "rtplx_benign")
    return KeywordModerator(bundle(tmp_path_factory.mktemp("first"), name="first", without=without))


@pytest.fixture(scope="session")
def seen_moderator(tmp_path_factory: pytest.TempPathFactory) -> KeywordModerator:
    """A moderator that says it saw them."""
    return KeywordModerator(bundle(tmp_path_factory.mktemp("second"), name="second"), name="seen")


@pytest.fixture(scope="session")
def report(made_up_data: Path, keyword_moderator: KeywordModerator, seen_moderator: KeywordModerator) -> dict[str, Any]:
    """The report of the keyword moderator on the made-up data."""
    none = made_up_data / "balance.json"
    options = Options(seed=3, resamples=20, balance=none, now=datetime(2026, 1, 2, tzinfo=UTC))
    return evaluate(keyword_moderator, made_up_data, second=seen_moderator, wider=seen_moderator, options=options)
