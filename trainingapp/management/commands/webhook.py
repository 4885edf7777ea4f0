"""manage.py webhook: the addresses that are called when something happens."""

import json
import time
from argparse import ArgumentParser

from django.conf import settings
from django.core.management import CommandError

from trainingapp.accounts.notifications import webhooks as webhook_verbs
from trainingapp.accounts.notifications.delivery import deliver_next
from trainingapp.accounts.notifications.events import EVENTS
from trainingapp.accounts.notifications.webhooks import WebhookValues
from trainingapp.management.base import Options, StudioCommand, table_lines
from trainingapp.management.foreground import find_owner
from trainingapp.models import Webhook
from trainingapp.models.verbs import VerbError
from trainingapp.presentation.messages import rendered_data

DELIVERIES_SHOWN = 20
#: Longer than any try takes.
LONGEST_TEST_S = 90


class Command(StudioCommand):
    help = "Create, list, test and delete webhooks, and show their deliveries."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        create = actions.add_parser("create", help="Create a webhook and print its secret.")
        create.add_argument("name", help="Name of the webhook.")
        create.add_argument("url", help="Address that receives a POST request for each event.")
        create.add_argument(
            "--user", default="", help="Owner, whose events are sent (default: the first administrator)."
        )
        create.add_argument("--installation", action="store_true", help="Send the events of the installation instead.")
        create.add_argument(
            "--event", action="append", choices=list(EVENTS), help="Event of the installation; repeatable."
        )
        create.add_argument("--format", choices=Webhook.Format.values, default=Webhook.Format.JSON)
        create.add_argument("--language", choices=[code for code, _name in settings.LANGUAGES], default="")
        listing = actions.add_parser("list", help="List webhooks.")
        listing.add_argument("--json", action="store_true", help="Print a JSON array.")
        for name, text in (
            ("test", "Send a test and print its result."),
            ("deliveries", "Show the latest deliveries."),
            ("delete", "Delete webhooks with their logs."),
        ):
            action = actions.add_parser(name, help=text)
            action.add_argument("webhook", nargs="+", type=int, help="Numbers of webhooks.")

    def handle(self, *args: object, **options: object) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except VerbError as error:
            raise CommandError(str(error)) from None

    def _create(self, options: Options) -> None:
        values = WebhookValues(
            name=options["name"],
            url=options["url"],
            format=options["format"],
            language=options["language"],
            events=options["event"] or list(EVENTS),
        )
        if options["event"] and not options["installation"]:
            raise CommandError("--event needs --installation: the events of a user follow the user's settings.")
        webhook = webhook_verbs.create_webhook(
            find_owner(options["user"]), values, for_installation=options["installation"]
        )
        self.stderr.write(f"Webhook {webhook.pk} was created. Key of its signature:")
        self.stdout.write(webhook.secret)

    def _list(self, options: Options) -> None:
        webhooks = Webhook.objects.select_related("owner").order_by("pk")
        if options["json"]:
            self.stdout.write(json.dumps([_record(webhook) for webhook in webhooks]))
            return
        rows = [
            (str(each.pk), each.name, _owner(each), each.format, "enabled" if each.is_enabled else "disabled", each.url)
            for each in webhooks
        ]
        self.stdout.write("\n".join(table_lines(("NUMBER", "NAME", "OWNER", "FORMAT", "STATE", "ADDRESS"), rows)))

    def _test(self, options: Options) -> None:
        failed = []
        for webhook in _found(options["webhook"]):
            delivery = webhook_verbs.test_webhook(webhook)
            # Whoever claims it sends it: this process or a worker, which is then waited for.
            deadline = time.monotonic() + LONGEST_TEST_S
            while delivery.state == delivery.State.WAITING and not delivery.error_data and time.monotonic() < deadline:
                if not deliver_next():
                    time.sleep(0.1)
                delivery.refresh_from_db()
            answer = delivery.status_code or rendered_data(delivery.error_data) or delivery.get_state_display()
            self.stdout.write(f"{webhook.name}: {answer}")
            if delivery.state != delivery.State.SENT:
                failed.append(webhook.name)
        if failed:
            raise CommandError(f"The test failed: {', '.join(failed)}.")

    def _deliveries(self, options: Options) -> None:
        for webhook in _found(options["webhook"]):
            rows = [
                (
                    each.created_at.isoformat(timespec="seconds"),
                    each.occurrence.event,
                    each.state,
                    str(each.tries),
                    str(each.status_code or ""),
                    rendered_data(each.error_data),
                )
                for each in webhook.deliveries.select_related("occurrence")[:DELIVERIES_SHOWN]
            ]
            self.stdout.write(f"{webhook.pk}  {webhook.name}")
            self.stdout.write("\n".join(table_lines(("TIME", "EVENT", "STATE", "TRIES", "STATUS", "ERROR"), rows)))

    def _delete(self, options: Options) -> None:
        for webhook in _found(options["webhook"]):
            number = webhook.pk
            count = webhook_verbs.delete_webhook(webhook)
            self.stdout.write(f"Webhook {number} “{webhook.name}” was deleted, with {count} entries of its log.")


def _found(numbers: list[int]) -> list[Webhook]:
    """The webhooks of these numbers. Raises CommandError for a number that does not exist, before anything is done."""
    webhooks = Webhook.objects.in_bulk(numbers)
    if missing := [number for number in numbers if number not in webhooks]:
        raise CommandError(f"There is no webhook {missing[0]}.")
    return [webhooks[number] for number in dict.fromkeys(numbers)]


def _owner(webhook: Webhook) -> str:
    return webhook.owner.get_username() if webhook.owner else "(installation)"


def _record(webhook: Webhook) -> dict[str, object]:
    names = ("name", "url", "format", "language", "is_enabled", "events")
    return {
        "id": webhook.pk,
        "user": webhook.owner.get_username() if webhook.owner else None,
        **{name: getattr(webhook, name) for name in names},
        "created_at": webhook.created_at.isoformat(),
    }
