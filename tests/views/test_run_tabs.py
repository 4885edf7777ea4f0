"""The tabs of a run: an address for each, loaded alone when opened, and a header in which the name is edited."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.helpers.evaluations import evaluated
from tests.helpers.machines import asking, hold, machine
from tests.helpers.sweeps import make_sweep
from tests.helpers.tiny import make_run
from tests.helpers.world import started, store_events
from trainingapp.accounts import sharing as sharing_verbs
from trainingapp.contract.events import Failed, message_fields
from trainingapp.contract.messages import Message
from trainingapp.contract.messages.ranks import EXIT_STATUS, SHARE_LOST
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.models import Dataset, RunShare, TrainingRun, Trial
from trainingapp.supervision.event_store import EventStore
from trainingapp.supervision.outcome import End
from trainingapp.supervision.supervision import settle
from trainingapp.views.run_tabs import TABS

MAKE = Callable[..., TrainingRun]
HTMX = {"HX-Request": "true"}
pytestmark = pytest.mark.django_db


def html(response: Any) -> str:
    return str(response.content.decode())


def with_epochs(run: TrainingRun, epochs: int) -> TrainingRun:
    run.config = {**run.config, "epochs": epochs}
    run.save()
    return run


def rename(client: Client, run: TrainingRun, name: str, version: int = 1) -> Any:
    address = reverse("run_name", args=[run.pk])
    return client.post(address, {"name": name, "version": version}, headers=HTMX)


@pytest.mark.parametrize("tab", TABS, ids=lambda tab: tab.name)
def test_every_tab_has_an_address_and_is_loaded_alone(user_client: Client, run: TrainingRun, tab: Any) -> None:
    address = reverse(tab.route, args=[run.pk])
    whole = html(user_client.get(address))
    assert f'id="tab-{tab.name}" href="{address}"' in whole
    assert whole.count('aria-current="page"') == 2  # the tab, and the section of the top bar
    assert 'id="part-header"' in whole
    response = user_client.get(address, headers=HTMX | {"HX-Target": "run-tab"})
    part = html(response)
    assert "<title>" in part
    assert f'data-tab="{tab.name}"' in part
    assert 'id="part-header"' not in part
    assert "HX-Target" in response.headers["Vary"]


def test_the_system_tab_shows_what_the_machine_has(user_client: Client, make: MAKE) -> None:
    run = make("running")
    address = reverse("run_system", args=[run.pk])
    page = html(user_client.get(address))
    assert "No measurements" in page
    assert 'data-follows="system"' in page  # it is fetched again with the first of them
    values = {"cpu_utilization": 0.25, "machine_memory_bytes": 3 * 2**30}
    store_events(run, {"type": "metrics", "data": {"split": "system", "values": values}})
    page = html(user_client.get(address))
    assert re.findall('data-chart="(.+?)"', page) == ["utilization", "memory"]
    assert 'data-metric="machine_memory_bytes"' in page
    assert 'data-follows="validation"' in page
    assert "bottleneck" not in page


def test_the_system_tab_shows_the_devices_of_all_ranks(user_client: Client, make: MAKE) -> None:
    run = make("running")
    ranks = ["", ".1", ".2", ".10"]
    values = {f"gpu_power_w{rank}": 300.0 for rank in ranks} | {"cpu_utilization": 0.5, "unknown.3": 1.0}
    store_events(run, {"type": "metrics", "data": {"split": "system", "values": values}})
    page = html(user_client.get(reverse("run_system", args=[run.pk])))
    assert re.findall('data-chart="(.+?)"', page) == ["utilization", "power"]
    assert re.findall('data-metric="(gpu_power_w.*?)"', page) == [f"gpu_power_w{rank}" for rank in ranks]
    assert "GPU, rank 10" in page
    assert "CPU: trainer and loaders, rank 0" in page


@pytest.mark.parametrize(
    ("device", "wait_s", "compute_s", "gpu", "expected"),
    [
        ("cpu", 0.2, 0.8, None, "Computing on the CPU is the bottleneck: loading images takes 20.0 % of"),
        ("cpu", 0.6, 0.4, None, "Loading images is the bottleneck: it takes 60.0 % of"),
        ("cuda:0 (NVIDIA H100)", 0.03, 0.01, 0.3, "the GPU waits for them during 75.0 % of a step"),
        ("cuda:0 (NVIDIA H100)", 0.02, 0.02, 0.97, "The GPU is the bottleneck: it is busy 97.0 % of the time."),
        ("cuda:0 (NVIDIA H100)", 0.001, 0.099, 0.95, "The GPU is the bottleneck"),
        ("cuda:0 (NVIDIA H100)", 0.001, 0.099, 0.4, "the GPU is busy 40.0 % of the time, and steps wait for"),
        ("cuda:0 (NVIDIA H100)", 0.001, 0.099, None, "Computing on the GPU is the bottleneck"),
    ],
)
def test_the_system_tab_names_the_bottleneck(
    user_client: Client, make: MAKE, device: str, wait_s: float, compute_s: float, gpu: float | None, expected: str
) -> None:
    run = make("running", device=device)
    before = {"loader_wait_s": 9.0, "compute_s": 1.0}
    store_events(run, *(_measured(before, attempt=1) for _ in range(3)))
    now = {"loader_wait_s": wait_s, "compute_s": compute_s} | ({} if gpu is None else {"gpu_utilization": gpu})
    validating = {"cpu_utilization": 0.5}
    store_events(run, *(_measured(values, attempt=2) for values in (now, validating, now)))
    page = html(user_client.get(reverse("run_system", args=[run.pk])))
    assert expected in page
    assert re.search(rf"Compute</dt><dd>{compute_s:g} s", page)


def _measured(values: dict[str, float], *, attempt: int) -> dict[str, Any]:
    return {"type": "metrics", "attempt": attempt, "data": {"split": "system", "values": values}}


def test_a_page_of_the_history_is_whole(user_client: Client, run: TrainingRun) -> None:
    headers = HTMX | {"HX-Target": "run-tab", "HX-History-Restore-Request": "true"}
    assert 'id="part-header"' in html(user_client.get(reverse("run_charts", args=[run.pk]), headers=headers))


def test_the_page_suggests_what_is_next(user_client: Client, make: MAKE) -> None:
    for status, name in (("pending", "start"), ("running", "pause"), ("paused", "resume"), ("failed", "resume")):
        page = html(user_client.get(make(status).get_absolute_url()))
        assert page.count("btn btn-primary") == 1, status
        assert f'class="btn btn-primary"\n                  id="verb-{name}"' in page, status


def test_the_overview_shows_predictions_of_the_newest_validation(user_client: Client, run: TrainingRun) -> None:
    for epoch in (1, 2):
        evaluated(run, epoch)
    page = html(user_client.get(run.get_absolute_url()))
    assert page.count('class="guess-card"') == 8
    assert "Validation after epoch 2." in page


@pytest.mark.parametrize("task", TASKS)
def test_the_losses_of_training_and_validation_share_a_chart(
    user_client: Client, user: User, dataset: Dataset, task: str
) -> None:
    dataset.tasks = list(TASKS)
    dataset.save()
    page = html(user_client.get(make_run(user, dataset, task=task).get_absolute_url()))
    (chart,) = re.findall(r'data-chart="loss".*?</ul>', page, re.DOTALL)
    assert 'data-line="train/loss"' in chart
    assert 'data-line="val/loss"' in chart


@pytest.mark.parametrize("shown", ["", "config/?show=changed"], ids=["overview", "config"])
def test_a_run_of_a_fold_says_which_even_if_it_is_the_first(
    user_client: Client, user: User, dataset: Dataset, shown: str
) -> None:
    """Fold 0 has the number of the default."""
    run, other = make_run(user, dataset, folds=3, fold=0), make_run(user, dataset)
    page = html(user_client.get(f"{run.get_absolute_url()}{shown}"))
    assert re.search(r"<dt>Fold</dt>\s*<dd>\s*(<ins>)?0\b", page)
    others = html(user_client.get(f"{other.get_absolute_url()}{shown}"))
    assert "<dt>Fold</dt>" not in others


@pytest.mark.parametrize("shown", ["", "config/?show=changed"], ids=["overview", "config"])
def test_a_trial_says_what_its_sweep_varies_even_if_it_is_the_default(
    user_client: Client, user: User, dataset: Dataset, shown: str
) -> None:
    run, other = make_run(user, dataset, seed=0), make_run(user, dataset, seed=0)
    Trial.objects.create(sweep=make_sweep(user, dataset, start=False), number=99, run=run, params={"seed": 0})
    assert "<dt>Seed</dt>" in html(user_client.get(f"{run.get_absolute_url()}{shown}"))
    assert "<dt>Seed</dt>" not in html(user_client.get(f"{other.get_absolute_url()}{shown}"))


def test_a_difference_to_zero_names_the_zero(user_client: Client, user: User, dataset: Dataset) -> None:
    run, other = make_run(user, dataset, seed=0), make_run(user, dataset, seed=3)
    page = html(user_client.get(f"{run.get_absolute_url()}config/?against={other.pk}"))
    assert re.search(r"<del>3</del>.*?<ins>0</ins>", page, re.DOTALL)


def test_the_overview_shows_tags_and_note(user_client: Client, run: TrainingRun) -> None:
    assert "Tags and note" not in html(user_client.get(run.get_absolute_url())).split('id="run-tab"')[1]
    run.tags.create(name="baseline")
    TrainingRun.objects.update(note="first try\n<b>with mosaic</b>")
    page = html(user_client.get(run.get_absolute_url()))
    assert '<span class="chip">baseline</span>' in page
    assert "first try<br>&lt;b&gt;with mosaic" in page


def test_the_configuration_is_shown_in_full_or_where_it_was_changed(user_client: Client, make: MAKE) -> None:
    address = reverse("run_config", args=[with_epochs(make("paused"), 77).pk])
    assert "Weight decay" in html(user_client.get(address))
    changed = html(user_client.get(address, {"show": "changed"}))
    assert "77 epochs" in changed
    assert "Weight decay" not in changed


def test_the_configuration_is_compared_with_another_run(user_client: Client, make: MAKE) -> None:
    run, other = with_epochs(make("paused"), 7), with_epochs(make("paused", name="the other"), 9)
    page = html(user_client.get(reverse("run_config", args=[run.pk]), {"against": other.pk}))
    assert "<del>9 epochs</del>" in page
    assert "<ins>7 epochs</ins>" in page


def test_a_hidden_run_is_not_compared(
    user_client: Client, client: Client, make: MAKE, other_user: User, run: TrainingRun
) -> None:
    secret = with_epochs(make("paused", name="the secret"), 9)
    sharing_verbs.share(secret, "private")
    client.force_login(other_user)
    page = html(client.get(reverse("run_config", args=[run.pk]), {"against": secret.pk}))
    assert "the secret" not in page
    assert "<del>" not in page


def test_the_activity_lists_attempts_and_sharing(user_client: Client, run: TrainingRun) -> None:
    store_events(run, started(0, 1), started(40, 2))
    page = html(user_client.get(reverse("run_activity", args=[run.pk])))
    assert page.index('<th scope="row">2</th>') < page.index('<th scope="row">1</th>')
    assert 'id="sharing"' in page


# The name


def test_the_name_is_edited_in_the_header(user_client: Client, run: TrainingRun) -> None:
    form = html(user_client.get(reverse("run_name", args=[run.pk]), headers=HTMX))
    assert f'value="{run.name}"' in form
    assert "<h1>a better name</h1>" in html(rename(user_client, run, "a better name"))
    run.refresh_from_db()
    assert (run.name, run.version) == ("a better name", 2)
    left = html(user_client.get(reverse("run_name", args=[run.pk]), {"leave": ""}, headers=HTMX))
    assert "<form" not in left


@pytest.mark.parametrize("name", ["", "   ", "x" * 121])
def test_a_name_that_is_wrong_is_refused_in_the_form(user_client: Client, run: TrainingRun, name: str) -> None:
    response = rename(user_client, run, name)
    assert response.status_code == 422
    assert 'role="alert"' in html(response)
    run.refresh_from_db()
    assert run.name == "try"


def test_of_two_people_the_second_sees_what_the_first_has_written(user_client: Client, run: TrainingRun) -> None:
    rename(user_client, run, "first")
    response = rename(user_client, run, "second")
    assert response.status_code == 422
    assert "Its name is now “first”." in html(response)
    assert 'value="second"' in html(response)
    assert "<h1>second</h1>" in html(rename(user_client, run, "second", version=2))


def test_without_javascript_the_name_has_a_page(user_client: Client, run: TrainingRun) -> None:
    response = user_client.get(reverse("run_name", args=[run.pk]))
    assert response.headers["Location"] == reverse("run_edit", args=[run.pk])


def ranks_shown(client: Client, run: TrainingRun) -> list[list[str]]:
    """The texts of the cells of each rank."""
    page = html(client.get(reverse("run_detail", args=[run.pk]))).replace("\xa0", " ")
    table = page.partition('id="ranks-title"')[2].partition("</table>")[0]
    return [
        [re.sub(r"(?:<[^>]*>|\s)+", " ", cell).strip() for cell in re.findall(r"<t[hd] .*?</t[hd]>", row, re.S)]
        for row in re.findall(r"<tr>\s*<th scope=\"row\".*?</tr>", table, re.S)
    ]


def test_the_overview_shows_the_ranks_of_a_run_on_several_devices(user_client: Client, make: MAKE) -> None:
    host = machine(slots=4, gpus=3)
    config = asking(device="cuda", device_count=2, accumulation_steps=2)
    run = make("running", config=config, attempt=2, worker="w", host="here", heartbeat_at=timezone.now())
    host.devices.filter(kind="gpu", index=2).update(load=0.5, memory_free_bytes=20 << 30)
    hold(run, host.devices.get(kind="gpu", index=1), attempt=1, released_at=timezone.now())
    for index in (0, 2):
        hold(run, host.devices.get(kind="gpu", index=index))

    names = ["cuda:0 NVIDIA Test · here", "cuda:2 NVIDIA Test · here"]
    assert ranks_shown(user_client, run) == [
        ["0", names[0], "running", "–", "0 bytes"],
        ["1", names[1], "running", "50 %", "4.0 GB"],
    ]
    lost = Message("rank_lost", {"rank": 1, "device": "cuda:2", "exit": "signal 9"})
    settle(EventStore(run), End(Failed(error_class="lost_rank", lines=[], **message_fields(lost)), exit_code=1))
    assert [row[:3] for row in ranks_shown(user_client, run)] == [["0", names[0], "ended"], ["1", names[1], "lost"]]
    run.refresh_from_db()
    TrainingRun.objects.filter(pk=run.pk).update(attempt=9)
    assert ranks_shown(user_client, run) == [], "nothing is known of the attempt yet"


def test_the_overview_shows_the_hosts_of_the_ranks(user_client: Client, make: MAKE) -> None:
    config = asking(device="cuda", device_count=2, accumulation_steps=2, hosts_at_most=2)
    now = timezone.now()
    run = make("running", config=config, attempt=1, worker="w", host="there", heartbeat_at=now)
    for number, name in enumerate(("there", "here")):
        hold(run, machine(name, gpus=1).devices.get(kind="gpu"))
        beat = now - timedelta(minutes=number + 1)
        RunShare.objects.create(run=run, attempt=1, node_rank=number, host=name, heartbeat_at=beat)
    found = ranks_shown(user_client, run)
    assert [row[1] for row in found] == ["cuda:0 NVIDIA Test · there", "cuda:0 NVIDIA Test · here"]
    assert [row[-1] for row in found] == [f"{now:%H:%M:%S}", f"{now - timedelta(minutes=2):%H:%M:%S}"]
    settle(EventStore(run), End(None, -9, lost_share=SHARE_LOST(host="here", exit=EXIT_STATUS(status=1))))
    assert [row[2] for row in ranks_shown(user_client, run)] == ["ended", "lost"]
    page = html(user_client.get(reverse("device_list")))
    assert "together with cuda:0 (here)" in page
