"""YAML and JSON documents that decide something: read with the line of every value, and refused by line and reason."""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonschema import Draft202012Validator

MAX_BYTES = 1024 * 1024
"""Of one document."""
_MAX_NODES, _MAX_DEPTH = 100_000, 32
_TOO_DEEP = f"document: nested deeper than {_MAX_DEPTH}"
_JSON = json.JSONDecoder()
_JSON_SPACE = " \t\n\r"
_JSON_BETWEEN = _JSON_SPACE + ",:"
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_MAX_FAULTS = 1_000  # a document of nothing else could have one per value
_MAX_MESSAGE = 300  # the schema's messages quote the value, however long it is

DocumentPath = tuple[str | int, ...]
"""Keys and positions from the document's root to a value."""

_Made = TypeVar("_Made")


class DocumentError(ValueError):
    """A document cannot be used; the message names the line and the reason."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader, dates left as text; the one in C, where PyYAML has it, is ten times as fast."""

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@dataclass(frozen=True)
class Document:
    """The values of a text, and where they stand."""

    values: Any
    lines: Mapping[DocumentPath, int]
    """Path of a value -> its line, counted from 1."""

    @cached_property
    def canonical(self) -> str:
        """The values as JSON: the same for any two texts of the same values."""
        return json.dumps(self.values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    @cached_property
    def digest(self) -> str:
        """The sha256 of the canonical JSON, in hex: comments and layout do not change it, every value does."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    def fault(self, path: DocumentPath, reason: str) -> DocumentError:
        """Return the error that refuses the value at a path, or the nearest above that stands in a line of its own."""
        return DocumentError(f"line {self._line(path)}: {_shown(path)}: {reason}")

    def check(self, validator: Draft202012Validator, *, hints: Mapping[str, str]) -> None:
        """Return quietly when the schema takes the values.

        Args:
            validator: of the schema.
            hints: key -> what to add to the reason where its value, or one in its list, is refused.

        Raises:
            DocumentError: the schema refuses; the message names the first wrong line, of the first 1,000 faults found.
        """
        faults = islice(validator.iter_errors(self.values), _MAX_FAULTS)
        found = [(tuple(error.absolute_path), error.message) for error in faults]
        if not found:
            return
        path, message = min(found, key=lambda fault: (self._line(fault[0]), _shown(fault[0])))
        key = next((key for key in reversed(path) if isinstance(key, str)), "")
        hint = f": {hints[key]}" if key in hints else ""
        least = "at least " if len(found) == _MAX_FAULTS else ""
        more = f" (and {least}{len(found) - 1} more)" if len(found) > 1 else ""
        raise self.fault(path, f"{message[:_MAX_MESSAGE]}{hint}{more}")

    def _line(self, path: DocumentPath) -> int:
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


def read_document(text: str) -> Document:
    """Return the document of a YAML or JSON text.

    JSON is read as JSON: YAML 1.1 refuses some of it (tabs, surrogate pairs) and reads some otherwise (`1e3` as text).

    Raises:
        DocumentError: it is neither, is larger or deeper than `MAX_BYTES` and 32 levels, has an anchor or an alias, a
            key that is no text, or one that is given twice.
    """
    size = len(text.encode("utf-8", "replace"))
    if size > MAX_BYTES:
        raise DocumentError(f"line 1: document: {size} bytes, allowed {MAX_BYTES}")
    return _read_json(text) or _read_yaml(text)


def _read_yaml(text: str) -> Document:
    try:
        _check_events(text)
        node = yaml.compose(text, Loader=_Loader)
        lines: dict[DocumentPath, int] = {(): 1}
        if node is not None:
            _locate(node, (), lines)
        return Document(yaml.load(text, Loader=_Loader), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = "no YAML: " + ", ".join(part for part in (error.context, error.problem) if part)
        if "nesting depth" in reason:  # the parser reads ahead, and may have a limit of its own
            reason = _TOO_DEEP
        raise DocumentError(f"line {mark.line + 1 if mark else 1}: {reason}") from error
    except yaml.YAMLError as error:
        raise DocumentError(f"line 1: no YAML: {error}") from error
    except DocumentError:
        raise
    except ValueError as error:  # a tagged value such as !!timestamp 2026-13-40 is refused as it is made
        raise DocumentError(f"line 1: no YAML: {error}") from error


def read_file(path: Path, read: Callable[[str], _Made], *, what: str) -> _Made:
    """Return what `read` makes of a file; every error names the file and what it was to be.

    Raises:
        DocumentError: the file's text is refused.
        ValueError: the file cannot be read.
    """
    try:
        return read(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{what}: found {str(path)!r}, which cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DocumentError(f"{what} {path.name}: {error}") from error


def _check_events(text: str) -> None:
    """Raise `DocumentError` on what unfolds, anchors and aliases, and on more values or deeper ones than allowed."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            sign = "alias *" if isinstance(event, yaml.AliasEvent) else "anchor &"
            raise DocumentError(f"line {line}: {sign}{event.anchor}: write the value out")
        if count > _MAX_NODES:
            raise DocumentError(f"line {line}: document: more than {_MAX_NODES} values")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise DocumentError(f"line {line}: {_TOO_DEEP}")


def _locate(node: yaml.Node, path: DocumentPath, lines: dict[DocumentPath, int]) -> None:
    """Note the line of a node and of all below; raise `DocumentError` on a key given twice or not text."""
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _locate(value, (*path, i), lines)
    elif isinstance(node, yaml.MappingNode):
        counts = Counter(key.value if isinstance(key, yaml.ScalarNode) else None for key, _ in node.value)
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag != "tag:yaml.org,2002:str":
                shown = key.value if isinstance(key, yaml.ScalarNode) else "a collection"
                raise DocumentError(f"line {line}: key {shown!r} is not text; write it in quotes (region 'NO', not NO)")
            if counts[key.value] > 1:
                raise DocumentError(f"line {line}: key {key.value!r} is given {counts[key.value]} times, allowed once")
            _locate(value, (*path, key.value), lines)
            lines[*path, key.value] = line


def _read_json(text: str) -> Document | None:
    """Return the document of a JSON object or array, None where the text is none."""
    if not text.lstrip(_JSON_SPACE).startswith(("{", "[")):
        return None
    try:
        values = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return Document(values, _JsonLines(text).lines)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


class _JsonLines:
    """The line of every value of a text that is known to be JSON, found by reading it once more, value by value.

    Raises:
        DocumentError: too many values, nested too deep, a key given twice, or half a surrogate pair.
    """

    def __init__(self, text: str) -> None:
        self.lines: dict[DocumentPath, int] = {}
        self._text = text
        self._at = 0
        self._breaks = [found.start() for found in re.finditer("\n", text)]
        self._skip()
        self._value((), self._line())

    def _value(self, path: DocumentPath, line: int) -> None:
        self.lines[path] = line
        if len(self.lines) > _MAX_NODES:
            raise DocumentError(f"line {line}: document: more than {_MAX_NODES} values")
        opening = self._text[self._at]
        if opening not in "{[":
            self._scalar()
            return
        if len(path) >= _MAX_DEPTH:
            raise DocumentError(f"line {line}: {_TOO_DEEP}")
        self._at += 1
        place = 0
        while self._skip() not in "}]":
            line = self._line()
            inner = (*path, self._scalar() if opening == "{" else place)
            if inner in self.lines:
                raise DocumentError(f"line {line}: key {inner[-1]!r} is given twice, allowed once")
            self._skip()
            self._value(inner, line)
            place += 1
        self._at += 1

    def _scalar(self) -> Any:  # noqa: ANN401 - text, a number, or a constant
        line = self._line()
        value, self._at = _JSON.raw_decode(self._text, self._at)
        if isinstance(value, str) and (half := _HALF_PAIR.search(value)):
            raise DocumentError(f"line {line}: no JSON: half a surrogate pair, U+{ord(half[0]):04X}")
        return value

    def _skip(self) -> str:
        """Go on to the next value, key or end, and return its first character."""
        while self._text[self._at] in _JSON_BETWEEN:
            self._at += 1
        return self._text[self._at]

    def _line(self) -> int:
        return bisect_left(self._breaks, self._at) + 1


def _shown(path: DocumentPath) -> str:
    return ".".join(map(str, path)) or "document"
