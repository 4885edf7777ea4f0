"""Machines, devices and the queue: which run starts next, on which device, and when."""
