"""Sharing of runs, datasets, models and sweeps."""

from django.utils.translation import gettext as _
from ninja import Router

from trainingapp.accounts import sharing as sharing_verbs
from trainingapp.accounts.permissions import Verb
from trainingapp.accounts.sharing import Shareable
from trainingapp.api.access import dataset_for, run_for, weights_for
from trainingapp.api.callers import ApiRequest
from trainingapp.api.paging import Id
from trainingapp.api.problems import wrong_field
from trainingapp.api.schemas import ShareRequest, Sharing
from trainingapp.api.sweeps import sweep_for
from trainingapp.models import Sweep, Team
from trainingapp.runs.sweeps import verbs as sweep_verbs
from trainingapp.runs.verb_registry import RUN_VERBS

router = Router()


@router.post("/training/{pk}/share", response=Sharing, summary="Share a run", tags=["training"])
def share_run(request: ApiRequest, pk: Id, payload: ShareRequest) -> Shareable:
    """Share a run with every user, the members of a team of the owner, or no other user."""
    return _shared(request, run_for(request, pk, RUN_VERBS["share"].permission), payload)


@router.post("/datasets/{pk}/share", response=Sharing, summary="Share a dataset", tags=["datasets"])
def share_dataset(request: ApiRequest, pk: Id, payload: ShareRequest) -> Shareable:
    """Share a dataset with every user, the members of a team of the owner, or no other user."""
    return _shared(request, dataset_for(request, pk, Verb.SHARE), payload)


@router.post("/weights/{pk}/share", response=Sharing, summary="Share weights", tags=["weights"])
def share_weights(request: ApiRequest, pk: Id, payload: ShareRequest) -> Shareable:
    """Share a model with every user, the members of a team of the owner, or no other user."""
    return _shared(request, weights_for(request, pk, Verb.SHARE), payload)


@router.post("/sweeps/{pk}/share", response=Sharing, summary="Share a sweep", tags=["sweeps"])
def share_sweep(request: ApiRequest, pk: Id, payload: ShareRequest) -> Shareable:
    """Share a sweep, and the runs of its trials, with every user, a team of the owner, or no other user."""
    return _shared(request, sweep_for(request, pk, Verb.SHARE), payload)


def _shared(request: ApiRequest, item: Shareable, payload: ShareRequest) -> Shareable:
    if (payload.team is not None) != (payload.visibility == "team"):
        raise wrong_field("#/team", _("Name a team where it is shared with one, and nowhere else."))
    team = None
    if payload.team is not None:
        # A team that the owner is not in is answered as one that does not exist, so that names cannot be guessed.
        team = Team.objects.filter(name=payload.team, members=item.owner_id).first()
        if team is None:
            raise wrong_field("#/team", _("The owner has no team of this name."))
    if isinstance(item, Sweep):
        return sweep_verbs.share_sweep(item, payload.visibility, team, by=request.caller.user)
    return sharing_verbs.share(item, payload.visibility, team, by=request.caller.user)
