from trainingapp.admin import access, datasets, devices, notifications, runs, sweeps, work

__all__ = ["access", "datasets", "devices", "notifications", "runs", "sweeps", "work"]
