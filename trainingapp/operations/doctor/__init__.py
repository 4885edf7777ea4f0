"""What is wrong with an installation: quick checks for load balancers, slow ones for people."""

from trainingapp.operations.doctor.examination import examine
from trainingapp.operations.doctor.finding import Finding, Severity
from trainingapp.operations.doctor.health import Vital, database_trouble, vitals

__all__ = ["Finding", "Severity", "Vital", "database_trouble", "examine", "vitals"]
