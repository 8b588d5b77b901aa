"""Which of Perspective's attributes can be scored in a comment's languages, and how their tags are read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from moderation.compat.perspective import AnalyzeRequest, RequestedAttribute, determined
from moderation.compat.perspective_error import ErrorType, PerspectiveError, invalid
from moderation.compat.protojson import shown


def language_code(tag: str) -> str:
    """Return the code by which a tag is judged, its first part: `en` of `en-GB` and of `EN_us`, `hi` of `hi-Latn`."""
    return tag.replace("_", "-").partition("-")[0].lower()


def with_supported_attributes(
    request: AnalyzeRequest, *, detected: Sequence[str], supported: Mapping[str, Collection[str]]
) -> AnalyzeRequest:
    """Return the request with the attributes that can be scored in its languages.

    A tag is judged by its first part (`language_code`).

    Args:
        request: its languages count; where it names none, the detected ones do.
        detected: tags of the languages found, the likeliest first.
        supported: attribute -> lower-case codes of the languages it can be scored in; an attribute that is not in it
            can be scored in none.

    Raises:
        PerspectiveError: no language is known, or an attribute does not know one of them and
            `request.drop_unsupported` is not set.
    """
    languages = request.languages or determined(detected)
    if not languages:
        raise invalid(ErrorType.LANGUAGE_DETECTION_FAILED, "Unable to detect language")
    kept: list[RequestedAttribute] = []
    for each in request.attributes:
        codes = supported.get(each.attribute, ())
        missing = [tag for tag in languages if language_code(tag) not in codes]
        if not missing:
            kept.append(each)
        elif not request.drop_unsupported:
            raise _unsupported(each.name, missing, requested=bool(request.languages))
    return replace(request, attributes=tuple(kept))


def _unsupported(name: str, missing: Sequence[str], *, requested: bool) -> PerspectiveError:
    tags = [shown(tag) for tag in missing]
    more = {"requestedLanguages" if requested else "detectedLanguages": tags, "attribute": name}
    return invalid(
        ErrorType.LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE,
        f"Attribute {name} does not support request languages: {', '.join(tags)}",
        languageNotSupportedByAttributeError=more,
    )
