from trainingapp.drill.installation import DrillError, Installation
from trainingapp.drill.rounds import CONFIGS, Drill, Report

__all__ = ["CONFIGS", "Drill", "DrillError", "Installation", "Report"]
