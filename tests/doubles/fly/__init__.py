"""A stand-in for Fly Machines that behaves like it, with real processes for machines.

``cloud.FlyCloud`` is all of it; ``limits.Limits`` are the platform's times and numbers,
``faults.Faults`` what goes wrong. Of the API it plays machines, leases, metadata, volumes, the app
and the regions; whatever else is asked for fails the test.

Where neither the contract nor Fly's documents nor its users say what happens, the stricter way was
taken: ``wait`` for more than 60 s is refused, as is a stop of what is ``created``; whoever holds no
lease that somebody has may not even run a command; a machine on an unreachable host cannot be
changed (503). That a destroyed machine may be destroyed again is a guess as well.
"""

from tests.doubles.fly.cloud import FlyCloud, MachineRecord
from tests.doubles.fly.faults import Faults
from tests.doubles.fly.guest import Image
from tests.doubles.fly.limits import Limits, Rates

__all__ = ["Faults", "FlyCloud", "Image", "Limits", "MachineRecord", "Rates"]
