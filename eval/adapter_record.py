"""What a bundle says about its adapters and heads: how they fit, and how each region's does beside its parent."""

from __future__ import annotations

from typing import Any

from eval.document import read_json
from retrieval_shared.bundle import CONFIG, Bundle


def adapter_record(bundle: Bundle) -> dict[str, Any]:
    """Return `fit` (head -> figures of each side), `regions` (slot -> figures) and `parity`; empty where not recorded.

    Raises:
        ValueError: one of them is not a JSON object.
    """
    record = read_json(bundle.file(CONFIG))
    found: dict[str, Any] = {}
    for name in ("fit", "regions", "parity"):
        found[name] = record.get(name, {})
        if not isinstance(found[name], dict):
            raise ValueError(f"{name}: found a {type(found[name]).__name__} in {CONFIG}, expected an object")
    return found
