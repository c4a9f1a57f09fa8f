"""What the stage `cross_validate` makes of the answers of all folds."""

import numpy as np
import pandas as pd
import pytest
import torch

from happymaps.datasets import LabelledImages
from happymaps.errors import InputError
from happymaps.params import NetworkParams, Params, StepParams
from happymaps.stages.cross_validate import _errors, _of_recordings, _spec_of
from toys import toy_faces


def test_no_step_is_in_the_way_of_a_network(params: Params) -> None:
    wrong = StepParams(name="wrong", changes={"colour": "blue"})
    generalist = params.networks["generalist"]
    others = params.model_copy(update={"networks": {"generalist": generalist}, "steps": [wrong]})
    assert _spec_of("generalist", others) == generalist
    with pytest.raises(InputError, match="no network 'experiment0'"):
        _spec_of("wrong", others)
    with pytest.raises(InputError, match=r"steps\.wrong: no such param 'colour'"):
        _spec_of("wrong", params.model_copy(update={"steps": [wrong]}))
    with pytest.raises(InputError, match="no network 'nobody'"):
        _spec_of("nobody", params)


def test_figures_of_recordings_are_means_over_the_networks(spec: NetworkParams) -> None:
    truth = toy_faces(4).truth.assign(pose=["left", "left", "up", "up"], left=[1, 1, 0, 0])
    faces = LabelledImages(toy_faces(4).images, truth)
    right = torch.tensor([[0.0, 9], [0, 9], [9, 0], [9, 0]])
    never = torch.tensor([[9.0, 0]] * 4)
    assert set(_of_recordings(spec, [right, never], faces).values()) == {0.75}


def test_recordings_of_which_no_frame_is_labelled_have_no_figures(spec: NetworkParams) -> None:
    nobody = toy_faces(4).take(np.arange(0))
    assert _of_recordings(spec, [torch.empty(0, 2)] * 3, nobody) == {}


def test_errors_say_what_was_taken_for_what() -> None:
    table = pd.DataFrame(
        {"subject": ["ann", "ann", "ann", "bob", "cai"],
         "actual": ["left", "left", "left", "up", "up"],
         "predicted": ["up", "up", "left", "left", "up"]},
    )  # fmt: skip
    table["right"] = table["actual"] == table["predicted"]
    assert _errors(table) == {"ann": {"left as up": 2}, "bob": {"up as left": 1}}
