"""E-mails as they arrive at a real mail server, by way of the settings of an installation."""

import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.mail_server import Mailbox, receiving_mail
from tests.helpers.studio import Studio

#: A run of a user with an address completes, and what is due is sent.
COMPLETE = """
from django.contrib.auth.models import User
from tests.helpers.tiny import make_run
from trainingapp.accounts.notifications.delivery import deliver_next
from trainingapp.accounts.notifications.preferences import save_settings
from trainingapp.models import Dataset, Delivery, TrainingRun

ada = User.objects.create_user("ada")
save_settings(ada, {"run_completed": ["email"]}, language="zh-hans", email="ada@example.org")
dataset = Dataset.objects.create(name="pets", owner=ada, source="/nowhere", status="ready", classes=["a", "b"],
    tasks=["classification"], counts={}, images={"train": 20, "val": 4})
run = make_run(ada, dataset, "birds")
TrainingRun.objects.filter(pk=run.pk).update(status="running")
TrainingRun.objects.get(pk=run.pk).transition("completed")
assert deliver_next()
assert not deliver_next()
row = Delivery.objects.get()
result = {"id": str(row.pk), "state": row.state, "tries": row.tries, "error": str(row.error_data)}
"""


def completed(folder: Path, mail_url: str, **env: str) -> dict[str, Any]:
    """Complete a run in a new installation with this setting; returns how its e-mail was delivered."""
    studio = Studio(
        folder / "data", MAIL_URL=mail_url, MAIL_FROM="studio@example.org", STUDIO_URL="https://cv.example.org", **env
    )
    studio.migrate()
    found: dict[str, Any] = studio.python(COMPLETE)
    return found


def only(mailbox: Mailbox) -> str:
    """The text of the one e-mail that has arrived; its headers are those that it should have."""
    (mail,) = mailbox.mails
    assert (mail["From"], mail["To"], mail["Auto-Submitted"]) == (
        "studio@example.org",
        "ada@example.org",
        "auto-generated",
    )
    assert mail["Subject"].startswith("[CV Studio] ")
    assert "birds" in mail["Subject"]
    return str(mail.get_content())


def test_an_email_arrives_with_the_password_of_the_setting(tmp_path: Path) -> None:
    with receiving_mail() as mailbox:
        done = completed(tmp_path, f"smtp+plain://studio:p%40ss%20word@127.0.0.1:{mailbox.port}")
    assert (done["state"], done["tries"]) == ("sent", 1)
    text = only(mailbox)
    assert "https://cv.example.org/runs/1/" in text
    assert "https://cv.example.org/notifications/settings/" in text
    assert "运行" in text, "it is in the language of its reader"
    assert mailbox.mails[0]["Message-ID"] == f"<{done['id']}@cvstudio>"
    assert mailbox.logins == ["studio:p@ss word"]
    assert mailbox.envelopes == [("studio@example.org", ["ada@example.org"], False)]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1 with its key, in one file."""
    key, file = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", file], check=True, capture_output=True)
    file.write_text(file.read_text() + key.read_text())
    return file


def test_an_email_is_sent_encrypted_where_the_certificate_is_valid(tmp_path: Path, certificate: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with receiving_mail(tls) as mailbox:
        url = f"smtp://127.0.0.1:{mailbox.port}"
        unknown = completed(tmp_path / "unknown", url)
        assert (unknown["state"], mailbox.mails) == ("waiting", []), "nobody vouches for the certificate"
        assert "certificate" in unknown["error"]
        done = completed(tmp_path / "known", url, SSL_CERT_FILE=str(certificate))
    assert done["state"] == "sent"
    assert only(mailbox)
    assert mailbox.envelopes == [("studio@example.org", ["ada@example.org"], True)]


def test_a_refused_recipient_is_tried_again_later(tmp_path: Path) -> None:
    with receiving_mail() as mailbox:
        mailbox.unknown.add("ada@example.org")
        done = completed(tmp_path, f"smtp+plain://127.0.0.1:{mailbox.port}")
    assert (done["state"], done["tries"], mailbox.mails) == ("waiting", 1, [])
    assert "no such mailbox" in done["error"]
