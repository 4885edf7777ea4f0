from trainingapp.operations.backup.make import make_backup, size_to_back_up
from trainingapp.operations.backup.parts import BackupError
from trainingapp.operations.backup.restore import restore_backup

__all__ = ["BackupError", "make_backup", "restore_backup", "size_to_back_up"]
