"""How git names a commit: SHA-1 or SHA-256, in full."""

from __future__ import annotations

import re

COMMIT = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
