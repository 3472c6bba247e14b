"""What is in the folder of a steering, for a person or as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from audit.lm.load import load
from audit.lm.subject import Subject
from audit.text.safe import counted, for_terminal

from ..files import load_maps, require_model
from ..words import pooling_words, support_words
from .inputs import steering_folder


def facts_of(where: Path, subject: Subject | None) -> dict[str, Any]:
    """What it is; with a subject, a model that is not its own is refused.

    Raises:
        InputError, DataError, ModelError: As `steering_folder`, `load_maps`, `require_model` and `load`.
    """
    folder = steering_folder(where)
    maps, record = load_maps(folder)
    if subject is not None:
        require_model(record, load(subject), maps, folder=folder)
    return {
        "folder": str(folder),
        "method": record.method,
        "model": record.model,
        "revision": record.revision,
        "fingerprint": dict(record.fingerprint),
        "fits": None if subject is None else subject.model,
        "pattern": record.pattern,
        "pooling": {"kind": record.pooling.kind, "skip_bos": record.pooling.skip_bos},
        "settings": dict(record.settings),
        "data_sha256": record.data,
        "strength": record.evidence.get("strength"),
        "sites": [
            {
                "site": site,
                "neurons": len(one),
                "changed": int(one.support().sum()),
                "largest_scale": float((one.w - 1).abs().max()),
                "largest_shift": float(one.b.abs().max()),
                "clipped": one.clipped,
            }
            for site, one in maps.items()
        ],
    }


def tell(facts: dict[str, Any], *, as_json: bool) -> None:
    """Print them."""
    if as_json:
        print(json.dumps(facts))
        return
    sites = facts["sites"]
    weights = str(facts["fingerprint"]["weights"])[:16]
    told = [
        f"{facts['method']} for {facts['model']} (weights {weights})",
        f"{counted(len(sites), 'site')} that match {facts['pattern']}: "
        f"{support_words(sum(one['changed'] for one in sites), sum(one['neurons'] for one in sites))} changed",
        f"pooled: {pooling_words(**facts['pooling'])}",
        f"sentences (SHA-256): {facts['data_sha256'] or 'not told'}",
    ]
    if facts["strength"] is not None:
        told.append(f"strength in the method's source: {facts['strength']}")
    told += [f"{name}: {value}" for name, value in facts["settings"].items()]
    if facts["fits"] is not None:
        told.append(f"it is a steering of {facts['fits']}")
    longest = max(len(one["site"]) for one in sites)
    told.append(f"{'site':<{longest}}  neurons  changed  |scale - 1| to  |shift| to")
    for one in sites:
        told.append(
            f"{one['site']:<{longest}}  {one['neurons']:>7,}  {one['changed']:>7,}  {one['largest_scale']:>14.4g}  "
            f"{one['largest_shift']:>10.4g}{'  clipped to a range' if one['clipped'] else ''}"
        )
    for line in told:
        print(for_terminal(line))
