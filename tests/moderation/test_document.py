"""YAML documents: values with their lines, one digest per content, and everything that is refused unread or by line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from moderation.document import MAX_BYTES, Document, DocumentError, read_document, read_file

SHOP = """\
# a shop
id: shop
rules:
  - name: one
    words: [a, b]
  - name: two
    words:
      - c
      - 2026-05-01
"""
SCHEMA = Draft202012Validator(
    {
        "properties": {
            "id": {"type": "string"},
            "rules": {"items": {"properties": {"words": {"items": {"type": "string", "maxLength": 10}}}}},
        },
        "required": ["id"],
    }
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=8,
)


def test_every_value_has_its_line() -> None:
    document = read_document(SHOP)
    assert document.values["rules"][1]["words"] == ["c", "2026-05-01"]
    assert document.lines == {
        (): 2,
        ("id",): 2,
        ("rules",): 3,
        ("rules", 0): 4,
        ("rules", 0, "name"): 4,
        ("rules", 0, "words"): 5,
        ("rules", 0, "words", 0): 5,
        ("rules", 0, "words", 1): 5,
        ("rules", 1): 6,
        ("rules", 1, "name"): 6,
        ("rules", 1, "words"): 7,
        ("rules", 1, "words", 0): 8,
        ("rules", 1, "words", 1): 9,
    }


def test_a_fault_names_the_line_of_the_nearest_value_above() -> None:
    document = read_document(SHOP)
    assert str(document.fault(("rules", 1, "words", 1), "wrong")) == "line 9: rules.1.words.1: wrong"
    assert str(document.fault(("rules", 1, "regions", 0), "missing")) == "line 6: rules.1.regions.0: missing"
    assert str(document.fault((), "empty")) == "line 2: document: empty"


@settings(deadline=None)
@given(values)
def test_values_are_read_back_and_the_digest_follows_them_not_the_layout(drawn: object) -> None:
    document = read_document(yaml.safe_dump(drawn))
    assert document.values == drawn
    assert json.loads(document.canonical) == drawn
    assert read_document(yaml.safe_dump(drawn, default_flow_style=True, width=20)).digest == document.digest
    assert read_document(yaml.safe_dump([drawn])).digest != document.digest


def test_the_digest_is_the_sha256_of_the_canonical_json() -> None:
    document = read_document("b: [1, é]\na: null")
    assert document.canonical == '{"a":null,"b":[1,"é"]}'
    assert document.digest == "f8f17faab95c024891d173fa43442b0e52007736a1f36715ac721ab22deeefc5"


def test_a_schema_is_checked_and_the_first_wrong_line_named() -> None:
    read_document(SHOP).check(SCHEMA, hints={})
    wrong = read_document(SHOP.replace("[a, b]", "[NO, b]").replace("- c", "- 1"))
    with pytest.raises(DocumentError) as refused:
        wrong.check(SCHEMA, hints={"words": "write words in quotes", "rules": "not told"})
    assert str(refused.value) == (
        "line 5: rules.0.words.0: False is not of type 'string': write words in quotes (and 1 more)"
    )
    with pytest.raises(DocumentError, match=r"^line 1: document: 'id' is a required property$"):
        read_document("{}").check(SCHEMA, hints={})


def test_a_value_as_long_as_a_book_is_not_quoted_whole() -> None:
    with pytest.raises(DocumentError) as refused:
        read_document(f"id: a\nrules: [{{words: [{'x' * 10_000}]}}]").check(SCHEMA, hints={})
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id: [shop", "line [12]: no YAML: while parsing a flow sequence"),
        ("a: 1\nb: ]", "line 2: no YAML: "),
        ("a: 1\x00", "line 1: no YAML: "),
        ("a: \ud800", "line 1: no YAML: "),
        ("a: !!timestamp 2026-13-40", "line 1: no YAML: "),
        ("a: 1\n---\nb: 1", "line 2: no YAML: "),
        ("a:\n  - !!python/object/apply:os.system [ls]", "line 2: no YAML: could not determine a constructor"),
        ("a: &a [1]\nb: *a", r"line 2: alias \*a: write the value out"),
        ("a: 1\nb:\n  c: 1\n  c: 2", "line 3: key 'c' is given 2 times, allowed once"),
        ("a: 1\nNO: 1", "line 2: key 'NO' is not text; write it in quotes"),
        ("? [a]\n: 1", "line 1: key 'a collection' is not text"),
        ("a: " + "[" * 40 + "]" * 40, "line 1: document: nested deeper than 32"),
        ("a: [" + "1," * 100_001 + "]", "line 1: document: more than 100000 values"),
        ("#" * (MAX_BYTES + 1), f"line 1: document: {MAX_BYTES + 1} bytes, allowed {MAX_BYTES}"),
        ("#" + "é" * (MAX_BYTES // 2), f"line 1: document: {MAX_BYTES + 1} bytes, allowed {MAX_BYTES}"),
    ],
)
def test_what_is_no_document_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(DocumentError, match=f"^{message}"):
        read_document(text)


def test_a_bomb_of_aliases_is_refused_before_it_unfolds() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)]
    with pytest.raises(DocumentError, match=r"line 2: alias \*a0: write the value out"):
        read_document("\n".join(levels))


@pytest.mark.parametrize("text", ["", "# nothing"])
def test_an_empty_document_has_no_values(text: str) -> None:
    assert read_document(text) == Document(None, {(): 1})


def test_a_file_is_named_in_every_error(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP, encoding="utf-8")
    assert read_file(path, read_document, what="rules") == read_document(SHOP)
    path.write_bytes(b"a: ]")
    with pytest.raises(DocumentError, match=r"^rules shop\.yaml: line 1: no YAML: "):
        read_file(path, read_document, what="rules")
    path.write_bytes(b"a: caf\xe9")
    with pytest.raises(DocumentError, match=r"^rules shop\.yaml: "):
        read_file(path, read_document, what="rules")
    absent = tmp_path / "absent.yaml"
    with pytest.raises(ValueError, match=re.escape(f"rules: found {str(absent)!r}, which cannot be read")):
        read_file(absent, read_document, what="rules")
