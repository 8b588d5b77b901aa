"""The JSON that comes in at `POST /v1/ads:moderate`, checked as a whole and then item by item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SkipValidation,
    StrictInt,
    StrictStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from moderation import strict_json
from moderation.decision import Context, ItemError
from moderation.item import Item
from moderation.openapi.json_schema import schema_of
from moderation.problem import Problem
from moderation.regions import check_region
from moderation.request_model import Moment
from moderation.strict_json import EncodingError, JsonError, whole

MAX_BODY_BYTES = 1024 * 1024
MAX_ITEMS = 256
MAX_FIELD_CHARACTERS = 8000
MAX_REGIONS = 300
FIELDS = ("title", "body", "cta", "landing_text", "text")

OffsetUnit = Literal["codepoint", "utf16", "byte"]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _known_region(value: str) -> str:
    try:
        check_region(value)
    except ValueError as error:
        raise PydanticCustomError("unknown_region", "{reason}", {"reason": str(error)}) from error
    return value


def _of_known_region(certificate: str) -> str:
    check_region(certificate.partition(":")[2])
    return certificate


def _time_as_text(value: object) -> object:
    # A number would be read as seconds since 1970; who sends one has most likely made a mistake.
    if value is not None and not isinstance(value, str):
        raise PydanticCustomError("time_type", "Input should be RFC 3339 text with an offset")
    return value


FieldString = Annotated[StrictStr, StringConstraints(max_length=MAX_FIELD_CHARACTERS)]
Identifier = Annotated[StrictStr, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
Region = Annotated[
    StrictStr,
    StringConstraints(max_length=16),
    AfterValidator(_known_region),
    Field(description="A code of ISO 3166-1 alpha-2 (`DE`) or ISO 3166-2 (`IN-GJ`)."),
]
Certificate = Annotated[
    StrictStr, StringConstraints(max_length=64, pattern=r"^[a-z][a-z0-9_]*:.+$"), AfterValidator(_of_known_region)
]
LanguageTag = Annotated[StrictStr, StringConstraints(max_length=35, pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*$")]


class FieldsRequest(_Closed):
    """The texts of an ad, at least one of them not blank. A listing or a post has `text` alone."""

    title: FieldString | None = None
    body: FieldString | None = None
    cta: FieldString | None = None
    landing_text: FieldString | None = None
    text: FieldString | None = None

    @model_validator(mode="after")
    def _not_blank(self) -> Self:
        if not any(value.strip() for value in self.present().values()):
            raise PydanticCustomError("empty_text", "no field has any text")
        return self

    def present(self) -> dict[str, str]:
        """The fields that were given, by name, in the order of `FIELDS`."""
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not None}


class ContextRequest(_Closed):
    """What the advertiser and the campaign bring along; the policy's constraints are checked against it."""

    min_age: Annotated[StrictInt, Field(ge=0, le=120)] | None = None
    advertiser_id: Identifier | None = None
    certificates: Annotated[list[Certificate], Field(max_length=64)] = []
    disclosures: Annotated[list[Identifier], Field(max_length=64)] | None = None
    scheduled_at: Annotated[Moment, BeforeValidator(_time_as_text)] | None = None


class ItemRequest(_Closed):
    """One ad. A region named twice is answered once."""

    id: Identifier
    fields: FieldsRequest
    regions: Annotated[list[Region], Field(min_length=1, max_length=MAX_REGIONS)]
    language: LanguageTag | None = None
    context: ContextRequest | None = None

    def to_item(self) -> Item:
        """The item as the pipeline takes it."""
        given = self.context or ContextRequest()
        context = Context(
            min_age=given.min_age,
            advertiser_id=given.advertiser_id,
            certificates=frozenset(given.certificates),
            disclosures=None if given.disclosures is None else frozenset(given.disclosures),
            scheduled_at=given.scheduled_at,
        )
        regions = tuple(dict.fromkeys(self.regions))
        return Item(id=self.id, fields=self.fields.present(), regions=regions, language=self.language, context=context)


class ModerateRequest(_Closed):
    """The body. Items are validated one by one afterwards, so that a bad one never fails its neighbours."""

    items: Annotated[list[SkipValidation[ItemRequest]], Field(min_length=1, max_length=MAX_ITEMS)]
    policy_set: Annotated[StrictStr, StringConstraints(max_length=128)] | None = None
    explain: Literal["none", "spans"] = "spans"
    offset_unit: Literal["codepoint", "utf16", "byte"] = "codepoint"


