"""The front door: one BentoML service that answers for all of Wardline's products over one encoder."""

from __future__ import annotations

import os

os.environ["BENTOML_DO_NOT_TRACK"] = "True"  # before BentoML is imported

import bentoml

from moderation.service import SERVICE, ModerationHost, ReadyBody, build_app, current_api, current_readiness


@bentoml.service(name="wardline", **SERVICE)
@bentoml.asgi_app(build_app(current_api))
class Wardline(ModerationHost):
    """Ad moderation: which policies an ad violates, and what each target region does about it."""


# mypy does not follow what a class decorator returns.
Wardline.add_asgi_middleware(ReadyBody, current=current_readiness)  # type: ignore[attr-defined]
