from trainingapp.operations.drill.installation import DrillError, Installation
from trainingapp.operations.drill.rounds import CONFIGS, Drill, Report

__all__ = ["CONFIGS", "Drill", "DrillError", "Installation", "Report"]
