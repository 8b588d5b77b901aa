"""Text in, vectors out: normalisation, the shared encoder, bundles, records. Knows neither moderation nor taxonomy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrieval_shared.encoder import Encoder

__all__ = ["Encoder"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute may be anything
    """Return a public name, imported on first use so that `import retrieval_shared` stays light."""
    if name == "Encoder":
        from retrieval_shared.encoder import Encoder

        return Encoder
    raise AttributeError(f"module 'retrieval_shared' has no attribute {name!r}")
