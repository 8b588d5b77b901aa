"""Policies as the document shows them: what is sent, and what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

POLICY_TEXT = """\
id: shop
version: 1
heads:
  - name: gambling
    kind: topic
    definition: "Promotes games or bets with a stake."
    default: {effect: PROHIBITED, severity: 3}
regions:
  GB:
    gambling:
      effect: LIMITED
      severity: 2
      constraints: [{kind: age, value: 18}]
"""
POLICY_VALUES: Mapping[str, Any] = {
    "id": "shop",
    "version": 1,
    "heads": [
        {
            "name": "gambling",
            "kind": "topic",
            "definition": "Promotes games or bets with a stake.",
            "default": {"effect": "PROHIBITED", "severity": 3},
        }
    ],
    "regions": {
        "GB": {"gambling": {"effect": "LIMITED", "severity": 2, "constraints": [{"kind": "age", "value": 18}]}}
    },
}
"""The same as `POLICY_TEXT`."""

_DIGEST = "37cb9ea45d5cbae4a1ebc1ba2d11b2db0d04f3a0cf7cd4b6b2b24b1b3a26f2a0"
_PROHIBITED = {"effect": "PROHIBITED", "severity": 3, "constraints": [], "on_error": "escalate"}
_LIMITED = {
    "effect": "LIMITED",
    "severity": 2,
    "constraints": [{"kind": "age", "value": 18}],
    "on_error": "escalate",
}
SHOWN: Mapping[str, Any] = {
    "ref": "shop@1",
    "id": "shop",
    "version": 1,
    "digest": _DIGEST,
    "served": False,
    "heads": [
        {
            "name": "gambling",
            "kind": "topic",
            "definition": "Promotes games or bets with a stake.",
            "default": _PROHIBITED,
            "dsa": [],
        }
    ],
    "groups": {},
    "zones": {},
    "regions": {"GB": {"gambling": _LIMITED}},
    "unsupported_language": "escalate",
    "publications": [],
}
PUBLISHED: Mapping[str, Any] = {
    **SHOWN,
    "served": True,
    "publications": [{"ref": "shop@1", "action": "publish", "by": "ann", "at": "2026-11-21T08:30:00+00:00"}],
}
LISTED: Mapping[str, Any] = {
    "policies": [
        {"ref": "shop@1", "id": "shop", "version": 1, "digest": _DIGEST, "served": True, "heads": ["gambling"]}
    ],
    "thresholds": {
        "id": "thr_888cb6acca",
        "prevalence": 0.02,
        "little_data_below": 200,
        "heads": [
            {
                "name": "gambling",
                "escalate": 0.41,
                "act": 0.803,
                "basis": "precision 0.95 on the validation rows",
                "positives": 912,
                "negatives": 20_411,
                "little_data": False,
            }
        ],
    },
}
USABLE: Mapping[str, Any] = {"valid": True, "ref": "shop@1", "digest": _DIGEST}
UNUSABLE: Mapping[str, Any] = {
    "valid": False,
    "error": "line 7: heads.0.default.effect: 'FORBIDDEN' is not one of ['ALLOWED', 'LIMITED', ...]",
}
CHANGES: Mapping[str, Any] = {
    "before": "shop@1",
    "after": "shop@2",
    "changes": [{"region": "FR", "policy": "gambling", "before": _PROHIBITED, "after": _LIMITED}],
    "zones": [{"region": "FR", "before": None, "after": "Europe/Paris"}],
    "unsupported_language": {"before": "escalate", "after": "flag"},
}
BACKTESTED: Mapping[str, Any] = {
    "policy": "shop@2",
    "thresholds": "thr_888cb6acca",
    "decisions": 10_000,
    "flips": 31,
    "regions": [
        {"region": "FR", "before": "reject", "after": "limit", "decisions": 31},
        {"region": "FR", "before": "approve", "after": "approve", "decisions": 9_969},
    ],
    "topics": [{"policy": "gambling", "before": "PROHIBITED reject", "after": "LIMITED limit", "decisions": 31}],
    "examples": [
        {
            "id": 4_711,
            "item_id": "ad-1",
            "region": "FR",
            "before": "reject",
            "after": "limit",
            "reasons": ["gambling: probability 0.995 >= act 0.803; LIMITED by the rule of FR: limited"],
        }
    ],
}
