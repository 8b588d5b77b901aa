"""Our own classes measured in process: the same ads without HTTP, and the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.bench.request import REGION, single_bodies
from eval.peers.measure import Figures, Job, Stack, measure_stack, run, time_calls
from moderation import Moderator

if TYPE_CHECKING:
    from moderation.decision import Decision

PACKAGES = ("onnxruntime", "tokenizers", "numpy", "bentoml", "fastapi", "sqlalchemy")


def measure(job: Job) -> Figures:
    """Return the figures of `Moderator`, with evidence too (`spans_ms`), and of the API behind HTTP (`answer_ms`)."""
    moderator = Moderator.load(job["bundle"])
    stack = Stack(one=lambda text: _moderate(moderator, text), many=moderator.probabilities, packages=PACKAGES)
    return {
        **measure_stack(stack, job),
        "spans_ms": time_calls(
            lambda text: _moderate(moderator, text, explain=True), job["ads"], calls=job["explained"]
        ),
        "answer_ms": _answer_ms(moderator, job),
        "flagged": [any(region.entries for region in _moderate(moderator, ad)[0].decisions) for ad in job["ads"]],
        "bundle_versions": moderator.versions,
    }


def _moderate(moderator: Moderator, text: str, *, explain: bool = False) -> list[Decision]:
    return moderator.moderate([{"id": "bench", "text": text}], regions=[REGION], explain=explain)


def _answer_ms(moderator: Moderator, job: Job) -> list[float]:
    # Imported after the rest is measured: who uses the classes alone carries neither FastAPI nor a database.
    from moderation.api import ModerationApi
    from moderation.review.store import Store
    from moderation.settings import Settings

    store = Store(job["database"])
    api = ModerationApi.over(moderator, store, Settings())
    bodies = single_bodies(job["ads"], n=job["requests"], explain="none", run="a")
    try:
        return time_calls(lambda body: api.answer(body).model_dump_json(), bodies, calls=len(bodies))
    finally:
        api.close()
        store.close()


if __name__ == "__main__":
    run(measure)
