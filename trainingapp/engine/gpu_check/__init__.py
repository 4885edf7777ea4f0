"""The GPU check: `python -m trainingapp.engine --gpu-check` measures what the engine does on this machine's GPU.

It trains small drawn scenes with the real loop and prints a table for each section; the last line is the same as JSON.
Each section works in processes of its own, so that a crash, a hang or an error of the GPU never hides the others. It
needs no Django.
"""
