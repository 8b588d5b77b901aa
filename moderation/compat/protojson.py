"""A request body as Google's JSON reader takes it: typed fields of a message, under camelCase or snake_case names.

Follows the JSON mapping of protocol buffers (protobuf.dev/programming-guides/json): null is absent, numbers and
booleans may come as strings, a name that is not known is refused. Wider on three points that Perspective's own
documentation and clients need: names without quotes and commas before a closing bracket are read, and a string alone
is a list of one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NoReturn

from moderation.strict_json import JsonError, decoded, parsed, whole

_MARK = "\ufeff"
_PAYLOAD = "Invalid JSON payload received."
# Strings are matched first so that nothing inside one is rewritten; possessive, so that no body takes quadratic time.
_LOOSE = re.compile(r'"(?:[^"\\]|\\.)*+"?+|(?<![\w$])([A-Za-z_$][\w$]*+)(?=\s*+:)|,(?=\s*+[}\]])', re.DOTALL)
_LOOSE_CHARACTERS = 64 * 1024
"""Longer bodies were not written by hand, and are read strictly."""
_SHOWN = 100


class MessageError(ValueError):
    """A body that is not the message. `field` is the path of the fault, in snake_case; None: the body as a whole."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


@dataclass(frozen=True)
class Message:
    """One object of a body. Its readers return the field's default (empty, False, None) where it is absent."""

    values: Mapping[str, object]
    """Value by camelCase name; nulls are left out."""
    path: str
    """Where the object stands, in snake_case; empty for the body."""

    def string(self, name: str) -> str:
        """Return a string, half surrogate pairs replaced one for one by U+FFFD so that it can be sent back."""
        value = self.values.get(name, "")
        if not isinstance(value, str):
            self._refuse(name, "a string")
        return whole(value)

    def flag(self, name: str) -> bool:
        """Return a boolean, which may come as the string `true` or `false`."""
        value = self.values.get(name, False)
        spelled = {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else value
        if not isinstance(spelled, bool):
            self._refuse(name, "a boolean")
        return spelled

    def number(self, name: str) -> float | None:
        """Return a finite number, which may come as a string."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            self._refuse(name, "a number")
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            self._refuse(name, "a finite number")
        return number

    def strings(self, name: str) -> tuple[str, ...]:
        """Return a list of strings; a string alone is a list of one."""
        value = self.values.get(name, [])
        given = [value] if isinstance(value, str) else value
        if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
            self._refuse(name, "an array of strings")
        return tuple(whole(each) for each in given)

    def message(self, name: str, fields: Collection[str]) -> Message | None:
        """Return the object of a field, None where there is none; `fields` are the names that it may hold."""
        value = self.values.get(name)
        return None if value is None else _message(value, self._at(name), fields)

    def messages(self, name: str, fields: Collection[str]) -> tuple[Message, ...]:
        """Return the objects of a list."""
        value = self.values.get(name, [])
        if not isinstance(value, list):
            self._refuse(name, "an array")
        return tuple(_message(each, f"{self._at(name)}[{i}]", fields) for i, each in enumerate(value))

    def mapping(self, name: str, fields: Collection[str]) -> dict[str, Message]:
        """Return the objects of a map by their key."""
        value = self.values.get(name, {})
        if not isinstance(value, dict):
            self._refuse(name, "an object")
        at = self._at(name)
        return {whole(key): _message(each, f"{at}[{shown(key)}]", fields) for key, each in value.items()}

    def _at(self, name: str) -> str:
        return f"{self.path}.{_snake(name)}" if self.path else _snake(name)

    def _refuse(self, name: str, expected: str) -> NoReturn:
        raise MessageError(f"Invalid value at '{self._at(name)}': expected {expected}.", field=self._at(name))


def read_message(body: bytes, fields: Collection[str]) -> Message:
    """Return the message in a body.

    Args:
        body: UTF-8, with or without a byte order mark.
        fields: the names that it may hold, in camelCase.

    Raises:
        MessageError: the body is no JSON object, an object has a key twice, or a name is not known.
    """
    try:
        document = _read(decoded(body).removeprefix(_MARK))
    except JsonError as error:
        raise MessageError(f"{_PAYLOAD} {shown(str(error))}.") from error
    return _message(document, "", fields)


def shown(value: str) -> str:
    """Return what a sender wrote as a message may repeat it: its first 100 code points, none that cannot be sent."""
    return whole(value[:_SHOWN])


def _read(text: str) -> object:
    try:
        return parsed(text)
    except JsonError as fault:
        if len(text) > _LOOSE_CHARACTERS:
            raise
        try:
            return parsed(_LOOSE.sub(_quoted, text))
        except JsonError:
            raise fault from None  # its places are those of the body


def _quoted(match: re.Match[str]) -> str:
    if match.group(1):
        return f'"{match.group(1)}"'
    return "" if match.group() == "," else match.group()


def _message(value: object, path: str, fields: Collection[str]) -> Message:
    where = f" at '{path}'" if path else ""
    if not isinstance(value, dict):
        place = f"Invalid value{where}: expected an object." if path else f"{_PAYLOAD} Expected an object."
        raise MessageError(place, field=path or None)
    spellings = {spelling: name for name in fields for spelling in (name, _snake(name))}
    values: dict[str, object] = {}
    for key, each in value.items():
        name = spellings.get(key)
        if name is None:
            message = f'{_PAYLOAD} Unknown name "{shown(key)}"{where}: Cannot find field.'
            raise MessageError(message, field=path or None)
        if name in values:
            raise MessageError(f'{_PAYLOAD} "{name}" is there twice, in two spellings.', field=path or None)
        if each is not None:
            values[name] = each
    return Message(values, path)


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda match: f"_{match.group().lower()}", name)
