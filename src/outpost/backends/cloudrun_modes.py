"""What ``type: cloudrun`` is made by: its ``mode`` says which of two outposts it is."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel

from outpost.backends.cloudrun_options import CloudRunOptions
from outpost.ports import Outpost, Setup


class Modes:
    """Made and called like the class of a backend."""

    Options: ClassVar[type[BaseModel]] = CloudRunOptions

    def __call__(self, setup: Setup, options: CloudRunOptions) -> Outpost:
        """Return the outpost of a configuration."""
        if options.mode == "job":
            from outpost.backends.cloudrun_jobs import CloudRunJobOutpost  # noqa: PLC0415 - one

            return CloudRunJobOutpost(setup, options)
        from outpost.backends.cloudrun import CloudRunOutpost  # noqa: PLC0415 - or the other

        return CloudRunOutpost(setup, options)


cloud_run = Modes()
