"""The language of a text, identified offline."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier as Model

UNDETERMINED = "und"
"""The ISO 639 code of a text whose language cannot be told: one without letters."""

CANDIDATES = frozenset({
    "af", "am", "ar", "az", "be", "bg", "bn", "bs", "ca", "cs", "cy", "da", "de", "el", "en", "es", "et", "eu",
    "fa", "fi", "fr", "ga", "gl", "gu", "he", "hi", "hr", "hu", "hy", "id", "is", "it", "ja", "ka", "kk", "km",
    "kn", "ko", "ky", "lo", "lt", "lv", "mk", "ml", "mn", "mr", "ms", "my", "ne", "nl", "no", "pa", "pl", "ps",
    "pt", "ro", "ru", "si", "sk", "sl", "sq", "sr", "sv", "sw", "ta", "te", "th", "tl", "tr", "uk", "ur", "uz",
    "vi", "zh",
})  # fmt: skip
"""The languages told apart: those of states and large regions. The model knows 62 smaller ones more; on a dozen words
those only take away from their neighbours (Bavarian from German, Pidgin from English)."""

_READ = 2000  # code points; the model reads byte by byte, and more of them change nothing
_NOISE = re.compile(r"https?://\S+|www\.\S+|[@#]\w+|\d+")
_LETTER = re.compile(r"[^\W\d_]")
# Scripts that one candidate alone is written in. Checked in this order: Japanese mixes kana with Han.
_SCRIPTS = tuple(
    (code, re.compile(f"[{letters}]"))
    for code, letters in (
        ("ja", "\u3041-\u3096\u30a1-\u30fa\uff66-\uff9d"), ("ko", "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3"),
        ("zh", "\u3400-\u9fff"), ("th", "\u0e01-\u0e30"), ("he", "\u05d0-\u05ea"), ("el", "\u0386-\u03ce"),
        ("hy", "\u0531-\u0587"), ("ka", "\u10a0-\u10ff"), ("am", "\u1200-\u137f"), ("bn", "\u0985-\u09b9"),
        ("pa", "\u0a05-\u0a39"), ("gu", "\u0a85-\u0ab9"), ("ta", "\u0b85-\u0bb9"), ("te", "\u0c05-\u0c39"),
        ("kn", "\u0c85-\u0cb9"), ("ml", "\u0d05-\u0d39"), ("si", "\u0d85-\u0dc6"), ("lo", "\u0e81-\u0eb0"),
        ("my", "\u1000-\u1021"), ("km", "\u1780-\u17a2"),
    )
)  # fmt: skip
_SHARE = 0.5  # of the letters in one such script; Han and kana say in a letter what Latin says in three
_EAST_ASIAN_SHARE = 0.2
_EAST_ASIAN = frozenset({"ja", "ko", "zh"})


@dataclass(frozen=True)
class Language:
    """The language of a text.

    `code` is ISO 639, two letters, or `UNDETERMINED`. `confidence` is in [0, 1]: 1 where the script decides, 0 where
    the language is undetermined. `supported` says whether the models in use were trained for it.
    """

    code: str
    confidence: float
    supported: bool


class LanguageIdentifier:
    """Tells the language of texts; the model is loaded with the first text that needs it, once per process."""

    def __init__(self, supported: frozenset[str]) -> None:
        """Take the ISO 639 codes of the supported languages; raise ValueError for one that cannot be told."""
        if unknown := sorted(supported - CANDIDATES):
            raise ValueError(f"supported must be among {sorted(CANDIDATES)}, found {unknown}")
        self._supported = supported

    def identify(self, text: str) -> Language:
        """Return the language of a text, judged by its first 2,000 code points; any str will do.

        >>> LanguageIdentifier(frozenset({"en"})).identify("3 x 4 = 12")
        Language(code='und', confidence=0.0, supported=False)
        """
        code, confidence = _identify(text[:_READ])
        return Language(code, confidence, code in self._supported)


def _identify(text: str) -> tuple[str, float]:
    """Return code and confidence for a text."""
    words = _NOISE.sub(" ", text)
    if not _LETTER.search(words):
        words = text
    letters = len(_LETTER.findall(words))
    if letters < 2:
        return UNDETERMINED, 0.0
    for code, script in _SCRIPTS:
        share = _EAST_ASIAN_SHARE if code in _EAST_ASIAN else _SHARE
        if len(script.findall(words)) >= share * letters:
            return code, 1.0
    with _LOADING:
        model = _model()
    code, confidence = model.classify(words)
    return code, min(1.0, max(0.0, float(confidence)))


_LOADING = threading.Lock()  # the first texts of a service arrive together, and the model should be read once


@lru_cache(maxsize=1)
def _model() -> Model:
    """Return the identifier of py3langid with normalised probabilities over the candidates."""
    from py3langid.langid import MODEL_FILE
    from py3langid.langid import LanguageIdentifier as Model

    whole = Model.from_model_file(MODEL_FILE)
    whole.set_languages(CANDIDATES)
    # Made anew of its parts: `whole` keeps the table of all languages beside theirs, 20 MB that nobody reads.
    return Model(
        whole.nb_ptc, whole.nb_pc, whole.nb_classes, whole.tk_nextmove, whole.tk_output, norm_probs=True,
        tk_row=whole.tk_row,
    )  # fmt: skip
