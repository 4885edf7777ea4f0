"""The page of the devices."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.helpers.machines import asking, busy_studio, hold, machine
from trainingapp.contract.messages.devices import GPU_DRIVER_FAILED, GPU_LOST
from trainingapp.models import Dataset, DeviceHold, Host, TrainingRun
from trainingapp.scheduling.quarantine import quarantine
from trainingapp.views.device_timeline import WIDTH, timeline

MAKE = Callable[..., TrainingRun]


def page(client: Client) -> str:
    return str(client.get(reverse("device_list")).content.decode()).replace("\xa0", " ")


def test_anonymous_users_are_redirected_to_the_login(client: Client, db: None) -> None:
    assert client.get(reverse("device_list")).status_code == 302


def test_without_a_host_it_explains_the_next_step(user_client: Client) -> None:
    assert "No host has reported yet" in page(user_client)


def test_hosts_devices_runs_other_programs_and_the_next_run_are_shown(
    user_client: Client, admin: User, dataset: Dataset
) -> None:
    busy_studio(admin, dataset)
    text = page(user_client)
    assert re.findall(r'<h2 id="host-\d+"[^>]*>([^<]*)<', text) == ["gpu-box", "workstation", "attic"]
    assert "No worker has reported since" in text
    assert "blender" in text
    assert "process 4711, 6.0 GB" in text
    assert "2 of 2 slots in use" in text
    assert "7 runs in the last 24 hours" in text
    devices = dict(re.findall(r"<h3>(cuda:\d).*?<dt>Next</dt>\s*<dd>\s*<a[^>]*>([^<]*)<", text, re.S))
    assert devices == {"cuda:0": "Leaves, second try", "cuda:1": "Leaves, second try"}
    assert text.count("<rect") == 15


def test_runs_on_the_timeline_are_reached_by_links_of_a_table(
    user_client: Client, admin: User, dataset: Dataset
) -> None:
    """A run of seconds is a bar of a few pixels, which nobody hits."""
    busy_studio(admin, dataset)
    text = page(user_client)
    days = re.findall(r'<svg class="timeline".*?</svg>.*?(?=<svg class="timeline"|</main>)', text, re.S)
    assert len(days) == text.count('<svg class="timeline"')
    assert not [day for day in days if "<a " in day.partition("</svg>")[0]]
    for day in days:
        bars = day.partition("</svg>")[0].count("<rect")
        rows = re.findall(r'<th scope="row" class="cell-wide text-wrap">\s*<a class="row-title"', day)
        assert len(rows) == bars, day


def test_a_host_is_shown_as_leaving_while_its_runs_are_saved(user_client: Client, make: MAKE) -> None:
    host = machine("barn", state="leaving")
    hold(make("running", name="night shift", host="barn", heartbeat_at=timezone.now()), host.devices.get())
    text = page(user_client)
    assert re.search(r"</i>Leaving</span>", text), text
    assert "Its worker takes nothing new." in text
    assert "night shift" in text
    assert "Online" not in text


def test_a_host_that_has_left_is_listed_without_an_alarm(user_client: Client) -> None:
    machine("barn", gpus=1, state="left").devices.filter(kind="gpu").update(problem="lost")
    text = page(user_client)
    assert "Hosts that have left" in text
    assert re.search(r'<th scope="row"[^>]*>barn</th>.*?<td[^>]*>\s*cpu, cuda:0\s*</td>', text, re.S)
    assert "No host has reported yet" not in text
    for alarm in ("unusable", "Offline", "Online", "Check again"):
        assert alarm not in text


def test_htmx_gets_only_the_list(user_client: Client) -> None:
    response = user_client.get(reverse("device_list"), headers={"HX-Request": "true", "HX-Target": "devices"})
    assert response.content.decode().lstrip().startswith('<div id="devices"')


def test_a_deleted_run_stays_on_the_timeline_with_its_name(staff_client: Client, make: MAKE) -> None:
    host = machine()
    run = make("completed", name="gone by now")
    now = timezone.now()
    hold(run, host.devices.get(), taken_at=now - timedelta(hours=2), released_at=now - timedelta(hours=1))
    run.delete()
    assert "gone by now" in page(staff_client)


def test_a_removed_gpu_is_shown_while_the_timeline_has_runs_of_it(user_client: Client, make: MAKE) -> None:
    host = machine(gpus=1)
    device = host.devices.get(kind="gpu")
    host.devices.filter(kind="gpu").update(is_present=False)
    assert "cuda:0" not in page(user_client)
    run = make("completed", config=asking())
    hold(run, device, taken_at=timezone.now() - timedelta(hours=2), released_at=timezone.now())
    assert "cuda:0" in page(user_client)
    assert ">not present<" in page(user_client)


def test_the_devices_of_one_run_name_each_other(user_client: Client, make: MAKE) -> None:
    host = machine(slots=4, gpus=3)
    gang, earlier = make("running", name="gang", attempt=1), make("completed", name="earlier", attempt=1)
    now = timezone.now()
    for index in (0, 2):
        device = host.devices.get(kind="gpu", index=index)
        hold(earlier, device, taken_at=now - timedelta(hours=2), released_at=now - timedelta(hours=1))
        hold(gang, device, taken_at=now - timedelta(minutes=5))
    text = page(user_client)
    first, second, third = text.partition('id="device-')[2].split("<h3>cuda:")[1:]
    assert first.count("together with cuda:2") == 5, "its present run, and each bar with its row"
    assert "together with" not in second
    assert third.count("together with cuda:0") == 5


# Where the bars go


def held(now: Any, start_h: float, end_h: float | None, run: int = 1) -> DeviceHold:
    released = None if end_h is None else now - timedelta(hours=end_h)
    return DeviceHold(pk=run, run_id=run, taken_at=now - timedelta(hours=start_h), released_at=released)


def test_an_hour_is_one_24th_of_the_width() -> None:
    now = timezone.now()
    (bar,) = timeline([held(now, 12, 11)], now).bars
    assert (bar.x, bar.width, bar.y) == (f"{WIDTH / 2:.1f}", f"{WIDTH / 24:.1f}", "0")
    assert bar.seconds == 3600


def test_bars_are_clipped_to_the_day() -> None:
    now = timezone.now()
    early, lasting = timeline([held(now, 30, 23), held(now, 1, None, run=2)], now).bars
    assert (early.x, early.width) == ("0.0", f"{WIDTH / 24:.1f}")
    assert early.seconds == 7 * 3600
    assert float(lasting.x) + float(lasting.width) == pytest.approx(WIDTH)
    assert lasting.end is None


def test_earlier_runs_are_left_out_and_short_runs_stay_visible() -> None:
    now = timezone.now()
    found = timeline([held(now, 30, 25), held(now, 5, 5)], now)
    (bar,) = found.bars
    assert float(bar.width) >= 3


def test_simultaneous_runs_are_stacked() -> None:
    now = timezone.now()
    holds = [held(now, 10, 8, run=1), held(now, 9, 7, run=2), held(now, 8, 6, run=3)]
    found = timeline(holds, now)
    assert [bar.y for bar in found.bars] == ["0", "24", "0"]
    assert found.lanes == 2


# GPUs that cannot be used


def test_a_gpu_that_cannot_be_used_is_explained(user_client: Client) -> None:
    host = machine(gpus=2)
    message = GPU_LOST(error="GPU is lost").as_data()
    host.devices.filter(kind="gpu", index=1).update(problem="lost", problem_data=message, memory_bytes=0)
    text = page(user_client)
    assert "unusable: lost" in text
    assert "The driver has lost it (GPU is lost). Restart the host" in text
    Host.objects.update(gpu_problem=GPU_DRIVER_FAILED(error="mismatch").as_data())
    assert "The GPU driver cannot be queried (mismatch)." in page(user_client)


def test_a_gpu_that_was_usable_lately_stays_on_the_page(user_client: Client) -> None:
    host = machine(gpus=1)
    host.devices.filter(kind="gpu").update(is_present=False, usable_at=timezone.now() - timedelta(days=1))
    assert ">not present<" in page(user_client)


# The quarantine


def test_an_administrator_puts_a_gpu_in_quarantine_and_releases_it(staff_client: Client) -> None:
    gpu = machine(gpus=1).devices.get(kind="gpu")
    assert 'name="reason"' in page(staff_client)
    response = staff_client.post(reverse("device_quarantine", args=[gpu.pk]), {"reason": "fan broken"}, follow=True)
    text = response.content.decode()
    assert "here cuda:0 gets no more runs." in text
    assert ">in quarantine<" in text
    assert "fan broken" in text
    text = staff_client.post(reverse("device_quarantine", args=[gpu.pk]), follow=True).content.decode()
    assert "is already in quarantine" in text
    text = staff_client.post(reverse("device_release", args=[gpu.pk]), follow=True).content.decode()
    assert "here cuda:0 is being checked" in text
    assert "unusable: being checked" in text
    text = staff_client.post(reverse("device_release", args=[gpu.pk]), follow=True).content.decode()
    assert "can be used, or is being checked" in text


def test_others_see_the_quarantine_without_its_buttons(user_client: Client, admin: User) -> None:
    gpu = machine(gpus=1).devices.get(kind="gpu")
    quarantine(gpu, "fan broken", by=admin)
    text = page(user_client)
    assert "fan broken" in text
    assert reverse("device_release", args=[gpu.pk]) not in text
    assert 'name="reason"' not in text
