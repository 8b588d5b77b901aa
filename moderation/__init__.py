"""Moderation: which policies an ad violates and what each region's policy does about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moderation.pipeline import Moderator

__all__ = ["Moderator"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute may be anything
    """Return a public name, imported on first use so that `import moderation` stays light."""
    if name == "Moderator":
        from moderation.pipeline import Moderator

        return Moderator
    raise AttributeError(f"module 'moderation' has no attribute {name!r}")
