"""The subcommand `share`: who can see a run, a dataset or a model."""

from django.core.management import CommandError

from trainingapp.accounts import sharing as sharing_verbs
from trainingapp.management.base import Options, Subcommands
from trainingapp.models import Dataset, Team, TrainingRun, Weights
from trainingapp.models.sharing import Visibility


def add_share(
    actions: Subcommands, metavar: str, kind: type[int] | type[str] = str, *, about: str = "Set who else sees it."
) -> None:
    """Add the subcommand, for objects that are named by `metavar`."""
    share = actions.add_parser("share", help=about)
    share.add_argument("item", type=kind, metavar=metavar)
    wanted = share.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--with", dest="visibility", choices=[Visibility.EVERYBODY.value, Visibility.PRIVATE.value])
    wanted.add_argument("--team", metavar="NAME", help="A team of the owner.")


def share_item(item: TrainingRun | Dataset | Weights, options: Options) -> str:
    """Apply the options of `share`; returns a sentence for the user. Raises CommandError for an unknown team."""
    team = Team.objects.filter(name=options["team"]).first() if options["team"] else None
    if options["team"] and team is None:
        raise CommandError(f"--team: there is no team {options['team']}.")
    sharing_verbs.share(item, options["visibility"] or Visibility.TEAM, team)
    seen_by = {
        Visibility.EVERYBODY.value: "everybody",
        Visibility.PRIVATE.value: "its owner and administrators",
        Visibility.TEAM.value: f"the team {team}",
    }
    return f"“{item}” is seen by {seen_by[item.visibility]}."
