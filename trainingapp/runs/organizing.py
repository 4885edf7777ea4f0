"""The verbs that keep order among runs: archive, restore, tags, notes; and what each user keeps: stars, saved views."""

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from trainingapp.accounts import audit
from trainingapp.accounts.users import lock_account
from trainingapp.contract.limits import MAX_TAGS, MAX_VIEWS, NOTE_LENGTH, TAG_LENGTH, VIEW_QUERY_LENGTH
from trainingapp.models import SavedView, Tag, TrainingRun
from trainingapp.models.run import Status
from trainingapp.models.verbs import FieldError, VerbError, checked_name, locked, not_possible


def can_be_archived(run: TrainingRun) -> bool:
    return not run.is_archived and run.status not in (Status.QUEUED, Status.RUNNING)


def archive_run(run: TrainingRun, *, by: str = "") -> TrainingRun:
    """Hide the run from lists; nothing of it is deleted. Raises VerbError while it is queued or running."""
    with locked(run):
        if can_be_archived(run):
            run.archived_at = timezone.now()
            run.save(update_fields=["archived_at", "updated_at"])
            audit.record("archive", run, by=by)
        elif not run.is_archived:
            raise not_possible(run, _("archived"))
    return run


def restore_run(run: TrainingRun, *, by: str = "") -> TrainingRun:
    """Show an archived run in lists again."""
    with locked(run):
        if run.is_archived:
            run.archived_at = None
            run.save(update_fields=["archived_at", "updated_at"])
            audit.record("unarchive", run, by=by)
    return run


def tag_names(text: str) -> list[str]:
    """The names in a text that separates them by commas, each once. Raises ValueError for one that is too long."""
    names = {" ".join(name.split()).casefold(): " ".join(name.split()) for name in text.split(",") if name.strip()}
    for name in names.values():
        if len(name) > TAG_LENGTH:
            message = _("The tag “%(name)s” has more than %(count)d characters.")
            raise ValueError(message % {"name": name, "count": TAG_LENGTH})
    return list(names.values())


def tag_run(run: TrainingRun, *, add: str = "", remove: str = "", by: str = "") -> TrainingRun:
    """Add and remove tags, each by names that commas separate. A tag that no run has any longer is deleted.

    Raises FieldError for a name that is too long, and for too many tags.
    """
    added, removed = _names("add", add), {name.casefold() for name in _names("remove", remove)}
    with locked(run):
        present = {tag.name.casefold(): tag for tag in run.tags.all()}
        new = [name for name in added if name.casefold() not in present]
        gone = [tag for folded, tag in present.items() if folded in removed]
        if len(present) + len(new) - len(gone) > MAX_TAGS:
            raise FieldError("add", _("A run can have %(count)d tags.") % {"count": MAX_TAGS})
        if new or gone:
            run.tags.remove(*gone)
            # The same tag may exist in another case of its letters.
            tags = [Tag.objects.filter(name__iexact=name).first() or Tag.objects.create(name=name) for name in new]
            run.tags.add(*tags)
            Tag.objects.filter(pk__in=[tag.pk for tag in gone], runs=None).delete()
            run.save(update_fields=["updated_at"])
            audit.record("tag", run, by=by, details={"added": new, "removed": [tag.name for tag in gone]})
    return run


def _names(field: str, text: str) -> list[str]:
    try:
        return tag_names(text)
    except ValueError as error:
        raise FieldError(field, str(error)) from None


def note_run(run: TrainingRun, text: str, *, by: str = "") -> TrainingRun:
    """Set the note of the run; an empty text removes it. Raises FieldError for a text that is too long."""
    text = text.replace("\r\n", "\n").strip()
    if len(text) > NOTE_LENGTH:
        raise FieldError("text", _("The note has more than %(count)d characters.") % {"count": NOTE_LENGTH})
    with locked(run):
        if run.note != text:
            run.note = text
            run.save(update_fields=["note", "updated_at"])
            audit.record("note", run, by=by)
    return run


def star_run(run: TrainingRun, user: User, *, is_starred: bool) -> None:
    """Mark the run for this user alone, or take the mark away."""
    if is_starred:
        run.starred_by.add(user)
    else:
        run.starred_by.remove(user)


def save_view(user: User, name: str, query: str) -> SavedView:
    """Save the query string of a list of runs under a name; one of the same name is replaced. Raises VerbError."""
    name = checked_name(name)
    if len(query) > VIEW_QUERY_LENGTH:
        raise VerbError(_("The view has too many conditions to be saved."))
    with transaction.atomic():
        lock_account(user)
        view = SavedView.objects.filter(user=user, name=name).first()
        if view is None and SavedView.objects.filter(user=user).count() >= MAX_VIEWS:
            raise VerbError(_("You can save %(count)d views.") % {"count": MAX_VIEWS})
        return SavedView.objects.update_or_create(user=user, name=name, defaults={"query": query})[0]
