"""Languages: tags as they are written, what an attribute knows, and what is left out on request."""

from __future__ import annotations

from typing import Any

import pytest

from moderation.compat.perspective import AnalyzeRequest, RequestedAttribute, render_analyze
from moderation.compat.perspective_error import PerspectiveError
from moderation.compat.perspective_languages import language_code, with_supported_attributes

ERROR = "type.googleapis.com/google.commentanalyzer.v1alpha1.Error"
SUPPORTED = {"TOXICITY": {"en", "de", "fr"}, "INSULT": {"en"}}


@pytest.mark.parametrize(
    ("tag", "code"),
    [("en", "en"), ("EN", "en"), ("en-GB", "en"), ("en_US", "en"), ("hi-Latn", "hi"), ("zh_Hant-TW", "zh")],
)
def test_a_tag_is_judged_by_its_first_part(tag: str, code: str) -> None:
    assert language_code(tag) == code


def asked(*names: str, **more: Any) -> AnalyzeRequest:
    return AnalyzeRequest("hi", tuple(RequestedAttribute(name, name) for name in names), **more)


@pytest.mark.parametrize(
    ("requested", "detected"), [(("EN",), ["xx"]), (("en-GB",), []), ((), ["en"]), (("en_us", "de"), []), ((), ["fr"])]
)
def test_a_language_known_to_the_attribute(requested: tuple[str, ...], detected: list[str]) -> None:
    request = asked("TOXICITY", languages=requested)
    assert with_supported_attributes(request, detected=detected, supported=SUPPORTED) == request


@pytest.mark.parametrize(
    ("request_", "detected", "attribute", "languages", "named"),
    [
        (asked("TOXICITY", "INSULT"), ["de"], "INSULT", ["de"], "detectedLanguages"),
        (asked("TOXICITY", languages=("en", "xx", "yy")), ["en"], "TOXICITY", ["xx", "yy"], "requestedLanguages"),
        (asked("THREAT", languages=("en",)), ["en"], "THREAT", ["en"], "requestedLanguages"),
    ],
)
def test_a_language_not_known(
    request_: AnalyzeRequest, detected: list[str], attribute: str, languages: list[str], named: str
) -> None:
    with pytest.raises(PerspectiveError) as caught:
        with_supported_attributes(request_, detected=detected, supported=SUPPORTED)
    error = caught.value.document()["error"]
    assert error["message"] == f"Attribute {attribute} does not support request languages: {', '.join(languages)}"
    assert error["details"] == [
        {
            "@type": ERROR,
            "errorType": "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE",
            "languageNotSupportedByAttributeError": {named: languages, "attribute": attribute},
        }
    ]


def test_unsupported_attributes_are_dropped_on_request() -> None:
    request = asked("TOXICITY", "INSULT", drop_unsupported=True)
    kept = with_supported_attributes(request, detected=["de"], supported=SUPPORTED)
    assert [each.name for each in kept.attributes] == ["TOXICITY"]
    none = with_supported_attributes(request, detected=["xx"], supported=SUPPORTED)
    assert render_analyze(none, {}, (), ["xx"]) == {"languages": ["xx"], "detectedLanguages": ["xx"]}


@pytest.mark.parametrize("detected", [[], ["und"]])
def test_a_text_without_a_language(detected: list[str]) -> None:
    with pytest.raises(PerspectiveError, match="Unable to detect language") as caught:
        with_supported_attributes(asked("TOXICITY"), detected=detected, supported=SUPPORTED)
    assert caught.value.details[0]["errorType"] == "LANGUAGE_DETECTION_FAILED"
