"""manage.py studio without starting it; tests/faults starts it."""

import socket
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError

from trainingapp.management.commands import studio


def test_the_first_administrator_is_created_once_with_a_working_password(db: None) -> None:
    output = StringIO()
    for _ in range(2):
        studio.Command(stdout=output).make_administrator()
    (password,) = [line.split()[2] for line in output.getvalue().splitlines() if "password  " in line]
    admin = User.objects.get()
    assert admin.is_superuser
    assert admin.check_password(password)


def test_with_existing_users_none_is_created(user: User) -> None:
    output = StringIO()
    studio.Command(stdout=output).make_administrator()
    assert output.getvalue() == ""
    assert User.objects.get() == user


def test_a_port_in_use_is_refused_with_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(CommandError, match=f"PORT: 127.0.0.1:{port} .* PORT={port + 1} make run"):
            studio.check_port("127.0.0.1", port)
    studio.check_port("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 0), ("127.0.0.1", 70000), ("no.such.host.invalid", 8000)])
def test_an_invalid_address_is_refused_by_name(host: str, port: int) -> None:
    with pytest.raises(CommandError, match=r"^(PORT|HOST): "):
        studio.check_port(host, port)


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "http://127.0.0.1:80/"), ("0.0.0.0", "http://127.0.0.1:80/"), ("::", "http://[::1]:80/")],
)
def test_the_printed_address_can_be_opened_in_a_browser(host: str, address: str) -> None:
    assert studio.address_of(host, 80) == address


def test_a_child_that_ends_repeatedly_is_restarted_with_growing_delays(monkeypatch: Any) -> None:
    child = studio._Child("worker", [])
    child.started_at = studio.time.monotonic()
    assert [child.restart_wait_s() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    child.started_at -= studio.STEADY_S + 1
    assert child.restart_wait_s() == 1
