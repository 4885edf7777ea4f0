"""Problems of an installation: quick checks for load balancers, thorough ones for `manage.py doctor`."""

from trainingapp.operations.doctor.examination import examine
from trainingapp.operations.doctor.finding import Finding, Severity
from trainingapp.operations.doctor.health import HealthCheck, database_trouble, health_checks

__all__ = ["Finding", "HealthCheck", "Severity", "database_trouble", "examine", "health_checks"]
