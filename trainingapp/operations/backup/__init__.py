from trainingapp.operations.backup.make import make_backup, measure
from trainingapp.operations.backup.parts import BackupError
from trainingapp.operations.backup.restore import restore_backup

__all__ = ["BackupError", "make_backup", "measure", "restore_backup"]
