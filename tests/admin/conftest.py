from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.small_world import *  # noqa: F403

if TYPE_CHECKING:  # this module is imported before Django is set up
    from django.contrib.auth.models import User

    from trainingapp.models import TrainingRun


@pytest.fixture
def rows(run: TrainingRun, user: User) -> dict[Any, Any]:
    """One row of every model."""
    from axes.models import AccessAttempt
    from django.contrib.auth.models import Group
    from django.utils import timezone

    from tests.helpers.sweeps import make_sweep
    from tests.helpers.world import line, point, store_events
    from trainingapp.models import (
        Alarm,
        ApiToken,
        AuditEntry,
        Checkpoint,
        Delivery,
        Device,
        DeviceHold,
        FailureRule,
        Forecast,
        Host,
        HostDataset,
        IdempotencyKey,
        Job,
        JournalEntry,
        Notification,
        NotificationSettings,
        Occurrence,
        RunShare,
        SavedView,
        Tag,
        Team,
        Webhook,
        Weights,
        WeightsAlias,
    )

    now = timezone.now()
    store_events(run, line("hello"), point(1))
    host = Host.objects.create(name="box", seen_at=now)
    device = Device.objects.create(host=host, kind="gpu", index=0, name="G")
    weights = Weights.objects.create(
        name="net", version=1, owner=user, task="classification", architecture="x", run=run
    )
    occurrence = Occurrence.objects.create(event="run_failed", run=run)
    webhook = Webhook.objects.create(owner=user, name="chat", url="https://hooks.example.org/a", secret="s" * 20)
    sweep = make_sweep(user, run.dataset, start=False)
    made = [
        sweep,
        sweep.trials.get(),
        occurrence,
        webhook,
        Notification.objects.create(occurrence=occurrence, user=user),
        NotificationSettings.objects.create(user=user, language="en"),
        Delivery.objects.create(occurrence=occurrence, webhook=webhook),
        Alarm.objects.create(name="disk_low"),
        run,
        run.dataset,
        run.events.get(),
        run.series.get(),
        run.values.first(),
        Checkpoint.objects.create(
            run=run, file="e.pt", attempt=1, epoch=1, step=1, reason="epoch", size_bytes=1, created_at=now
        ),
        host,
        device,
        DeviceHold.objects.create(device=device, run=run, run_name=run.name, taken_at=now),
        Forecast.objects.create(run=run, made_at=now),
        HostDataset.objects.create(host=host, key="0" * 64, used_at=now),
        RunShare.objects.create(run=run, attempt=1, node_rank=1, host="box", heartbeat_at=now),
        FailureRule.objects.create(name="disk", pattern="No space", error_class="disk_full"),
        JournalEntry.objects.create(run=run, run_name=run.name, found_by="box:1:2", found_at=now),
        Job.objects.create(kind="export", owner=user),
        Team.objects.create(name="birds"),
        Tag.objects.create(name="baseline"),
        SavedView.objects.create(user=user, name="failures", query="status=failed"),
        weights,
        WeightsAlias.objects.create(name="net", alias="production", weights=weights),
        ApiToken.objects.create(user=user, name="ci", prefix="cvs_ab", digest="5ec4e7" * 10, scopes=["read"]),
        AuditEntry.objects.create(verb="start", source="page", username="ada"),
        IdempotencyKey.objects.create(user=user, key="k", method="POST", path="/", body_digest="0" * 64),
        user,
        Group.objects.create(name="choir"),
        AccessAttempt._default_manager.create(username="ada", ip_address="192.0.2.1", failures_since_start=3),
    ]
    return {type(row): row for row in made}
