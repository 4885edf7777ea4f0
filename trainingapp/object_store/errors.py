"""Why a dataset cannot be stored or fetched."""

from trainingapp.contract.messages import MessageError


class StoreError(MessageError):
    """The object store cannot be used now, or refuses."""


class CorruptedDataset(StoreError):
    """What the object store contains is not what was stored; waiting does not help."""


class MissingObject(StoreError):
    """The object store does not contain it."""
