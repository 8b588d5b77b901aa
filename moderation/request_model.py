"""Request bodies with a closed set of fields: what else is sent is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from moderation.constraints import check_year
from moderation.problem import Problem

T = TypeVar("T", bound=BaseModel)


def _in_every_zone(moment: datetime) -> datetime:
    try:
        check_year(moment)
    except ValueError as error:
        raise PydanticCustomError("time_range", "{reason}", {"reason": str(error)}) from error
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_in_every_zone)]
"""A time with an offset, a year at least from the ends of the calendar."""


class RequestModel(BaseModel):
    """A body whose fields are all named."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def read_request(kind: type[T], request: object) -> T:
    """Return a request of a kind; raise `Problem` that names the first wrong key."""
    try:
        return kind.model_validate(request)
    except ValidationError as error:
        first: Mapping[str, Any] = error.errors()[0]
        where: Sequence[object] = first["loc"]
        raise Problem("invalid_request", f"{'.'.join(map(str, where)) or 'body'}: {first['msg']}") from error
