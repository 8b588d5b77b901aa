"""The request: what is refused as a whole, what only as an item, and what reaches the pipeline."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from moderation.decision import Context
from moderation.item import Item
from moderation.problem import Problem
from moderation.schema import MAX_FIELD_CHARACTERS, MAX_ITEMS, Batch, Entrant, parse_item, parse_request, request_schema


def ad(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values of any kind
    """A valid item, with changes."""
    return {"id": "ad-1", "fields": {"title": "Red shoes"}, "regions": ["DE"], **changes}


def batch(**changes: Any) -> Batch:  # noqa: ANN401 - JSON values of any kind
    """The batch of a valid request, with changes."""
    return parse_request(json.dumps({"items": [ad()], **changes}).encode())


def refusal(body: bytes | dict[str, Any]) -> Problem:
    """The problem that a body is refused with."""
    with pytest.raises(Problem) as error:
        parse_request(body if isinstance(body, bytes) else json.dumps(body).encode())
    return error.value


def fault(raw: object) -> tuple[str, str]:
    """The error code and message of an item."""
    error = parse_item(raw).error
    assert error is not None
    return error.code, error.message


def text_of(entrant: Entrant) -> dict[str, str]:
    """The fields of an item that was accepted."""
    assert entrant.item is not None
    return dict(entrant.item.fields)


def test_a_full_request_reaches_the_pipeline_unchanged() -> None:
    """Every documented member is read; the defaults are spans in code points."""
    item = ad(
        fields={"landing_text": "d", "title": "a", "body": "b", "cta": "c"},
        regions=["DE", "IN-GJ"],
        language="pt-BR",
        context={
            "min_age": 18,
            "advertiser_id": "a9",
            "certificates": ["gambling:DE"],
            "scheduled_at": "2026-12-01T00:00:00Z",
        },
    )
    got = batch(items=[item], policy_set="ads-default@1")
    assert (got.policy_set, got.explain, got.offset_unit) == ("ads-default@1", True, "codepoint")
    assert got.entrants == (
        Entrant(
            id="ad-1",
            item=Item(
                id="ad-1",
                fields={"title": "a", "body": "b", "cta": "c", "landing_text": "d"},
                regions=("DE", "IN-GJ"),
                language="pt-BR",
                context=Context(
                    min_age=18,
                    advertiser_id="a9",
                    certificates=frozenset({"gambling:DE"}),
                    scheduled_at=datetime(2026, 12, 1, tzinfo=UTC),
                ),
            ),
            error=None,
        ),
    )


def test_null_is_the_same_as_leaving_out() -> None:
    """Clients that write every member do not need to drop the empty ones."""
    nulls = {"min_age": None, "advertiser_id": None, "scheduled_at": None}
    full = parse_item(ad(fields={"title": "Red shoes", "cta": None}, language=None, context=nulls))
    assert full == parse_item(ad(context=None)) == parse_item(ad())


@pytest.mark.parametrize("unit", ["codepoint", "utf16", "byte"])
def test_the_offset_unit_and_explain_are_read(unit: str) -> None:
    """The three units, and no spans."""
    got = batch(offset_unit=unit, explain="none")
    assert (got.offset_unit, got.explain) == (unit, False)


def test_a_bad_item_never_fails_its_neighbours() -> None:
    """Each entry is answered in its place, whatever the others are."""
    got = batch(items=[ad(id="a"), 7, ad(id="b", regions=["XX"]), None, [], ad(id="c"), {}])
    assert [entrant.id for entrant in got.entrants] == ["a", None, "b", None, None, "c", None]
    codes = [entrant.error.code if entrant.error else "ok" for entrant in got.entrants]
    assert codes == ["ok", "invalid_item", "unknown_region", "invalid_item", "invalid_item", "ok", "invalid_id"]


def test_of_equal_ids_the_first_is_decided_and_the_others_get_an_error() -> None:
    """Both are answered; an item that was itself faulty still takes its id."""
    got = batch(items=[ad(), ad(), ad(id="b"), ad(id="c", regions=[]), ad(id="c")])
    codes = [entrant.error.code if entrant.error else "ok" for entrant in got.entrants]
    assert codes == ["ok", "duplicate_id", "ok", "invalid_regions", "duplicate_id"]
    assert [entrant.id for entrant in got.entrants] == ["ad-1", "ad-1", "b", "c", "c"]


@pytest.mark.parametrize(
    ("raw", "code", "place"),
    [
        (ad(fields={}), "empty_text", "fields"),
        (ad(fields={"title": "", "body": " \n\t\u3000"}), "empty_text", "fields"),
        (ad(fields={"title": "x" * (MAX_FIELD_CHARACTERS + 1)}), "field_too_long", "fields.title"),
        (ad(fields={"title": "x" * 1_000_000}), "field_too_long", "fields.title"),
        (ad(fields={"title": 5}), "invalid_fields", "fields.title"),
        (ad(fields="Red shoes"), "invalid_fields", "fields"),
        (ad(fields={"headline": "x"}), "unknown_field", "fields.headline"),
        (ad(price=5), "unknown_field", "price"),
        (ad(context={"age": 5}), "unknown_field", "context.age"),
        (ad(regions=["XX"]), "unknown_region", "regions.0"),
        (ad(regions=["DE", "de"]), "unknown_region", "regions.1"),
        (ad(regions=["DE", ""]), "unknown_region", "regions.1"),
        (ad(regions=[None]), "invalid_regions", "regions.0"),
        (ad(regions="DE"), "invalid_regions", "regions"),
        (ad(regions=[]), "invalid_regions", "regions"),
        (ad(regions=["DE"] * 301), "invalid_regions", "regions"),
        (ad(id=""), "invalid_id", "id"),
        (ad(id=5), "invalid_id", "id"),
        (ad(id="x" * 257), "invalid_id", "id"),
        (ad(id="a\x00b"), "invalid_id", "id"),
        (ad(id="a\ud800"), "invalid_id", "id"),
        (ad(language="german language"), "invalid_language", "language"),
        (ad(language=5), "invalid_language", "language"),
        (ad(context=[]), "invalid_context", "context"),
        (ad(context={"min_age": True}), "invalid_context", "context.min_age"),
        (ad(context={"min_age": "18"}), "invalid_context", "context.min_age"),
        (ad(context={"min_age": 18.5}), "invalid_context", "context.min_age"),
        (ad(context={"min_age": 121}), "invalid_context", "context.min_age"),
        (ad(context={"certificates": ["gambling"]}), "invalid_context", "context.certificates.0"),
        (ad(context={"certificates": ["gambling:XX"]}), "invalid_context", "context.certificates.0"),
        (ad(context={"scheduled_at": 1796083200}), "invalid_context", "context.scheduled_at"),
        (ad(context={"scheduled_at": "2026-12-01T00:00:00"}), "invalid_context", "context.scheduled_at"),
        (ad(context={"scheduled_at": "soon"}), "invalid_context", "context.scheduled_at"),
        (ad(context={"scheduled_at": "0001-01-01T00:00:00+14:00"}), "invalid_context", "context.scheduled_at"),
    ],
)
def test_each_fault_of_an_item_has_its_code_and_says_where(raw: object, code: str, place: str) -> None:
    """The message begins with the path to the fault."""
    found, message = fault(raw)
    assert found == code
    assert message.startswith(f"{place}: ")


def test_a_missing_member_is_named() -> None:
    """Id, fields and regions are needed."""
    for name in ("id", "fields", "regions"):
        raw = ad()
        del raw[name]
        assert fault(raw) == (f"invalid_{name}", f"{name}: Field required")


def test_a_message_is_short_and_can_be_sent() -> None:
    """A sender's own key in a message is cut; half a surrogate pair in it does not break the answer."""
    code, message = fault(ad(**{"x" * 10_000: 1}))
    assert (code, len(message) < 200) == ("unknown_field", True)
    for raw in (ad(**{"\ud800": 1}), ad(fields={"\ud800": "x"})):
        code, message = fault(raw)
        assert code in {"invalid_item", "invalid_fields", "unknown_field"}
        message.encode()
    refusal(b'{"items": [1], "\\ud800": 1}').detail.encode()


