"""The item: one ad, listing or post, and how it is read from what a caller sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime

from moderation.decision import Context, Decision, ItemError
from moderation.regions import check_region
from retrieval_shared.text import FIELD_ORDER


@dataclass(frozen=True)
class Item:
    """One ad, listing or post."""

    id: str
    fields: Mapping[str, str]
    """Field name -> text; `title`, `body`, `cta`, `landing_text`, or `text` alone."""
    regions: tuple[str, ...] = ()
    """Target regions, ISO 3166-1 alpha-2 or 3166-2."""
    language: str | None = None
    """Language the caller knows the text to be in; None lets it be identified."""
    context: Context = field(default_factory=Context)


def read_item(raw: Item | Mapping[str, object], *, default_id: str, regions: tuple[str, ...]) -> Item | Decision:
    """Return the item `raw` describes, or the error decision that says why it is none."""
    if isinstance(raw, Item):
        item = raw if raw.regions else replace(raw, regions=regions)
    elif not isinstance(raw, Mapping):
        return _error(default_id, "invalid_item", f"found {type(raw).__name__}, expected a mapping")
    else:
        given = raw.get("fields")
        source = raw if given is None else given
        if not isinstance(source, Mapping):
            return _error(
                str(raw.get("id", default_id)), "invalid_item", "fields: expected a mapping of names to texts"
            )
        names = source if given is not None else [n for n in FIELD_ORDER if n in raw]
        texts = {str(name): source[name] for name in names if source[name] is not None}
        wrong = [name for name, value in texts.items() if not isinstance(value, str)]
        own = raw.get("regions")
        if wrong or not (own is None or isinstance(own, Sequence)) or isinstance(own, str):
            bad = f"field {wrong[0]!r}" if wrong else "regions"
            return _error(str(raw.get("id", default_id)), "invalid_item", f"{bad}: expected text, or a list of regions")
        try:
            context = _read_context(raw.get("context"))
        except (ValueError, TypeError) as wrong_context:
            return _error(str(raw.get("id", default_id)), "invalid_item", f"context: {wrong_context}")
        language = raw.get("language")
        item = Item(
            id=str(raw.get("id", default_id)),
            fields={name: str(value) for name, value in texts.items()},
            regions=tuple(str(region) for region in own) if own else regions,
            language=language if isinstance(language, str) else None,
            context=context,
        )
    return item if (error := _fault(item)) is None else _error(item.id, *error)


def _read_context(given: object) -> Context:
    """Return the context a caller gave: none, one, or a mapping with the names of its fields."""
    if given is None or isinstance(given, Context):
        return given or Context()
    if not isinstance(given, Mapping):
        raise ValueError(f"found {type(given).__name__}, expected a mapping")
    allowed = {each.name for each in fields(Context)}
    unknown = sorted(str(name) for name in given if name not in allowed)
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}, allowed: {', '.join(sorted(allowed))}")
    for name in ("certificates", "disclosures"):
        if isinstance(given.get(name), str):
            raise ValueError(f"{name}: found {given[name]!r}, expected a list")
    told = {name: frozenset(map(str, given[name])) for name in ("certificates", "disclosures") if given.get(name)}
    at = given.get("scheduled_at")
    when = datetime.fromisoformat(at) if isinstance(at, str) else at
    return Context(**{**given, "certificates": frozenset(), **told, "scheduled_at": when})


def _fault(item: Item) -> tuple[str, str] | None:
    if not any(text.strip() for text in item.fields.values()):
        return "empty_text", "the item has no text in any field"
    if not item.regions:
        return "no_region", "the item names no target region and the call names none"
    for region in item.regions:
        try:
            check_region(region)
        except ValueError as error:
            return "unknown_region", str(error)
    return None


def _error(item_id: str, code: str, message: str) -> Decision:
    return Decision(
        id=item_id,
        status="error",
        error=ItemError(code=code, message=message),
        language=None,
        decisions=(),
        probabilities={},
        obfuscation=None,
        versions={},
    )
