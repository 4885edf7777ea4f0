"""The audit trail: every real change once, with user, source and address; nothing else."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import transaction
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from trainingapp.accounts import audit
from trainingapp.jobs import verbs as job_verbs
from trainingapp.models import AuditEntry, Dataset, Job, TrainingRun
from trainingapp.models.verbs import VerbError
from trainingapp.runs import verbs as run_verbs

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


def recorded() -> list[tuple[str, str, str]]:
    """(user name, verb, source) of every entry, oldest first."""
    return list(AuditEntry.objects.order_by("pk").values_list("username", "verb", "source"))


@pytest.mark.parametrize(
    ("verb", "status"), [("start", "pending"), ("pause", "queued"), ("resume", "paused"), ("stop", "running")]
)
def test_a_repeated_verb_is_recorded_once(make: MAKE, verb: str, status: str) -> None:
    run = make(status)
    AuditEntry.objects.all().delete()
    with audit.acting(run.owner, audit.Source.API, "10.0.0.7"):
        for _time in range(2):
            getattr(run_verbs, f"{verb}_run")(run)
    entry = AuditEntry.objects.get()
    assert (entry.user, entry.username, entry.verb, entry.source) == (run.owner, "ada", verb, "api")
    assert (entry.kind, entry.object_id, entry.object_name, entry.address) == ("run", str(run.pk), "try", "10.0.0.7")


@pytest.mark.parametrize("status", ["queued", "paused", "running"])
def test_a_force_stop_is_recorded_in_every_state(make: MAKE, status: str) -> None:
    run = make(status)
    AuditEntry.objects.all().delete()
    for _time in range(2):
        run_verbs.force_stop_run(run)
    assert recorded() == [("", "kill", "system")]


def test_refused_verbs_are_not_recorded(make: MAKE) -> None:
    run = make("completed")
    AuditEntry.objects.all().delete()
    with pytest.raises(VerbError):
        run_verbs.pause_run(run)
    assert recorded() == []


def test_an_entry_is_rolled_back_with_its_change(make: MAKE) -> None:
    run = make("queued")
    AuditEntry.objects.all().delete()
    with transaction.atomic():
        run_verbs.pause_run(run)
        transaction.set_rollback(True)
    assert recorded() == []


def test_creating_changing_and_deleting(make: MAKE, user: User) -> None:
    run = make()
    with audit.acting(user, audit.Source.WEB):
        run_verbs.update_run(run, name="better")
        run_verbs.update_run(run, name="better")
        run_verbs.delete_run(run)
    assert [verb for _who, verb, _source in recorded()] == ["create", "change", "delete"]
    assert AuditEntry.objects.get(verb="change").details == {"name": "better"}
    assert AuditEntry.objects.get(verb="delete").object_name == "better"


def test_a_cancelled_job_is_recorded_once(user: User) -> None:
    job = Job.objects.create(kind=Job.Kind.EXPORT, owner=user)
    job_verbs.cancel_job(job)
    job_verbs.cancel_job(job)
    assert recorded() == [("", "cancel", "system")]


def test_without_a_user_the_studio_is_the_actor(make: MAKE) -> None:
    run = make("queued")
    AuditEntry.objects.all().delete()
    run_verbs.pause_run(run)
    assert recorded() == [("", "pause", "system")]


def test_a_page_records_user_and_address(user_client: Client, run: TrainingRun) -> None:
    AuditEntry.objects.all().delete()
    user_client.post(reverse("run_control", args=[run.pk, "start"]), REMOTE_ADDR="192.0.2.9")
    entry = AuditEntry.objects.get()
    assert (entry.username, entry.verb, entry.source, entry.address) == ("ada", "start", "page", "192.0.2.9")


def test_the_admin_is_recorded_as_source(staff_client: Client, run: TrainingRun) -> None:
    AuditEntry.objects.all().delete()
    page = reverse("admin:trainingapp_trainingrun_change", args=[run.pk])
    staff_client.post(page, {"name": "renamed", "priority": "0", "_save": "1"})
    assert recorded() == [("root", "change", "admin")]


def test_a_command_names_the_user_of_the_shell(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "operator7")
    AuditEntry.objects.all().delete()
    call_command("train", "start", str(run.pk))
    assert recorded() == [("operator7", "start", "command")]


def test_the_user_name_outlives_the_account(make: MAKE, other_user: User) -> None:
    run = make("queued")
    AuditEntry.objects.all().delete()
    with audit.acting(other_user, audit.Source.WEB):
        run_verbs.pause_run(run)
    other_user.delete()
    entry = AuditEntry.objects.get()
    assert (entry.user, entry.username) == (None, "grace")


def test_acting_ends_with_its_block(user: User) -> None:
    with audit.acting(user, audit.Source.API):
        pass
    assert audit.record("start").source == "system"


def test_old_entries_are_removed(user: User, settings: object) -> None:
    settings.AUDIT_DAYS = 30  # type: ignore[attr-defined]
    for days in (1, 29, 31, 400):
        AuditEntry.objects.create(verb="x", source="system", time=timezone.now() - timedelta(days=days))
    assert audit.remove_old() == 2
    assert AuditEntry.objects.count() == 2


def test_entries_are_found_by_object(make: MAKE, dataset: Dataset) -> None:
    first, second = make(), make()
    assert [entry.verb for entry in audit.entries_of(first)] == ["create"]
    run_verbs.start_run(second)
    assert [entry.verb for entry in audit.entries_of(second)] == ["start", "create"]
    assert not audit.entries_of(dataset).exists()


@pytest.mark.parametrize(
    ("remote", "forwarded", "address"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "6.6.6.6", "192.0.2.1"),  # the header of an untrusted client is ignored
        ("10.0.0.1", "6.6.6.6", "6.6.6.6"),
        ("10.0.0.1", "1.2.3.4, 6.6.6.6", "6.6.6.6"),  # earlier entries were set by the client itself
        ("10.0.0.1", "1.2.3.4, 6.6.6.6, 10.0.0.2", "6.6.6.6"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4, nonsense", None),
        ("", "", None),
        ("2001:db8::1", "", "2001:db8::1"),
    ],
)
def test_the_address_of_a_request(settings: object, remote: str, forwarded: str, address: str | None) -> None:
    import ipaddress

    settings.TRUSTED_PROXIES = [ipaddress.ip_network("10.0.0.0/24")]  # type: ignore[attr-defined]
    headers = {"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {}
    request = RequestFactory().get("/", REMOTE_ADDR=remote, **headers)
    assert audit.address_of(request) == address
