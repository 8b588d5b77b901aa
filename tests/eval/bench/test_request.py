from __future__ import annotations

from eval.bench.request import MAX_ITEMS, batch_bodies, single_bodies
from moderation.schema import MAX_BODY_BYTES, parse_request
from moderation.schema import MAX_ITEMS as SERVED_ITEMS


def test_the_service_takes_every_item() -> None:
    (body,) = single_bodies(["Fresh bread"], n=1, explain="spans", run="t")
    batch = parse_request(body)
    assert batch.explain
    assert [entrant.error for entrant in batch.entrants] == [None]


def test_ads_come_in_turn_under_ids_of_their_own() -> None:
    batches = [parse_request(body) for body in single_bodies(["a1", "b2"], n=3, explain="none", run="t")]
    items = [batch.entrants[0].item for batch in batches]
    assert [item.fields["text"] for item in items if item] == ["a1", "b2", "a1"]
    assert [item.id for item in items if item] == ["t-0", "t-1", "t-2"]


def test_a_batch_is_split_where_the_service_says() -> None:
    assert MAX_ITEMS == SERVED_ITEMS
    bodies = batch_bodies(["x" * 2_000] * (MAX_ITEMS + 1), run="t")
    assert [len(parse_request(body).entrants) for body in bodies] == [MAX_ITEMS, 1]
    assert max(map(len, bodies)) <= MAX_BODY_BYTES
