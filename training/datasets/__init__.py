"""Pictures of parts on disk, as train, validation and test lists; masks; frames ready for a network."""

from training.datasets.frames import load_frames, picture_shape
from training.datasets.items import GOOD, DefectConfig, Item
from training.datasets.layout import Dataset, open_dataset
from training.datasets.masks import Truth, read_truth

__all__ = [
    "GOOD",
    "Dataset",
    "DefectConfig",
    "Item",
    "Truth",
    "load_frames",
    "open_dataset",
    "picture_shape",
    "read_truth",
]
