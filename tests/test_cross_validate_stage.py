"""What the stage `cross_validate` makes of the answers of all folds."""

import torch

from happymaps.datasets import LabelledImages
from happymaps.params import NetworkParams
from happymaps.stages.cross_validate import _of_recordings
from toys import toy_faces


def test_figures_of_recordings_are_means_over_the_networks(spec: NetworkParams) -> None:
    truth = toy_faces(4).truth.assign(pose=["left", "left", "up", "up"], left=[1, 1, 0, 0])
    faces = LabelledImages(toy_faces(4).images, truth)
    right = torch.tensor([[0.0, 9], [0, 9], [9, 0], [9, 0]])
    never = torch.tensor([[9.0, 0]] * 4)
    assert set(_of_recordings(spec, [right, never], faces).values()) == {0.75}
