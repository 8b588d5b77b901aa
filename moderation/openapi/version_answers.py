"""The shapes of what is answered about versioned documents, policies and rules alike."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """A body whose fields are all named."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class PublicationResponse(Answer):
    """One change of the version in force."""

    ref: str
    action: Literal["publish", "rollback", "withdraw"]
    by: str
    """Name of the API key."""
    at: datetime


class UsableDocument(Answer):
    """A document that could be published here."""

    valid: Literal[True]
    ref: str
    digest: str


class UnusableDocument(Answer):
    """A document that could not."""

    valid: Literal[False]
    error: str
    """Line and reason."""
