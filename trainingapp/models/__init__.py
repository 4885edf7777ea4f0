from trainingapp.models.access import ApiToken, AuditEntry, IdempotencyKey
from trainingapp.models.checkpoint import Checkpoint
from trainingapp.models.dataset import Dataset
from trainingapp.models.device import Device, DeviceHold, Forecast, Host, HostDataset
from trainingapp.models.event import RunEvent
from trainingapp.models.job import Job
from trainingapp.models.notification import Alarm, Delivery, Notification, NotificationSettings, Occurrence, Webhook
from trainingapp.models.organizing import SavedView, Tag
from trainingapp.models.recovery import FailureRule, JournalEntry
from trainingapp.models.run import TrainingRun
from trainingapp.models.run_value import RunValue
from trainingapp.models.series import SeriesChunk
from trainingapp.models.share import RunShare
from trainingapp.models.sharing import Team
from trainingapp.models.sweep import Sweep, Trial
from trainingapp.models.weights import Weights, WeightsAlias

__all__ = [
    "Alarm",
    "ApiToken",
    "AuditEntry",
    "Checkpoint",
    "Dataset",
    "Delivery",
    "Device",
    "DeviceHold",
    "FailureRule",
    "Forecast",
    "Host",
    "HostDataset",
    "IdempotencyKey",
    "Job",
    "JournalEntry",
    "Notification",
    "NotificationSettings",
    "Occurrence",
    "RunEvent",
    "RunShare",
    "RunValue",
    "SavedView",
    "SeriesChunk",
    "Sweep",
    "Tag",
    "Team",
    "TrainingRun",
    "Trial",
    "Webhook",
    "Weights",
    "WeightsAlias",
]
