"""Sweeps: many runs of one configuration with different values.

space.py       the search space: which fields, between which bounds
sampling.py    the values of the next trial, as a pure function of the trials so far
pruning.py     which trials are stopped early, as a pure function of their validations
following.py   keeps the state of a trial equal to that of its run
advance.py     creates trials, prunes them and ends the sweep, from what the database says
verbs.py       create, start, pause, resume, stop, delete, enqueue; `verb_registry.py` has a record of each
page.py        what the page of a sweep shows
"""
