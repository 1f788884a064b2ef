"""A stand-in for Cloud Run that behaves like it, with real processes for containers.

``cloud.CloudRun`` is all of it; ``limits.Limits`` are the platform's times and numbers,
``faults.Faults`` what goes wrong next.
"""

from tests.doubles.cloud_run.cloud import CloudRun
from tests.doubles.cloud_run.container import Content
from tests.doubles.cloud_run.faults import Faults
from tests.doubles.cloud_run.limits import Limits
from tests.doubles.cloud_run.metering import Usage
from tests.doubles.cloud_run.revision import Revision

__all__ = ["CloudRun", "Content", "Faults", "Limits", "Revision", "Usage"]
