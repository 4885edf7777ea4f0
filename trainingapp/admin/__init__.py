from trainingapp.admin import access, datasets, devices, notifications, runs, work

__all__ = ["access", "datasets", "devices", "notifications", "runs", "work"]
