"""System checks: what a deployment should not be run with."""
