"""What is wrong with an installation: quick checks for load balancers, slow ones for people."""

from trainingapp.doctor.examination import examine
from trainingapp.doctor.finding import Finding, Severity
from trainingapp.doctor.vital_signs import Vital, database_trouble, vitals

__all__ = ["Finding", "Severity", "Vital", "database_trouble", "examine", "vitals"]
