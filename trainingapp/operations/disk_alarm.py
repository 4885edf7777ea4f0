"""Tells administrators once when the disk of the studio becomes almost full."""

import shutil

from django.conf import settings
from django.db import transaction

from trainingapp.accounts.notifications import events, outbox
from trainingapp.contract.disk_space import is_almost_full
from trainingapp.contract.messages import notifications as messages
from trainingapp.models import Alarm

ALARM = "disk_low"
#: The alarm ends when this many times the limit is free: a disk at the limit is not announced again and again.
ENDS_AT = 1.5


def check_disk() -> None:
    """Raise or end the alarm. Of several workers that notice it at a time, one announces it."""
    disk = shutil.disk_usage(settings.DATA_DIR)
    if is_almost_full(total_bytes=disk.total, free_bytes=disk.free):
        with transaction.atomic():
            _alarm, is_new = Alarm.objects.get_or_create(name=ALARM)
            if is_new:
                free_gb, size_gb = disk.free // 2**30, disk.total // 2**30
                outbox.announce(events.DISK_LOW, messages.DISK_LOW(free=free_gb, size=size_gb))
    elif not is_almost_full(total_bytes=disk.total, free_bytes=round(disk.free / ENDS_AT)):
        Alarm.objects.filter(name=ALARM).delete()
