"""Positions in the files of a source."""

from typing import NamedTuple

from trainingapp.contract.messages import Param
from trainingapp.contract.messages import dataset_annotations as messages


class Position(NamedTuple):
    """A file of the source and a line in it, counted from 1; 0 for the file as a whole.

    A tuple, since a source can have millions of annotated objects, each with its own.
    """

    path: str
    line: int = 0

    def param(self) -> Param:
        """The position as a message parameter."""
        return messages.AT_LINE(path=self.path, line=self.line) if self.line else self.path
