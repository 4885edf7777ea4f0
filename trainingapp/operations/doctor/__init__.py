"""Problems of an installation: quick checks for load balancers, thorough ones for `manage.py doctor`."""

from trainingapp.operations.doctor.examination import examine
from trainingapp.operations.doctor.finding import Finding, Severity
from trainingapp.operations.doctor.health import Vital, database_trouble, vitals

__all__ = ["Finding", "Severity", "Vital", "database_trouble", "examine", "vitals"]