def test_a_region_named_twice_is_answered_once() -> None:
    """The order is that of first mention."""
    item = parse_item(ad(regions=["FR", "DE", "FR"])).item
    assert item is not None
    assert item.regions == ("FR", "DE")


@pytest.mark.parametrize(
    "text", ["\U0001f600\U0001f44d\U0001f3fd 50%", "\u05e9\u05dc\u05d5\u05dd \u202eabc", "a\x00b", "e\u0301"]
)
def test_emoji_right_to_left_and_nul_come_through_as_they_are(text: str) -> None:
    """Nothing in an ad's text is refused or changed that can be sent as UTF-8."""
    assert text_of(parse_item(ad(fields={"title": text}))) == {"title": text}


def test_a_lone_surrogate_in_a_text_is_replaced_one_for_one() -> None:
    """So the text can be stored and sent back, and every offset stays; a whole pair is one emoji."""
    body = b'{"items": [{"id": "a", "fields": {"title": "x\\ud83dy \\ud83d\\ude00"}, "regions": ["DE"]}]}'
    assert text_of(parse_request(body).entrants[0]) == {"title": "x\ufffdy \U0001f600"}


def test_exactly_the_longest_field_and_batch_are_taken() -> None:
    """Limits are inclusive and count code points, not bytes."""
    longest = "\U0001f600" * MAX_FIELD_CHARACTERS
    assert text_of(parse_item(ad(fields={"body": longest}))) == {"body": longest}
    assert len(batch(items=[ad(id=str(i)) for i in range(MAX_ITEMS)]).entrants) == MAX_ITEMS


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"items=1", "invalid_json"),
        (b'\xef\xbb\xbf{"items": []}', "invalid_json"),
        (b'{"items": NaN}', "invalid_json"),
        (b'{"items": [{"context": {"min_age": Infinity}}]}', "invalid_json"),
        (b'{"items": [], "items": [1]}', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"items": ' + b"1" * 5_000 + b"}", "invalid_json"),
        (b'{"items": "\xff"}', "invalid_encoding"),
        (b'{"items": "\xed\xa0\x80"}', "invalid_encoding"),
        ("{}".encode("utf-16"), "invalid_encoding"),
        (b"[]", "invalid_request"),
        (b"null", "invalid_request"),
        (b'"items"', "invalid_request"),
        (b"{}", "empty_batch"),
        (b'{"items": []}', "empty_batch"),
        (b'{"items": {}}', "invalid_request"),
        (b'{"items": null}', "invalid_request"),
        (json.dumps({"items": [1] * (MAX_ITEMS + 1)}).encode(), "too_many_items"),
        (b'{"items": [1], "model": "x"}', "unknown_field"),
        (b'{"items": [1], "explain": "yes"}', "invalid_request"),
        (b'{"items": [1], "explain": true}', "invalid_request"),
        (b'{"items": [1], "offset_unit": "utf8"}', "invalid_request"),
        (b'{"items": [1], "policy_set": 1}', "invalid_request"),
    ],
)
def test_each_fault_of_the_whole_has_its_code(body: bytes, code: str) -> None:
    """Nothing of such a request is decided."""
    assert refusal(body).code == code


def test_a_problem_says_what_was_wrong() -> None:
    """The detail names the place and the allowed values."""
    assert refusal({"items": [1], "explain": "yes"}).detail == "explain: Input should be 'none' or 'spans'"
    assert "NaN is not a JSON number" in refusal(b'{"items": NaN}').detail
    assert refusal(b'{"a": 1, "a": 1}').detail == "the body cannot be read: An object has the same key twice"
    assert refusal(b'{"items": "\xff"}').detail == "the body cannot be read: Byte 11 is not UTF-8"
    assert refusal({"items": []}).detail == "items must hold 1 to 256 ads; found none"


def test_the_published_schema_refers_to_nothing_outside_itself() -> None:
    """It is placed inside an OpenAPI document, where references of its own would hang in the air."""
    published = request_schema()
    assert "$ref" not in json.dumps(published)
    assert published["properties"]["items"]["items"]["required"] == ["id", "fields", "regions"]
