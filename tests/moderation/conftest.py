"""A whole API over made-up scores: real policies, real queue, real database, no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray

from moderation.api import ModerationApi
from moderation.decision import Decision, decide
from moderation.item import Item
from moderation.pipeline import Moderated
from moderation.policy import Policy
from moderation.policy_document import load_policy
from moderation.review.store import Store
from moderation.service import build_app
from moderation.settings import Settings
from moderation.signal_sources import NO_SOURCES, SignalSources
from moderation.thresholds import HeadThreshold, Thresholds
from retrieval_shared.bundle import Bundle, Manifest, Probe
from retrieval_shared.language import Language

POLICY = load_policy("ads-default")
AT = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
HEADS = tuple(head.name for head in POLICY.heads)


class MadeUpScores:
    """Decides with the real policy: a head named in the text has 0.99, any other 0.01."""

    heads = HEADS
    policy: Policy = POLICY
    thresholds = Thresholds.of(
        prevalence=0.02, heads={head: HeadThreshold(0.3, 0.6, "made up", 900, 900) for head in HEADS}
    )
    bundle = Bundle(
        Path("nowhere"),
        Manifest("tiny", "1", HEADS, ("base",), ("en",), 256, {}, Probe("probe", dict.fromkeys(HEADS, 0.01))),
    )

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        scores = [[0.99 if head in text else 0.01 for head in HEADS] for text in texts]
        return np.array(scores, dtype=np.float32).reshape(len(texts), len(HEADS))

    def language(self, text: str) -> Language:
        return Language("en" if any(map(str.isalpha, text)) else "und", 1.0, True)

    def moderate_and_count(
        self, items: Sequence[Item], *, explain: bool, policy: Policy | None = None, sources: SignalSources = NO_SOURCES
    ) -> Moderated:
        assert isinstance(explain, bool)
        assert isinstance(sources, SignalSources)
        return Moderated([self._decide(item, policy or POLICY) for item in items], len(items))

    def _decide(self, item: Item, policy: Policy) -> Decision:
        [row] = self.probabilities([" ".join(item.fields.values())]).tolist()
        scores = dict(zip(HEADS, row, strict=True))
        regions = [
            decide(scores, region=region, policy=policy, thresholds=self.thresholds, context=item.context, at=AT)
            for region in item.regions
        ]
        return Decision(
            id=item.id,
            status="ok",
            error=None,
            language=Language("en", 1.0, True),
            decisions=tuple(regions),
            probabilities=scores,
            obfuscation=None,
            versions={"policy_set": policy.ref, "thresholds": self.thresholds.id},
        )


@pytest.fixture(scope="module")
def made_up_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModerationApi]:
    """An API with a database of its own."""
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('database') / 'wardline.db'}")
    api = ModerationApi.over(MadeUpScores(), store, Settings())  # type: ignore[arg-type]  # all that it asks of one
    yield api
    api.close()
    store.close()


@pytest.fixture(scope="module")
def made_up_client(made_up_api: ModerationApi) -> Iterator[TestClient]:
    """A client of it on this machine."""
    app = build_app(lambda: made_up_api)
    with TestClient(
        app, base_url="http://localhost", client=("127.0.0.1", 1), raise_server_exceptions=False
    ) as connected:
        yield connected
