"""JSON read so that no two readers can find different things in it: what was judged is what is shown."""

from __future__ import annotations

import json
import re
from typing import NoReturn

_HALF_PAIR = re.compile("[\ud800-\udfff]")


class JsonError(ValueError):
    """A text that is not read as JSON. Its message is a sentence without its full stop."""


class EncodingError(JsonError):
    """A body that is not UTF-8."""


def read(body: bytes) -> object:
    """Return the value in a body.

    UTF-8 without a byte order mark (RFC 8259, section 8.1); an object must not have a key twice, of which readers keep
    different ones; NaN and Infinity are no numbers.

    >>> read(b'{"input": ["one", "two"]}')
    {'input': ['one', 'two']}

    Raises:
        EncodingError: it is not UTF-8.
        JsonError: it is not such JSON.
    """
    return parsed(decoded(body))


def decoded(body: bytes) -> str:
    """Return the text of a body.

    Raises:
        EncodingError: it is not UTF-8.
    """
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EncodingError(f"Byte {error.start} is not UTF-8") from error


def parsed(text: str) -> object:
    """Return the value in a text.

    Raises:
        JsonError: it is not JSON, or an object has a key twice.
    """
    if text.startswith("\ufeff"):
        raise JsonError("It begins with a byte order mark")
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_doubles)
    except RecursionError as error:
        raise JsonError("It is nested too deeply") from error
    except ValueError as error:
        raise JsonError(str(error)) from error


def whole(text: str) -> str:
    """Return a text with half surrogate pairs, which JSON can spell and UTF-8 cannot, replaced one for one by U+FFFD.

    So every offset stays, and the text can be stored and sent back.
    """
    return text if text.isascii() else _HALF_PAIR.sub("\N{REPLACEMENT CHARACTER}", text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("An object has the same key twice")
    return found
