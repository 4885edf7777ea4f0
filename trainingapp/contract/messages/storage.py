"""Messages about the files of a run: events, checkpoints and their parts."""

from trainingapp.contract.messages import define, gettext_noop

UNREADABLE_LINE = define("unreadable_line", gettext_noop("Unreadable line in %(file)s: %(quoted)s"))
