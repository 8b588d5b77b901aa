"""A subword vocabulary for many scripts: byte-pair encoding that falls back to bytes, over lowercase NFKC text.

NFKC makes one spelling of full-width, ligature and compatibility forms; lower case makes "FREE" and "free" one word;
accents stay, because Vietnamese, and much else, is told apart by them. A character outside the alphabet becomes its
UTF-8 bytes, so that no script is unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import islice

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

PAD, UNKNOWN, FIRST, LAST = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
SPECIAL = (PAD, UNKNOWN, FIRST, LAST)
"""Special tokens, ids 0 to 3; `UNKNOWN` is never produced."""
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""The byte tokens, ids 4 to 259."""
START = "\u2581"
"""Marks the first piece of a word."""


def train_tokenizer(
    texts: Iterable[str], *, vocabulary: int, alphabet: int = 6_000, words: Sequence[str] = (), whole_words: int = 0
) -> Tokenizer:
    """Return a tokenizer trained on `texts`.

    Byte-pair encoding (Sennrich, Haddow and Birch 2016, arXiv 1508.07909) over words and single signs. Each is marked
    at its front, so that a word has the same pieces after a space and after a bracket.

    Args:
        texts: the corpus, in the mixture that is wanted.
        vocabulary: number of ids, special and byte tokens included.
        alphabet: number of characters that are never written as bytes.
        words: words to keep whole where they stand alone, the most wanted first.
        whole_words: how many of them to add to those that are pieces already.

    Raises:
        ValueError: the vocabulary has no room for special tokens, bytes, whole words and alphabet.
    """
    fixed = len(SPECIAL) + len(BYTES) + whole_words
    if vocabulary <= fixed + alphabet:
        raise ValueError(f"vocabulary: found {vocabulary}, allowed more than {fixed + alphabet}")
    plain = Tokenizer(models.BPE())
    plain.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])  # type: ignore[assignment]
    plain.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex(r"\s+"), behavior="removed"),
            pre_tokenizers.Punctuation(behavior="isolated"),
            pre_tokenizers.Metaspace(replacement=START, prepend_scheme="always", split=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - fixed, limit_alphabet=alphabet, show_progress=False, max_token_length=24
    )
    plain.train_from_iterator(texts, trainer)
    return _with_bytes(plain, words, whole_words)


def _with_bytes(plain: Tokenizer, words: Sequence[str], whole_words: int) -> Tokenizer:
    """Return the tokenizer with special and byte tokens at the front of its vocabulary, where no text can name them.

    Whole words stand at its end: no merges lead to them, so a word is looked up before it is taken apart.
    """
    document = json.loads(plain.to_str())
    pieces = sorted(document["model"]["vocab"], key=document["model"]["vocab"].__getitem__)
    missing = (START + word for word in words if START + word not in document["model"]["vocab"])
    names = [*SPECIAL, *BYTES, *pieces, *islice(missing, whole_words)]
    document["model"] |= {
        "vocab": {name: i for i, name in enumerate(names)}, "unk_token": UNKNOWN, "byte_fallback": True,
        "ignore_merges": True,
    }  # fmt: skip
    whole = Tokenizer.from_str(json.dumps(document))
    whole.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=f"{FIRST} $A {LAST}", special_tokens=[(FIRST, names.index(FIRST)), (LAST, names.index(LAST))]
    )
    return whole