@dataclass(frozen=True)
class Entrant:
    """One entry of the batch, in its place: an item, or the reason why it is none."""

    id: str | None
    """The id to answer under; None when the entry has no usable one."""
    item: Item | None
    error: ItemError | None


@dataclass(frozen=True)
class Batch:
    """A request that could be read."""

    entrants: tuple[Entrant, ...]
    """In the order of the request; as many as it had items."""
    policy_set: str | None
    explain: bool
    offset_unit: OffsetUnit


def request_schema() -> dict[str, Any]:
    """The JSON Schema of the body with nothing referred to elsewhere, for the OpenAPI document."""
    return schema_of(ModerateRequest)


def parse_request(body: bytes) -> Batch:
    """The batch in a request body.

    Raises:
        Problem: when the body as a whole cannot be used; the faults of single items are in the batch.
    """
    try:
        request = ModerateRequest.model_validate(_read_json(body))
    except ValidationError as error:
        raise _whole_request_problem(error.errors(include_url=False)[0]) from error
    entrants: list[Entrant] = []
    seen: set[str] = set()
    for raw in request.items:
        entrant = parse_item(raw)
        if entrant.id is not None and entrant.id in seen:
            message = "an item before it in this request has the same id"
            entrant = Entrant(entrant.id, None, ItemError("duplicate_id", message))
        elif entrant.id is not None:
            seen.add(entrant.id)
        entrants.append(entrant)
    return Batch(tuple(entrants), request.policy_set, request.explain == "spans", request.offset_unit)


def parse_item(raw: object) -> Entrant:
    """The entrant of one entry of `items`, whatever stands there; raises nothing."""
    identifier: str | None = None
    if isinstance(raw, dict):
        identifier = _usable_id(raw.get("id"))
        if isinstance(raw.get("fields"), dict):
            raw = {**raw, "fields": {name: _repaired(value) for name, value in raw["fields"].items()}}
    try:
        return Entrant(identifier, ItemRequest.model_validate(raw).to_item(), None)
    except ValidationError as error:
        return Entrant(identifier, None, _item_error(error.errors(include_url=False)[0]))


def _read_json(body: bytes) -> object:
    try:
        return strict_json.read(body)
    except JsonError as error:
        code = "invalid_encoding" if isinstance(error, EncodingError) else "invalid_json"
        raise Problem(code, f"the body cannot be read: {error}") from error


def _usable_id(value: object) -> str | None:
    # An id with half a surrogate pair could not be sent back as UTF-8.
    if isinstance(value, str) and 0 < len(value) <= 256 and whole(value) == value:
        return value
    return None


def _repaired(value: object) -> object:
    return whole(value) if isinstance(value, str) else value


def _item_error(fault: ErrorDetails) -> ItemError:
    top = str(fault["loc"][0]) if fault["loc"] else "item"
    match fault["type"]:
        case "extra_forbidden":
            code = "unknown_field"
        case "string_too_long" if top == "fields":
            code = "field_too_long"
        case "unknown_region" | "empty_text":
            code = fault["type"]
        case _:
            code = f"invalid_{top}"
    return ItemError(code, f"{_place(fault)}: {fault['msg']}")


def _place(fault: ErrorDetails) -> str:
    path = ".".join(str(part) for part in fault["loc"]) or "item"
    # The path may hold a key of the sender's: cut it, and spell what cannot be sent back.
    return path[:80].encode("utf-8", "backslashreplace").decode("utf-8")


def _whole_request_problem(fault: ErrorDetails) -> Problem:
    on_items = fault["loc"] == ("items",)
    if on_items and fault["type"] in {"missing", "too_short"}:
        return Problem("empty_batch", f"items must hold 1 to {MAX_ITEMS} ads; found none")
    if on_items and fault["type"] == "too_long":
        return Problem("too_many_items", f"items must hold 1 to {MAX_ITEMS} ads; found more")
    code = "unknown_field" if fault["type"] == "extra_forbidden" else "invalid_request"
    return Problem(code, f"{_place(fault) if fault['loc'] else 'body'}: {fault['msg']}")
