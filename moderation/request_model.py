"""Request bodies with a closed set of fields: what else is sent is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from moderation.problem import Problem

T = TypeVar("T", bound=BaseModel)


class RequestModel(BaseModel):
    """A body whose fields are all named."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_request(kind: type[T], request: object) -> T:
    """Return a request of a kind; raise `Problem` that names the first wrong key."""
    try:
        return kind.model_validate(request)
    except ValidationError as error:
        first: Mapping[str, Any] = error.errors()[0]
        where: Sequence[object] = first["loc"]
        raise Problem("invalid_request", f"{'.'.join(map(str, where)) or 'body'}: {first['msg']}") from error
