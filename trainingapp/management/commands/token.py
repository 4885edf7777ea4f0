"""manage.py token: personal tokens for the API."""

import json
from argparse import ArgumentParser
from datetime import timedelta

from django.core.management import CommandError
from django.utils import timezone

from trainingapp.accounts import tokens as token_verbs
from trainingapp.management.base import Options, StudioCommand
from trainingapp.management.foreground import find_owner
from trainingapp.models import ApiToken
from trainingapp.models.verbs import VerbError


class Command(StudioCommand):
    help = "Create, list and revoke personal tokens for the API."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        create = actions.add_parser("create", help="Create a token and print it; it is not shown again.")
        create.add_argument("name", help="Name of the token.")
        create.add_argument("--user", default="", help="Owner (the first administrator).")
        create.add_argument(
            "--scope",
            action="append",
            choices=ApiToken.Scope.values,
            help="Scope of the token; repeatable (default: all).",
        )
        create.add_argument("--days", type=int, default=90, help="Lifetime in days; 0: unlimited (%(default)s).")
        listing = actions.add_parser("list", help="List tokens, newest first.")
        listing.add_argument("--user", default="", help="Only tokens of this user.")
        listing.add_argument("--json", action="store_true", help="Print a JSON array.")
        revoke = actions.add_parser("revoke", help="Revoke tokens.")
        revoke.add_argument("token", nargs="+", type=int, help="Numbers of tokens.")

    def handle(self, *args: object, **options: object) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except VerbError as error:
            raise CommandError(str(error)) from None

    def _create(self, options: Options) -> None:
        scopes, days = options["scope"] or ApiToken.Scope.values, options["days"]
        if days < 0:
            raise CommandError("--days must not be negative.")
        expires_at = timezone.now() + timedelta(days=days) if days else None
        token, secret = token_verbs.create_token(
            find_owner(options["user"]), name=options["name"], scopes=scopes, expires_at=expires_at
        )
        self.stderr.write(f"Token {token.pk} of {token.user.get_username()}; it is not shown again:")
        self.stdout.write(secret)

    def _list(self, options: Options) -> None:
        tokens = ApiToken.objects.select_related("user")
        if options["user"]:
            tokens = tokens.filter(user=find_owner(options["user"]))
        if options["json"]:
            self.stdout.write(json.dumps([_record(token) for token in tokens]))
            return
        for token in tokens:
            record = _record(token)
            state = "usable" if record["is_usable"] else "not usable"
            scopes = ", ".join(token.scopes)
            about = f"{record['user']}  {record['name']}  {scopes}  last used: {record['last_used_at'] or 'never'}"
            self.stdout.write(f"{record['id']}  {record['prefix']}…  {state}  {about}")

    def _revoke(self, options: Options) -> None:
        for number in options["token"]:
            token = ApiToken.objects.filter(pk=number).first()
            if token is None:
                raise CommandError(f"There is no token {number}.")
            token_verbs.revoke_token(token)
            self.stdout.write(f"Token {number} “{token.name}” was revoked.")


def _record(token: ApiToken) -> dict[str, object]:
    times = ("created_at", "expires_at", "revoked_at", "last_used_at")
    about = {name: value.isoformat() if (value := getattr(token, name)) else None for name in times}
    names = ("name", "prefix", "scopes", "is_usable", "last_used_from")
    return {
        "id": token.pk,
        "user": token.user.get_username(),
        **{name: getattr(token, name) for name in names},
        **about,
    }
