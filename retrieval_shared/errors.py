"""The exceptions of Wardline that somebody catches.

WardlineError
├── AdapterError   an adapter is malformed or was trained for another encoder
├── BundleError    a model bundle is missing, incomplete or not the one its manifest describes
├── RecordError    one record of a file cannot be read
└── ScoringError   the model could not score a text

A caller's mistake (an unknown name, a value out of range) is a plain `ValueError`.
"""

from __future__ import annotations


class WardlineError(Exception):
    """Base of every exception below."""


class AdapterError(WardlineError):
    """An adapter is malformed, or does not fit the encoder it would run in; the adapters that are loaded stay."""


class BundleError(WardlineError):
    """A model bundle is missing, incomplete or corrupt; the service must not start with it."""


class RecordError(WardlineError):
    """One record of a file cannot be read; the file's other records are not affected."""


class ScoringError(WardlineError):
    """The model could not score a text; the decision about it must go to a human."""
