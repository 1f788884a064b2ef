"""What the control plane refuses: names, sizes and numbers, by Google's documents.

Sources (cloud.google.com/run/docs, in excerpts): the reference of ``google.cloud.run.v2``,
"Configure CPU limits", "Configure memory limits", "Set maximum concurrent requests",
"Set request timeout", "Set task timeout", "Set maximum retries".
"""

from __future__ import annotations

import re
from typing import Any

from tests.doubles.cloud_run.rpc import Code, Refused

PARENT = re.compile(r"projects/[a-z0-9-]+/locations/[a-z0-9-]+")
NAME = re.compile(r"[a-z]([a-z0-9-]{0,47}[a-z0-9])?")
SERVICE_TIMEOUT_S = 3600.0
TASK_TIMEOUT_S = 168 * 3600.0
CONCURRENCY = range(1, 1001)
RETRIES = range(11)
WHOLE_CPUS = (1.0, 2.0, 4.0, 6.0, 8.0)
LEAST_FRACTION = 0.08
MIB = 1 << 20
GIB = 1 << 30
MEMORY_LEAST = {4.0: 2 * GIB, 6.0: 4 * GIB, 8.0: 4 * GIB}
CPUS_LEAST = ((24 * GIB, 8.0), (16 * GIB, 6.0), (8 * GIB, 4.0), (4 * GIB, 2.0))
MEMORY_MOST = 32 * GIB
PROTOCOLS = ("", "http1", "h2c")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 1 << 10, "Mi": MIB, "Gi": GIB}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z]*)")


def check_id(parent: str, name: str) -> None:
    """Refuse a name of a service or job that cannot be."""
    require(bool(PARENT.fullmatch(parent)), f"'{parent}' is not projects/P/locations/L.")
    require(
        bool(NAME.fullmatch(name)),
        f"Invalid resource name '{name}': it must use only lowercase alphanumeric characters and "
        "dashes, begin with a letter, not end with a dash, and be less than 50 characters.",
    )


def check_service(service: Any) -> None:
    """Refuse a service that the platform would not run."""
    template = service.template
    check_container(template.containers, jobs=False)
    seconds = template.timeout.total_seconds() if template.timeout else 0.0
    require(
        0 <= seconds <= SERVICE_TIMEOUT_S,
        f"template.timeout: must be between 1 and {SERVICE_TIMEOUT_S:g} seconds.",
    )
    concurrency = template.max_instance_request_concurrency
    require(
        concurrency == 0 or concurrency in CONCURRENCY,
        "template.max_instance_request_concurrency: must be between 1 and 1000.",
    )
    scaling = template.scaling
    most = scaling.max_instance_count
    require(
        scaling.min_instance_count >= 0 and (most == 0 or scaling.min_instance_count <= most),
        "template.scaling: min_instance_count must not be greater than max_instance_count.",
    )
    resources = template.containers[0].resources
    cpus = cpus_of(resources)
    if cpus < 1:
        require(
            concurrency <= 1, "CPU less than 1 is only supported with a concurrency equal to 1."
        )
        require(resources.cpu_idle, "CPU less than 1 is not supported with CPU always allocated.")


def check_job(job: Any) -> None:
    """Refuse a job that the platform would not run."""
    task = job.template.template
    check_container(task.containers, jobs=True)
    seconds = task.timeout.total_seconds() if task.timeout else 0.0
    require(
        0 <= seconds <= TASK_TIMEOUT_S,
        f"template.template.timeout: must be at most {TASK_TIMEOUT_S:g} seconds.",
    )
    require(task.max_retries in RETRIES, "template.template.max_retries: must be 0 to 10.")
    require(job.template.task_count >= 0, "template.task_count: must be positive.")


def check_container(containers: Any, *, jobs: bool) -> None:
    require(len(containers) > 0, "template.containers: at least one container is required.")
    for container in containers:
        require(bool(container.image), "template.containers[0].image: Image is required.")
        require(not (jobs and container.ports), "ports: not allowed for jobs.")
        require(len(container.ports) <= 1, "ports: only one port may be declared.")
        for port in container.ports:
            require(port.name in PROTOCOLS, "ports.name: must be 'http1' or 'h2c'.")
        _check_size(container.resources)


def _check_size(resources: Any) -> None:
    unknown = set(resources.limits) - {"cpu", "memory", "nvidia.com/gpu"}
    require(not unknown, f"resources.limits: unsupported keys {sorted(unknown)}.")
    cpus, memory = cpus_of(resources), memory_of(resources)
    require(
        cpus in WHOLE_CPUS or LEAST_FRACTION <= cpus < 1,
        f"Invalid value specified for cpu: {cpus:g}. It must be 0.08 to 1, 2, 4, 6 or 8.",
    )
    require(memory <= MEMORY_MOST, "Invalid value specified for memory: at most 32Gi.")
    least = 128 * MIB if cpus < 1 or resources.cpu_idle else 512 * MIB
    require(memory >= MEMORY_LEAST.get(cpus, least), f"Too little memory for {cpus:g} CPU.")
    needed = next((number for above, number in CPUS_LEAST if memory > above), 0.0)
    require(cpus >= needed, f"The given memory needs at least {needed:g} CPU.")


def cpus_of(resources: Any) -> float:
    """Return the CPUs that a container may use, 1 by default."""
    text = resources.limits.get("cpu", "1")
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def memory_of(resources: Any) -> int:
    """Return the bytes of memory that a container may use, 512 MiB by default."""
    text = resources.limits.get("memory", "512Mi")
    found = _QUANTITY.fullmatch(text)
    require(found is not None and found[2] in _UNITS, f"'{text}' is no quantity of memory.")
    assert found is not None
    return int(float(found[1]) * _UNITS[found[2]])


def require(holds: bool, message: str) -> None:
    """Refuse with ``INVALID_ARGUMENT`` what does not hold."""
    if not holds:
        raise Refused(Code.INVALID_ARGUMENT, message)
