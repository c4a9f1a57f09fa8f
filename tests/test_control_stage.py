from happymaps.params import Params
from happymaps.stages.control import _without_turns


def test_a_control_turns_no_heads_for_their_labels_would_be_true(params: Params) -> None:
    generalist = params.networks["generalist"]
    both = generalist.augment.model_copy(update={"turn": 40.0, "nod": 20.0})
    spec = generalist.model_copy(update={"augment": both})
    control = _without_turns(spec)
    assert (control.augment.turn, control.augment.nod) == (0, 0)
    turned = control.augment.model_copy(update={"turn": spec.augment.turn, "nod": spec.augment.nod})
    assert control.model_copy(update={"augment": turned}) == spec
