"""The machines and devices that there are, and where a run fits on them."""
