"""What has no width: zero-width characters, bidirectional controls, stray control characters, piled-up marks."""

from __future__ import annotations

import re
import unicodedata

from retrieval_shared.obfuscation.edit import STACKING, Edit, is_wordy

_SELECTOR = "\ufe0e\ufe0f"  # text or emoji presentation of the character before
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_BIDI_CHAR = re.compile(f"[{_BIDI}]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LEGACY = re.compile("[\x80-\x9f]")  # the C1 controls, which in practice are Windows-1252 read as Latin-1
_INVISIBLE = re.compile(
    "["
    "\x00-\x08\x0e-\x1b\x7f"  # control characters that are not white space
    "\xad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # soft hyphen, grapheme joiner, fillers, Mongolian selectors
    "\u200b-\u200d\u2060-\u2064\u206a-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb"
    "\U0001d173-\U0001d17a\U000e0000-\U000e01ef"  # musical controls; tags and variation selectors
    f"{_BIDI}]+"
)
_ODD = re.compile(f"[^\x09-\x0d\x1c-\x7e\xa0-\xac\xae-\u02ff]|[{STACKING}]")
_MARK_FLOOD = re.compile(f"(?<=[{STACKING}]{{5}})[{STACKING}]+")
_DECORATED = re.compile(f"(?:[A-Za-z][{STACKING}]+){{3,}}")
_STACK = re.compile(f"[{STACKING}]+")
# Scripts written without spaces, where a zero-width space marks the break between two words.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_INDIC = re.compile("[\u0900-\u0dff\u1000-\u109f\u1700-\u17ff\u1900-\u1cff\ua800-\uabff\U00011000-\U00011fff]")
_MONGOLIAN = re.compile("[\u1800-\u18af]")
_VIRAMA = 9  # Unicode's combining class of the viramas, after or before which a joiner picks the shape of a letter
_BLACK_FLAG = "\U0001f3f4"  # tags after it spell a region: the flags of England, Scotland, Wales


def find_invisible(text: str) -> list[Edit]:
    """Return the removals of everything invisible that no script or emoji needs, in order.

    Kept: joiners inside emoji, Persian and Indic words; selectors after symbols and ideographs; flag tags. Lone
    surrogates become U+FFFD, because no encoder of UTF-8 takes them, and C1 controls what Windows-1252 means by them.
    A mark on top of five others is dropped: sorting a pile of them takes quadratic time.
    """
    if not _ODD.search(text):
        return []
    edits = [edit for match in _INVISIBLE.finditer(text) if (edit := _removal(text, *match.span())) is not None]
    edits += [Edit(match.start(), match.end(), "\ufffd") for match in _SURROGATE.finditer(text)]
    edits += [Edit(match.start(), match.end(), _legacy(match.group())) for match in _LEGACY.finditer(text)]
    edits += [Edit(match.start(), match.end(), "", "zero_width", True) for match in _MARK_FLOOD.finditer(text)]
    return sorted(edits)


def find_decoration(text: str) -> list[Edit]:
    """Return the removals of marks that adorn three or more plain Latin letters in a row, as in A̾r̾w̾a̾n̾.

    Meant for composed text, where an accent of some language has already joined its letter.
    """
    if text.isascii():
        return []
    return [
        Edit(stack.start(), stack.end(), "", "zero_width", True)
        for run in _DECORATED.finditer(text)
        for stack in _STACK.finditer(text, *run.span())
    ]


def _legacy(char: str) -> str:
    """Return what Windows-1252 writes at this C1 control; nothing for the five places it leaves empty."""
    return char.encode("latin-1").decode("cp1252", errors="ignore")


def _removal(text: str, start: int, end: int) -> Edit | None:
    """Return the edit that leaves of an invisible run only what its neighbours need, or None if they need it all."""
    run = text[start:end]
    before, after = text[start - 1 : start], text[end : end + 1]
    kept = _needed(run, before, after)
    if kept == run:
        return None
    kind = "bidi" if _BIDI_CHAR.search(run) else "zero_width"
    return Edit(start, end, kept, kind, _hides(run, text[max(0, start - 2) : start], text[end : end + 2]))


def _needed(run: str, before: str, after: str) -> str:
    """Return the part of an invisible run that shapes the characters around it."""
    if before == _BLACK_FLAG:
        return "".join(char for char in run if "\U000e0020" <= char <= "\U000e007f")
    if not before:
        return ""
    category = unicodedata.category(before)
    selects = (
        (run[0] in _SELECTOR and (category[0] != "L" or before == "ℹ"))
        or (category == "Lo" and ("\ufe00" <= run[0] <= "\ufe02" or run[0] >= "\U000e0100"))
        or (_MONGOLIAN.match(before) is not None and "\u180b" <= run[0] <= "\u180f")
    )
    kept, run = (run[0], run[1:]) if selects else ("", run)
    if run in {"\u200c", "\u200d"} and _joins(run, before, after or " "):
        kept += run
    return kept


def _joins(joiner: str, before: str, after: str) -> bool:
    """Return whether a single joiner or non-joiner is part of how its neighbours are written."""
    if unicodedata.category(before) in {"So", "Sk"}:
        return joiner == "\u200d" and unicodedata.category(after) in {"So", "Sm"}
    if _MONGOLIAN.match(before) or _MONGOLIAN.match(after):
        return True
    if _INDIC.match(before) or _INDIC.match(after):
        return _VIRAMA in {unicodedata.combining(before), unicodedata.combining(after)}
    arabic = [unicodedata.bidirectional(char) in {"AL", "NSM"} for char in (before, after)]
    # Between two Arabic letters a non-joiner parts them, visibly; a joiner does nothing but hide.
    return all(arabic) if joiner == "\u200c" else arabic[0] != arabic[1]


def _hides(run: str, before: str, after: str) -> bool:
    """Return whether a run splits a word where no honest text would; `before` and `after` are two characters long."""
    if not (is_wordy(before[-1:]) and is_wordy(after[:1])):
        return False
    if not run.strip("\xad"):  # a soft hyphen is good typography, unless it leaves a single letter on a side
        return not (len(before) == len(after) == 2 and is_wordy(before[0]) and is_wordy(after[1]))
    if run == "\u200c" and _INDIC.match(before[-1]) and _INDIC.match(after[0]):
        return False  # Bengali sets syllables apart with it
    if not run.strip("\u200b\u2060"):
        return not (_UNSPACED.match(before[-1]) and _UNSPACED.match(after[0]))
    if not run.strip("\u061c\u200e\u200f\u2066-\u2069\u202a\u202b\u202c"):  # these set apart two directions
        left, right = ("L" if unicodedata.bidirectional(char) == "L" else "R" for char in (before[-1], after[0]))
        return left == right
    return True
