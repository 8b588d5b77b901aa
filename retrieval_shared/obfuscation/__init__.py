"""How words are disguised, one disguise per file: each finds the edits that undo it, none of them changes a text."""

from __future__ import annotations
