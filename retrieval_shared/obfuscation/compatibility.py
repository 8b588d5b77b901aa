"""Letters in fancy dress: full-width, mathematical, circled; and Unicode's compatibility forms at large."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Literal

from retrieval_shared.obfuscation.edit import MARKS, Edit, character_class

_SELECTORS = {"\ufe0e", "\ufe0f"}
_FULL_WIDTH = {chr(point) for point in (*range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))}
_EAST_ASIAN = re.compile("[\u1100-\u11ff\u3000-\u9fff\uac00-\ud7af\uff66-\uff9f]")
_LETTER_JAMO = re.compile("[\u3131-\u318e\uffa0-\uffdc]")
_JAMO = re.compile("[\u1100-\u11ff]")
_NAME = re.compile(
    r"(?:NEGATIVE (?:CIRCLED|SQUARED)|PARENTHESIZED) LATIN (?:CAPITAL|SMALL) LETTER ([A-Z])"
    r"|LATIN LETTER SMALL CAPITAL ([A-Z])"
)
_STYLED_BLOCKS = (
    (0x02B0, 0x02E5), (0x0260, 0x02B0), (0x1D00, 0x1DC0), (0x2071, 0x2095), (0x2100, 0x2150), (0x249C, 0x24EA),
    (0xA730, 0xA732), (0xFF21, 0xFF5B), (0x1D400, 0x1D6A4), (0x1F110, 0x1F18A),
)  # fmt: skip


def _styled_letters() -> dict[str, str]:
    """Return every styled letter and the plain one of ASCII that it dresses up."""
    letters = {}
    for point in (point for low, high in _STYLED_BLOCKS for point in range(low, high)):
        char = chr(point)
        plain = unicodedata.normalize("NFKC", char)
        if name := _NAME.fullmatch(unicodedata.name(char, "")):
            plain = (name[1] or name[2]).lower()
        if len(plain) == 1 and plain.isascii() and plain.isalpha() and plain != char:
            letters[char] = plain
    return letters


_STYLED = _styled_letters()
_STYLED_CLASS = character_class([ord(char) for char in _STYLED])
_STYLED_CHAR = re.compile(f"[{_STYLED_CLASS}]")
_STYLED_WORD = re.compile(rf"(?:[{_STYLED_CLASS}]|[^\W_][{MARKS}]*)+")
_SMALL_CAPITAL = {char for char in _STYLED if unicodedata.name(char).startswith("LATIN LETTER SMALL CAPITAL")}
_NOT_AMONG_SMALL_CAPITALS = re.compile("[abd-np-rtuyæðŋɐ-ɟʃʊʌʒəθ]")  # c o s v w x z look the same in both


def find_styled(text: str) -> list[Edit]:
    """Return the edits that undress words with three or more styled letters, such as 𝐌𝐈𝐘𝐀 or ᴄᴀsɪɴᴏ.

    A mathematical variable or two is no disguise, nor is full-width Latin in East Asian text, nor a phonetic
    transcription, which borrows a few small capitals: those are left to `find_compatible`.
    """
    if text.isascii() or not _STYLED_CHAR.search(text):
        return []
    honest = _FULL_WIDTH if _EAST_ASIAN.search(text) else set()
    edits: list[Edit] = []
    for word in _STYLED_WORD.finditer(text):
        places = [at for at in range(*word.span()) if text[at] in _STYLED and text[at] not in honest]
        if len(places) >= 3 and not _is_phonetic(word.group()):
            edits += [Edit(at, at + 1, _STYLED[text[at]], "compatibility", True) for at in places]
    return edits


def find_compatible(text: str) -> list[Edit]:
    """Return the edits that bring a text to Unicode's form NFKC, each over one character with its combining marks.

    Some stay, because folding them would change what is said: super- and subscript digits and fractions (10² is not
    102, 1½ is not 11/2), spacing accents (in don´t, NFKC would put a space), and Korean letters that stand for
    themselves (ㅋㅋㅋ); those that make up a syllable are composed.
    """
    if unicodedata.is_normalized("NFKC", text):
        return []
    alphabet = set(text)
    attaching = {char for char in alphabet if _attaches(char)}
    special = attaching | {char for char in alphabet if _fold(char) != char}
    edits: list[Edit] = []
    done = 0
    for at in [at for at, char in enumerate(text) if char in special]:
        if at < done:
            continue
        start = at - 1 if text[at] in attaching and at > done else at
        done = at + 1
        while done < len(text) and text[done] in attaching:
            done += 1
        if (edit := _folding(text, start, done)) is not None:
            done = edit.end
            edits.append(edit)
    return edits


def _is_phonetic(word: str) -> bool:
    """Return whether small capitals stand among letters that have a small capital of their own."""
    return not _SMALL_CAPITAL.isdisjoint(word) and _NOT_AMONG_SMALL_CAPITALS.search(word) is not None


def _folding(text: str, start: int, end: int) -> Edit | None:
    """Return the edit that folds one character with its marks, or None where it changes nothing."""
    cluster = text[start:end]
    folded = _fold(cluster)
    if folded == cluster:
        return None
    if text[end : end + 1] in _SELECTORS and _fold(cluster[0]) != cluster[0]:
        end += 1  # a sign that lost its shape has no use for the selector of that shape
    everyday = folded == unicodedata.normalize("NFC", cluster)
    return Edit(start, end, folded, "" if everyday else "compatibility")


def _fold(cluster: str) -> str:
    """Return a character with its marks in form NFKC, or in form NFC if folding would change what it says."""
    if len(cluster) == 1:
        return _fold_char(cluster)
    folded = unicodedata.normalize("NFKC" if _LETTER_JAMO.match(cluster) else _form(cluster[0]), cluster)
    loose = _LETTER_JAMO.search(cluster) and _JAMO.search(folded)
    return unicodedata.normalize("NFC", cluster) if loose else folded


@lru_cache(maxsize=16384)
def _fold_char(char: str) -> str:
    """Return `_fold` of a single character, remembered."""
    return unicodedata.normalize(_form(char), char)


def _form(char: str) -> Literal["NFC", "NFKC"]:
    """Return the form to which a character is brought."""
    tag = unicodedata.decomposition(char).partition(" ")[0]
    if tag == "<fraction>" or (tag in {"<super>", "<sub>"} and char.isdigit()):
        return "NFC"
    if _LETTER_JAMO.match(char):
        return "NFC"
    plain = unicodedata.normalize("NFKC", char)
    return "NFC" if len(plain) > 1 and plain[0] == " " else "NFKC"


@lru_cache(maxsize=16384)
def _attaches(char: str) -> bool:
    """Return whether a character may combine with, or be sorted among, what stands before it."""
    first = unicodedata.normalize("NFKD", char)[0]
    return unicodedata.combining(first) != 0 or first in _second_halves()


@lru_cache(maxsize=1)
def _second_halves() -> frozenset[str]:
    """Return the characters that are the second half of some composed character (Hangul vowels and finals, too)."""
    pairs = (unicodedata.decomposition(chr(point)).split() for point in range(0xC0, 0x1F000))
    halves = {chr(int(pair[1], 16)) for pair in pairs if len(pair) == 2 and pair[0][0] != "<"}
    return frozenset(halves | {chr(point) for point in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))})
