"""OpenAI's own Python client with another address: its types, its errors, its options."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.moderation import Categories

if TYPE_CHECKING:
    from tests.clients.conftest import Served

CATEGORIES = {field.alias or name for name, field in Categories.model_fields.items()}
"""As the client spells them."""
INSULT = "You are such an idiot, nobody wants to read this."


@pytest.fixture
def client(served: Served) -> Iterator[OpenAI]:
    """OpenAI's client, told to check each answer against its own types."""
    options: dict[str, Any] = {"max_retries": 0, "_strict_response_validation": True}
    with OpenAI(base_url=f"{served.url}/v1", api_key=served.keys["openai"], **options) as connected:
        yield connected


def test_it_reads_a_result_with_all_its_categories(client: OpenAI) -> None:
    """Thirteen, each with a flag, a score and input types; those that nothing stands for are named beside."""
    answer = client.moderations.create(model="omni-moderation-latest", input=INSULT)
    [result] = answer.results
    told = result.to_dict()
    flags, scores, types = (told[name] for name in ("categories", "category_scores", "category_applied_input_types"))
    unscored = told["unscored_categories"]
    assert len(CATEGORIES) == 13
    assert CATEGORIES > set(unscored) > {"harassment/threatening", "sexual/minors"}
    for name in CATEGORIES:
        assert isinstance(flags[name], bool)
        assert 0 <= scores[name] <= 1
        assert types[name] == ([] if name in unscored else ["text"])
        assert name not in unscored or (flags[name], scores[name]) == (False, 0)
    assert answer.id.startswith("modr-")
    assert isinstance(result.flagged, bool)


def test_it_gets_a_result_for_each_text_in_order(client: OpenAI) -> None:
    """A list of texts: each result is that of the text alone."""
    texts = ["Fresh bread every morning.", INSULT, "I will find you and kill you."]
    together = client.moderations.create(input=texts).results
    alone = [client.moderations.create(input=text).results[0] for text in texts]
    assert len(together) == 3
    for one, other in zip(together, alone, strict=True):
        assert one.category_scores.violence == pytest.approx(other.category_scores.violence, abs=0.02)
        assert one.category_scores.harassment == pytest.approx(other.category_scores.harassment, abs=0.02)
    assert together[2].category_scores.violence > together[0].category_scores.violence + 0.1


def test_it_gets_one_result_for_text_parts(client: OpenAI) -> None:
    """Parts are one item, as the multi-modal model has it."""
    parts: Any = [{"type": "text", "text": "Fresh bread"}, {"type": "text", "text": "every morning."}]
    assert len(client.moderations.create(model="omni-moderation-latest", input=parts).results) == 1


def test_it_is_told_that_images_are_not_read(client: OpenAI) -> None:
    """An image beside a text is refused, never left out silently; the envelope is the one its errors are made of."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    parts: Any = [{"type": "text", "text": "Fresh bread"}, image]
    with pytest.raises(openai.BadRequestError) as refused:
        client.moderations.create(model="omni-moderation-latest", input=parts)
    error = refused.value
    assert (error.code, error.param, error.type) == ("unsupported_content_type", "input[1]", "invalid_request_error")
    assert isinstance(error.body, dict)
    assert set(error.body) == {"message", "type", "param", "code"}
    assert "image" in error.body["message"]


@pytest.mark.parametrize(("sent", "decided"), [({"region": "DE"}, "DE"), ({}, "US")])
def test_it_may_name_the_region_that_decides(client: OpenAI, sent: dict[str, str], decided: str) -> None:
    """`extra_body` reaches the decision; without it that of the settings decides."""
    [result] = client.moderations.create(input="Win at our casino tonight!", extra_body=sent).results
    assert result.to_dict()["decision"]["region"] == decided


@pytest.mark.parametrize("region", ["XX", "de", "UK"])
def test_it_is_refused_an_unknown_region(client: OpenAI, region: str) -> None:
    """The error names the parameter."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.moderations.create(input="tea", extra_body={"region": region})
    assert (refused.value.param, refused.value.code) == ("region", "invalid_value")


def test_it_is_refused_a_wrong_key(client: OpenAI) -> None:
    """As its own service says it."""
    with pytest.raises(openai.AuthenticationError) as refused:
        client.with_options(api_key="wl_wrong").moderations.create(input="tea")
    assert (refused.value.status_code, refused.value.code) == (401, "invalid_api_key")


def test_it_may_send_a_request_again(client: OpenAI) -> None:
    """The same key and body: the same answer, marked as such. Another body: refused."""
    create, again = client.moderations.with_raw_response.create, {"Idempotency-Key": "openai-1"}
    first, second = (create(input="tea", extra_headers=again) for _ in range(2))
    assert second.parse() == first.parse()
    assert [raw.headers.get("idempotency-replayed") for raw in (first, second)] == [None, "true"]
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        create(input="coffee", extra_headers=again)
    assert (refused.value.status_code, refused.value.code) == (422, "idempotency_key_reused")


def test_it_may_be_asynchronous(served: Served) -> None:
    """Several at once over one client."""

    async def ask() -> list[Any]:
        async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key=served.keys["openai"], max_retries=0) as client:
            return await asyncio.gather(*(client.moderations.create(input=text) for text in ("tea", "bread", "shoes")))

    answers = asyncio.run(ask())
    assert len({answer.id for answer in answers}) == 3
    assert [len(answer.results) for answer in answers] == [1, 1, 1]
