from trainingapp.admin import access, datasets, devices, runs, work

__all__ = ["access", "datasets", "devices", "runs", "work"]
