"""What one revision of a service declares: all that the front end goes by."""

from __future__ import annotations

from dataclasses import dataclass

from tests.doubles.cloud_run.container import Content


@dataclass(frozen=True, kw_only=True)
class Revision:
    """How instances of a service are run.

    ``cpu_idle``: request-based billing, where an instance without an open request gets no CPU.
    ``http2``: the container speaks HTTP/2 with prior knowledge (its port is named ``h2c``).
    """

    content: Content
    name: str = "revision-1"
    concurrency: int = 1
    timeout_s: float = 300.0
    min_instances: int = 0
    max_instances: int = 100
    vcpus: float = 1.0
    memory_gib: float = 0.5
    cpu_idle: bool = True
    session_affinity: bool = False
    http2: bool = True
