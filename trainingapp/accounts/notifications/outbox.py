"""Writes what users are told of, in the transaction of what has happened.

Nothing is sent here. What is committed with the change is delivered by a worker, whatever is killed in between; what is
rolled back was never announced.
"""

from collections.abc import Mapping
from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.module_loading import import_string

from trainingapp.accounts.notifications import events
from trainingapp.accounts.notifications.events import Channel, Event
from trainingapp.accounts.notifications.preferences import channels_of, settings_of
from trainingapp.accounts.permissions import Role, Verb, can
from trainingapp.contract.messages import VERBATIM, Message
from trainingapp.contract.messages import notifications as messages
from trainingapp.models import Dataset, Delivery, Notification, Occurrence, Sweep, TrainingRun, Trial, Webhook
from trainingapp.models.run import Status, run_moved
from trainingapp.models.sharing import Visibility

#: Rows that are removed at a time.
REMOVED_AT_ONCE = 1000


def listen() -> None:
    """Announce changes of runs: `TrainingRun.transition` sends them within its transaction."""
    run_moved.connect(_run_moved, dispatch_uid="notifications")


def announce(
    event: Event,
    message: Message,
    *,
    run: TrainingRun | None = None,
    dataset: Dataset | None = None,
    sweep: Sweep | None = None,
) -> Occurrence:
    """Store an occurrence with the notifications and the deliveries that follow from it.

    Call it in the transaction that makes the change. A worker is woken after the commit.
    """
    item = run or dataset or sweep
    with transaction.atomic():
        occurrence = Occurrence.objects.create(
            event=event.name,
            run=run,
            dataset=dataset,
            sweep=sweep,
            message_data=message.as_data(),
            facts=_facts(run, dataset, sweep),
        )
        users = _recipients(event, item)
        stored = settings_of(users)
        channels = {user.pk: channels_of(stored.get(user.pk), event) for user in users}
        Notification.objects.bulk_create(
            Notification(
                occurrence=occurrence,
                user=user,
                in_page=Channel.PAGE in channels[user.pk],
                in_browser=Channel.BROWSER in channels[user.pk],
            )
            for user in users
            if channels[user.pk] & {Channel.PAGE, Channel.BROWSER}
        )
        deliveries = [
            Delivery(occurrence=occurrence, user=user)
            for user in users
            if settings.MAIL_IS_CONFIGURED and user.email and Channel.EMAIL in channels[user.pk]
        ]
        called = {user.pk for user in users if Channel.WEBHOOK in channels[user.pk]}
        deliveries += [Delivery(occurrence=occurrence, webhook=hook) for hook in _webhooks(event, item, called)]
        if deliveries:
            Delivery.objects.bulk_create(deliveries)
            transaction.on_commit(wake)
    return occurrence


def wake() -> None:
    """Have a worker deliver what is due. The Huey task is named, because the worker lies above this room."""
    import_string("trainingapp.worker.tasks.deliver_notifications")()


def remove_old() -> int:
    """Remove occurrences older than NOTIFICATION_DAYS, read or not, with their notifications and deliveries.

    Returns how many. A minute's share is bounded, so that no transaction is long.
    """
    before = timezone.now() - timedelta(days=settings.NOTIFICATION_DAYS)
    old = Occurrence.objects.filter(created_at__lt=before).order_by("created_at").values_list("pk", flat=True)
    numbers = list(old[:REMOVED_AT_ONCE])
    if numbers:
        Occurrence.objects.filter(pk__in=numbers).delete()
    return len(numbers)


def _recipients(event: Event, item: TrainingRun | Dataset | Sweep | None) -> list[User]:
    active = User.objects.filter(is_active=True)
    if item is None:
        rights = Q(is_staff=True) | Q(is_superuser=True) | Q(groups__name=Role.ADMINISTRATOR.group)
        return list(active.filter(rights).distinct())
    if event.audience == "followers" and isinstance(item, TrainingRun):
        users = active.filter(Q(pk=item.owner_id) | Q(starred_runs=item)).distinct()
        return [user for user in users if user.pk == item.owner_id or can(user, Verb.SEE, item)]
    return list(active.filter(pk=item.owner_id))


def _webhooks(event: Event, item: TrainingRun | Dataset | Sweep | None, users: set[int]) -> list[Webhook]:
    """Those of the users, and those of the installation where everyone who can sign in may see the object."""
    hooks = Webhook.objects.filter(Q(owner__in=users) | Q(owner=None), is_enabled=True)
    is_open = item is None or item.visibility == Visibility.EVERYBODY
    return [hook for hook in hooks if hook.owner_id is not None or (is_open and event.name in hook.events)]


def _facts(run: TrainingRun | None, dataset: Dataset | None, sweep: Sweep | None) -> dict[str, object]:
    facts: dict[str, object] = {}
    if run is not None:
        best = {"name": run.best_metric_name, "value": run.best_metric} if run.best_metric is not None else None
        facts["run"] = {
            "id": run.pk,
            "name": run.name,
            "status": run.status,
            "task": run.task,
            "epoch": run.epoch,
            "total_epochs": run.total_epochs,
            "best_metric": best,
        }
    if dataset is not None:
        facts["dataset"] = {"id": dataset.pk, "name": dataset.name, "status": dataset.status}
    if sweep is not None:
        facts["sweep"] = {"id": sweep.pk, "name": sweep.name, "status": sweep.status}
    return facts


def _run_moved(
    sender: object,
    run: TrainingRun,
    before: str,
    requested: str,
    message: Message | str,
    level: str,
    **kwargs: object,
) -> None:
    """Announce the end of a run, and an interruption that no user requested."""
    if Trial.objects.filter(run=run.pk).exists():
        return  # a sweep may have hundreds of trials
    reason = message if isinstance(message, Message) else VERBATIM(text=message)
    if run.status == Status.COMPLETED:
        announce(events.RUN_COMPLETED, messages.RUN_COMPLETED(run=run.name), run=run)
    elif run.status == Status.FAILED:
        announce(events.RUN_FAILED, messages.RUN_FAILED(run=run.name, reason=reason), run=run)
    elif before == Status.RUNNING and level == "warning" and not requested:
        announce(events.RUN_INTERRUPTED, messages.RUN_INTERRUPTED(run=run.name, reason=reason), run=run)


def import_proposed(dataset: Dataset) -> None:
    announce(events.IMPORT_PROPOSED, messages.IMPORT_PROPOSED(dataset=dataset.name), dataset=dataset)


def import_ready(dataset: Dataset, images: Mapping[str, int]) -> None:
    message = messages.IMPORT_READY(dataset=dataset.name, count=sum(images.values()))
    announce(events.IMPORT_READY, message, dataset=dataset)


def import_refused(dataset: Dataset, reason: Message) -> None:
    message = messages.IMPORT_REFUSED(dataset=dataset.name, reason=reason)
    announce(events.IMPORT_REFUSED, message, dataset=dataset)


def sweep_moved(sweep: Sweep, reason: Message) -> None:
    """Announce that a sweep has ended or was paused by itself."""
    ended = messages.SWEEP_COMPLETED if sweep.is_ended else messages.SWEEP_PAUSED
    announce(events.SWEEP_ENDED, ended(sweep=sweep.name, reason=reason), sweep=sweep)
