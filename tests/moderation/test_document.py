"""YAML and JSON documents: values with their lines, one digest per content, and all that is refused, by its line."""

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
        ("a: 1\nb: *a", r"line 2: alias \*a: write the value out"),
        ("a: 1\nb: &b [1]", "line 2: anchor &b: write the value out"),
        ("a: 1\nb: &b {c: 1}", "line 2: anchor &b: write the value out"),
        ("a: 1\nb: &b c", "line 2: anchor &b: write the value out"),
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


def test_json_is_read_as_json_with_its_lines() -> None:
    """Pairs of surrogates, tabs, exponents and line separators, which YAML 1.1 refuses or reads otherwise."""
    rules = '[\n\t\t{"name": "a\u2028b", "words": [1e3, {}, []]},\n\t\tnull\n\t]'
    text = '{\n\t"id": "\\ud83d\\ude00 \\/",\n\t"rules": ' + rules + "\n}\n"
    document = read_document(text)
    assert document.values == {"id": "\U0001f600 /", "rules": [{"name": "a\u2028b", "words": [1000.0, {}, []]}, None]}
    assert document.lines == {
        (): 1,
        ("id",): 2,
        ("rules",): 3,
        ("rules", 0): 4,
        ("rules", 0, "name"): 4,
        ("rules", 0, "words"): 4,
        ("rules", 0, "words", 0): 4,
        ("rules", 0, "words", 1): 4,
        ("rules", 0, "words", 2): 4,
        ("rules", 1): 5,
    }
    with pytest.raises(DocumentError, match=r"^line 3: rules\.0\.words\.0: 7 is not of type 'string'$"):
        read_document('{"id": "a",\n "rules":\n  [{"words": [7]}]}').check(SCHEMA, hints={})


@settings(deadline=None)
@given(values, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_json_and_yaml_of_the_same_values_have_one_digest(drawn: object, indent: int | str | None, plain: bool) -> None:
    document = read_document(json.dumps([drawn], indent=indent, ensure_ascii=plain))
    assert document.values == [drawn]
    assert document.digest == read_document(yaml.safe_dump([drawn])).digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,\n "b": {"c": 1,\n "\\u0063": 2}}', "line 3: key 'c' is given twice, allowed once"),
        ('{"a":\n ["\\ud83d"]}', r"line 2: no JSON: half a surrogate pair, U\+D83D"),
        ('{"a": 1,\n "\\ude00": 1}', r"line 2: no JSON: half a surrogate pair, U\+DE00"),
        ('{"a":\n' + "[" * 32 + "]" * 32 + "}", "line 2: document: nested deeper than 32"),
        ("[" * 100_000, "line 1: document: nested deeper than 32"),
        ("[\n" + "1," * 100_000 + "1]", "line 2: document: more than 100000 values"),
        ('{"a": 1,\n "b": }}', "line 2: no YAML: "),
        ('{"a": ' + "9" * 5_000 + "}", "line 1: no YAML: "),
    ],
)
def test_what_is_no_json_document_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(DocumentError, match=f"^{message}"):
        read_document(text)


def test_what_only_begins_like_json_is_yaml() -> None:
    assert read_document("{id: NaN, words: [a, 'b']}").values == {"id": "NaN", "words": ["a", "b"]}
    assert read_document("[NaN]").values == ["NaN"]
    assert read_document("[" * 32 + "]" * 32).lines[(0,) * 31] == 1


def test_a_bomb_of_aliases_is_refused_before_it_unfolds() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)]
    with pytest.raises(DocumentError, match=r"line 1: anchor &a0: write the value out"):
        read_document("\n".join(levels))


def test_of_very_many_faults_the_first_thousand_are_looked_for() -> None:
    wrong = f"id: a\nrules: [{{words: [{', '.join(['1'] * 1_001)}]}}]"
    with pytest.raises(DocumentError, match=r"^line 2: rules\.0\.words\.0: 1 is not .* \(and at least 999 more\)$"):
        read_document(wrong).check(SCHEMA, hints={})


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
