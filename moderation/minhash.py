"""MinHash: a short signature of a text, whose agreement with another's estimates how alike the two texts are."""

from __future__ import annotations

import hashlib
import re

import numpy as np
from numpy.typing import NDArray

from retrieval_shared.obfuscation.edit import MARKS

METHOD = "minhash-c3-256-1"
"""Name of all that makes a signature; only signatures of one method can be compared. A change is the next number."""
LENGTH = 256
"""Values per signature: the estimate of a similarity of .8 has a standard error of sqrt(.8 * .2 / 256) = .025."""
SHINGLE = 3
"""Characters per shingle. Of the 2,903 ads in training/data, 97% stay at .8 or more when a word is changed, all when
prices are changed or sentences re-ordered, and no two are nearer than .51. Longer shingles keep fewer: of 5, 95% of the
changed words; of two words each, 94%, and 63% of the re-ordered."""
_SKETCH = 32  # values that are compared first
_PART = 1024  # shingles hashed at once: what they need fits a processor's cache
_APART = re.compile(f"[^\\w{MARKS}]+")
_DIGIT = re.compile(r"\d")


def signature(text: str) -> NDArray[np.uint16] | None:
    """Return the signature uint16 `[LENGTH]` of a text, None where it has no letter and no digit.

    Compared are the sets of shingles of lower-case letters, digits and marks; signs count as spaces, and every digit as
    0, so that another price or telephone number is no difference. The minima of Broder, On the resemblance and
    containment of documents (1997), under multiply-shift hashing (Dietzfelbinger et al. 1997), of which the low 16 bits
    are kept (Li and Koenig, b-bit minwise hashing, 2010; two unlike shingles then agree once in 65,536).
    """
    hashes = _shingles(text)
    if hashes.size == 0:
        return None
    lowest = np.full(LENGTH, 2**32 - 1, dtype=np.uint64)
    for start in range(0, hashes.size, _PART):
        part = hashes[start : start + _PART, None]  # [s, 1]
        lowest = np.minimum(lowest, ((part * _FACTORS + _TERMS) >> np.uint64(32)).min(axis=0))
    return (lowest & np.uint64(0xFFFF)).astype(np.uint16)


class SignatureIndex:
    """Signatures by id, to be searched for those alike; 512 bytes each, up to twice that while there is room to grow.

    Every one is compared, which for 100,000 takes about 1 ms. Not safe for threads.
    """

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._columns: dict[str, int] = {}
        # [LENGTH, room]; a column each, so that the first values of all can be compared alone
        self._signatures = np.empty((LENGTH, 64), dtype=np.uint16)

    def __len__(self) -> int:
        return len(self._ids)

    def put(self, name: str, own: NDArray[np.uint16]) -> None:
        """Keep a signature uint16 `[LENGTH]` under an id, in place of the one it had."""
        column = self._columns.setdefault(name, len(self._ids))
        if column == len(self._ids):
            self._ids.append(name)
            if column == self._signatures.shape[1]:
                self._signatures = np.concatenate([self._signatures, np.empty_like(self._signatures)], axis=1)
        self._signatures[:, column] = own

    def drop(self, name: str) -> None:
        """Forget an id, if it is there."""
        column = self._columns.pop(name, None)
        if column is None:
            return
        last = self._ids.pop()
        if last != name:  # the last one fills the gap
            self._signatures[:, column] = self._signatures[:, len(self._ids)]
            self._ids[column] = last
            self._columns[last] = column

    def near(self, wanted: NDArray[np.uint16], threshold: float) -> list[tuple[str, float]]:
        """Return the ids that are at least that similar, with their similarities in [0, 1], in no order.

        A similarity estimates the share that two texts have of all their shingles together: 1 where they have the same,
        0 where they have none in common.

        Args:
            wanted: uint16 `[LENGTH]`.
            threshold: in (0, 1].
        """
        signatures = self._signatures[:, : len(self._ids)]  # [LENGTH, n]
        agreeing = (signatures[:_SKETCH] == wanted[:_SKETCH, None]).sum(axis=0, dtype=np.uint8)  # [n]
        # half the threshold lies five standard errors below it at .8
        candidates = np.flatnonzero(agreeing >= threshold / 2 * _SKETCH)
        similarities = (signatures[:, candidates] == wanted[:, None]).mean(axis=0).tolist()
        found = zip(candidates.tolist(), similarities, strict=True)
        return [(self._ids[column], similarity) for column, similarity in found if similarity >= threshold]


def _shingles(text: str) -> NDArray[np.uint64]:
    """Return the 32-bit hashes uint64 `[s]` of the s different shingles of a text; none where it has no word."""
    words = _APART.sub(" ", text.lower()).strip()
    if not words:
        return np.empty(0, dtype=np.uint64)
    codes = np.frombuffer(f" {_DIGIT.sub('0', words)} ".encode("utf-32-le", "replace"), dtype="<u4").astype(np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, SHINGLE)  # [s, SHINGLE]
    return np.unique((windows * _MULTIPLIERS).sum(axis=1) >> np.uint64(32))


def _constants(name: str, count: int) -> NDArray[np.uint64]:
    """Return numbers uint64 `[count]` that stay the same for as long as signatures are kept."""
    return np.frombuffer(hashlib.shake_256(name.encode()).digest(8 * count), dtype="<u8").astype(np.uint64)


_MULTIPLIERS = _constants("shingle", SHINGLE) | np.uint64(1)
_FACTORS = _constants("factors", LENGTH) | np.uint64(1)
_TERMS = _constants("terms", LENGTH)
