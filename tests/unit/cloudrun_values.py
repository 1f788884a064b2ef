"""Options and wishes for tests of ``cloudrun``."""

from __future__ import annotations

import json
from typing import Any

from outpost.backends.cloudrun_options import CloudRunOptions
from outpost.backends.cloudrun_service import Wish

PROJECT, REGION, SERVICE = "example-project", "us-central1", "outpost-worker"
IMAGE = "us-central1-docker.pkg.dev/example-project/outpost/worker:1"
FEDERATION = "f-0123456789"


def some_options(**more: Any) -> CloudRunOptions:
    """Return options as they come from a configuration."""
    fields = {"project": PROJECT, "region": REGION, "service": SERVICE, **more}
    return CloudRunOptions.model_validate_json(json.dumps(fields), strict=True)


def a_wish(
    *, max_workers: int | None = 20, image: str | None = IMAGE, whose: str = FEDERATION, **more: Any
) -> Wish:
    """Return what a service is to be."""
    options = some_options(**more)
    return Wish(options=options, federation_id=whose, max_workers=max_workers, image=image)
