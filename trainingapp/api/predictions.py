"""Having weights of the library look at images: a job, whose result a worker makes."""

from pathlib import Path as FilePath
from typing import BinaryIO, cast

from django.utils.translation import gettext as _
from ninja import File, Query, Router, Status, UploadedFile

from trainingapp.accounts.permissions import Verb
from trainingapp.api.access import aliased, dataset_for, weights_for
from trainingapp.api.callers import ApiRequest
from trainingapp.api.model_schemas import AliasQuery, JobResponse, PredictMany
from trainingapp.api.paging import Id
from trainingapp.api.problems import Problem, wrong_field
from trainingapp.models import Job, Weights
from trainingapp.weights import verbs as weights_verbs

router = Router(tags=["weights"])


@router.post("/resolve/predict", response={202: JobResponse}, summary="Predict images by alias")
def predict_resolved(request: ApiRequest, wanted: Query[AliasQuery], images: File[list[UploadedFile]]) -> Status[Job]:
    """Have the version that an alias stands for now look at a few images, as with its number."""
    return _predicting(request, aliased(request, wanted, Verb.DOWNLOAD, also=Verb.CREATE), images)


@router.post("/{pk}/predict", response={202: JobResponse}, summary="Predict images")
def predict(request: ApiRequest, pk: Id, images: File[list[UploadedFile]]) -> Status[Job]:
    """Have a worker look at a few images, sent as a form. When the job is done, its file is predictions.json."""
    return _predicting(request, weights_for(request, pk, Verb.DOWNLOAD, also=Verb.CREATE), images)


def _predicting(request: ApiRequest, weights: Weights, images: list[UploadedFile]) -> Status[Job]:
    sent = [(file.name or "", cast(BinaryIO, file.file)) for file in images]
    return Status(202, weights_verbs.predict(weights, images=sent, by=request.caller.user))


@router.post("/{pk}/predict-many", response={202: JobResponse}, summary="Predict a dataset or a folder")
def predict_many(request: ApiRequest, pk: Id, payload: PredictMany) -> Status[Job]:
    """Have a worker look at a split of a dataset, and measure, or at a folder. The file is predictions.jsonl."""
    weights = weights_for(request, pk, Verb.DOWNLOAD, also=Verb.CREATE)
    if (payload.dataset is None) == (payload.folder is None):
        raise wrong_field("#/dataset", _("Give a dataset or a folder, one of the two."))
    by = request.caller.user
    if payload.folder is not None:
        return Status(202, weights_verbs.predict_folder(weights, FilePath(payload.folder), by=by))
    try:
        dataset = dataset_for(request, payload.dataset or 0)
    except Problem:
        raise wrong_field("#/dataset", _("There is no dataset with this number.")) from None
    return Status(202, weights_verbs.predict_dataset(weights, dataset, split=payload.split, by=by))
