from trainingapp.models.checkpoint import Checkpoint
from trainingapp.models.dataset import Dataset
from trainingapp.models.event import RunEvent
from trainingapp.models.run import TrainingRun

__all__ = ["Checkpoint", "Dataset", "RunEvent", "TrainingRun"]
