"""How often the language of a text is identified."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from retrieval_shared.language import LanguageIdentifier


def language_accuracy(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how often the identifier finds the language that a row states, overall and per language.

    A row has `text` and `lang` (ISO 639; of a tag such as zh-TW only the language counts). Rows without a language are
    left out. The result has `n`, `accuracy` (None without rows), `macro_accuracy` (the mean over languages),
    `languages` {code: {n, accuracy, mean_characters}} and `confusions`, the ten most frequent errors as
    {stated, found, n}.
    """
    identifier = LanguageIdentifier(frozenset())
    counts: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    errors: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if not row.get("lang"):
            continue
        stated = str(row["lang"]).split("-", 1)[0].lower()
        found = identifier.identify(row["text"]).code
        counts[stated] += 1
        characters[stated] += len(row["text"])
        if found == stated:
            hits[stated] += 1
        else:
            errors[stated, found] += 1
    languages = {
        code: {"n": n, "accuracy": hits[code] / n, "mean_characters": characters[code] / n}
        for code, n in sorted(counts.items())
    }
    accuracies = [each["accuracy"] for each in languages.values()]
    total = counts.total()
    return {
        "n": total,
        "accuracy": hits.total() / total if total else None,
        "macro_accuracy": sum(accuracies) / len(accuracies) if accuracies else None,
        "languages": languages,
        "confusions": [{"stated": s, "found": f, "n": n} for (s, f), n in errors.most_common(10)],
    }
