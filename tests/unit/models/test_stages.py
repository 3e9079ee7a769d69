import pytest
import torch

from resnet_demo.architectures import MODELS, STEMS
from resnet_demo.models import build_model

# resnet18 and its like differ by stem
CASES = [(name, STEMS[0]) for name in MODELS] + [("resnet18", stem) for stem in STEMS[1:]]


def watched(model, x):
    """What comes out of the stages, by name and in the order in which they run; the features."""
    seen = []
    for name in model.stage_names:
        model.get_submodule(name).register_forward_hook(
            lambda _, __, y, name=name: seen.append((name, y))
        )
    return seen, model.features(x)


@pytest.mark.parametrize(("name", "stem"), CASES)
def test_the_stages_follow_each_other_from_the_stem_to_the_features(name, stem):
    with torch.device("meta"):
        model, x = build_model(name, stem=stem), torch.empty(1, 3, 64, 64)
    seen, features = watched(model, x)
    assert tuple(name for name, _ in seen) == model.stage_names
    assert len(seen) >= 4
    assert seen[-1][1] is features
    sides = [y.shape[-1] for _, y in seen]
    assert sides == sorted(sides, reverse=True)
    assert len(set(sides)) >= 3  # a look at each size, not at one of them many times


def test_stages_of_a_network_are_no_part_of_its_weights():
    with torch.device("meta"):
        model = build_model("resnet20")
    assert not any("stage_names" in name for name in model.state_dict())
