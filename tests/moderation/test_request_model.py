"""Request bodies: the first wrong key is named, whatever is sent."""

from __future__ import annotations

import pytest
from pydantic import Field

from moderation.problem import Problem
from moderation.request_model import RequestModel, read_request


class Wanted(RequestModel):
    name: str
    ages: list[int] = Field(default=[], max_length=2)


def test_a_good_body_becomes_the_model() -> None:
    assert read_request(Wanted, {"name": "x", "ages": [1]}) == Wanted(name="x", ages=[1])


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "name: Field required"),
        ({"name": "x", "ages": [1, "y"]}, "ages.1: Input should be a valid integer"),
        ({"name": "x", "age": 1}, "age: Extra inputs are not permitted"),
        ([], "body: Input should be a valid dictionary"),
        (None, "body: Input should be a valid dictionary"),
    ],
)
def test_the_first_wrong_key_is_named(body: object, detail: str) -> None:
    with pytest.raises(Problem) as refused:
        read_request(Wanted, body)
    assert refused.value.code == "invalid_request"
    assert refused.value.detail.startswith(detail)
