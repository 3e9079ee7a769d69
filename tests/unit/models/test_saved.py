"""Saved networks: damage, crashes and their descriptions."""

import json

import pytest
import safetensors.torch
import torch

from resnet_demo.errors import DamagedError, NotFoundError
from resnet_demo.files import sha256_of
from resnet_demo.models import build_model, saved
from resnet_demo.models.description import (
    Description,
    checksum,
    encode_description,
    model_description,
)
from resnet_demo.models.pretrained import imagenet_weights, read_weights
from resnet_demo.models.saved import load_model, save_model

NETWORK = {"name": "resnet20", "num_classes": 3, "stem": "small", "batch_norm": True}
ABOUT = {
    "network": NETWORK,
    "classes": ["cat", "Käse", "犬"],
    "preprocessing": {"source_size": 32, "mean": [0.1, 0.2, 1 / 3]},
    "metrics": {"val_top1": 0.9},
}


def network(seed=0):
    torch.manual_seed(seed)
    model = build_model("resnet20", 3)
    model(torch.randn(4, 3, 16, 16))  # sets the running statistics
    return model


def save(folder, seed=0, **other):
    save_model(folder, network(seed), **(ABOUT | {"metrics": {"seed": seed}} | other))


@pytest.fixture
def folder(tmp_path):
    save(tmp_path)
    return tmp_path


def seed_of(folder):
    """Return the seed of the saved network, after checking its weights and metrics."""
    loaded = load_model(folder)
    torch.testing.assert_close(
        loaded.model.state_dict(), network(loaded.metrics["seed"]).state_dict(), rtol=0, atol=0
    )
    assert model_description(folder)["metrics"] == loaded.metrics
    return loaded.metrics["seed"]


def test_a_description_may_name_the_published_weights_instead_of_a_file(tmp_path):
    known = imagenet_weights("efficientnet-lite0")
    about = {
        "network": NETWORK | {"name": "efficientnet-lite0", "num_classes": 1000},
        "classes": [str(number) for number in range(1000)],
        "preprocessing": {},
        "metrics": {},
        "pretrained": True,
    }
    description = Description(**about, sha256=known.sha256)
    (tmp_path / "model.json").write_bytes(encode_description(description))
    loaded = load_model(tmp_path)
    assert loaded.sha256 == known.sha256 == model_description(tmp_path)["sha256"]
    published = read_weights("efficientnet-lite0")
    assert torch.equal(loaded.model.head.weight, published["_fc.weight"])
    assert not loaded.model.training
    changed = Description(**about, sha256="0" * 64)
    (tmp_path / "model.json").write_bytes(encode_description(changed))
    with pytest.raises(DamagedError, match="it has another sha256"):
        load_model(tmp_path)


def test_a_saved_network_comes_back_with_its_description(tmp_path):
    model = network()
    save_model(tmp_path, model, **ABOUT)
    loaded = load_model(tmp_path)
    images = torch.randn(2, 3, 16, 16)
    assert not loaded.model.training
    torch.testing.assert_close(loaded.model(images), model.eval()(images), rtol=0, atol=0)
    assert (loaded.network, loaded.classes) == (NETWORK, ("cat", "Käse", "犬"))
    assert (loaded.preprocessing, loaded.metrics) == (ABOUT["preprocessing"], ABOUT["metrics"])
    assert loaded.sha256 == sha256_of(tmp_path / "model.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_the_description_can_be_read_without_the_weights(folder):
    (folder / "model.safetensors").unlink()
    described = model_description(folder)
    assert described["classes"] == ABOUT["classes"]
    keys = {"network", "classes", "preprocessing", "metrics", "sha256", "fingerprint", "pretrained"}
    assert described.keys() == keys


def test_loading_draws_no_random_numbers(folder):
    before = torch.get_rng_state()
    load_model(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_half_precision_network_comes_back_in_float32(tmp_path):
    save_model(tmp_path, network().bfloat16(), **ABOUT)
    loaded = load_model(tmp_path)
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


def test_a_network_without_batch_norm_can_be_saved(tmp_path):
    model = build_model("resnet18", 3, stem="imagenet", batch_norm=False)
    options = {"name": "resnet18", "num_classes": 3, "stem": "imagenet", "batch_norm": False}
    save_model(tmp_path, model, **ABOUT | {"network": options})
    assert load_model(tmp_path).network == options


@pytest.mark.parametrize("name", ["nothing", "."])
def test_a_folder_without_a_network_is_reported(tmp_path, name):
    for read in (load_model, model_description):
        with pytest.raises(NotFoundError, match="has no weights yet"):
            read(tmp_path / name)


def refused(folder, name):
    with pytest.raises(DamagedError) as error:
        load_model(folder)
    assert str(error.value).startswith(f"{name} of {folder.name} ")
    assert str(folder) not in str(error.value)  # visitors see the message
    return str(error.value)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_half_of_a_network_is_refused(folder, name):
    (folder / name).unlink()
    assert "is missing" in refused(folder, name)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_folder_in_place_of_a_file_is_refused(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    assert "cannot be read" in refused(folder, name)


@pytest.mark.parametrize("position", [0, 8, 100, -1])
def test_one_flipped_bit_in_the_weights_is_noticed(folder, position):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    assert "sha256" in refused(folder, path.name)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_torn_file_is_refused(folder, name, share):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(len(content) * share)])
    refused(folder, name)


@pytest.mark.parametrize(
    "content",
    ["[]", "null", "3", '"model"', "{}", '{"checksum": 1}', "[" * 100_000, "\xff\xfe", "NaN"],
)
def test_other_json_is_refused(folder, content):
    (folder / "model.json").write_bytes(content.encode("latin-1"))
    assert "is damaged and is not used" in refused(folder, "model.json")
    with pytest.raises(DamagedError):
        model_description(folder)


def test_an_altered_value_in_model_json_is_noticed(folder):
    path = folder / "model.json"
    path.write_text(path.read_text().replace('"cat"', '"dog"'))
    refused(folder, path.name)


def test_another_layout_of_the_same_json_is_fine(folder):
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert seed_of(folder) == 0


def redescribe(folder, **other):
    """Rewrite model.json with valid checksums, so that only its content is wrong."""
    path = folder / "model.json"
    values = json.loads(path.read_text()) | other
    values["sha256"] = sha256_of(folder / "model.safetensors")
    del values["checksum"]
    path.write_text(json.dumps(values | {"checksum": checksum(values)}))


@pytest.mark.parametrize(
    "other",
    [
        {"network": NETWORK | {"name": "resnet19"}},
        {"network": NETWORK | {"stem": "large"}},
        {"network": NETWORK | {"batch_norm": 1}},
        {"network": NETWORK | {"num_classes": 4}},
        {"network": NETWORK | {"depth": 20}},
        {"network": {"name": "resnet20"}},
        {"classes": ["cat", "dog"]},
        {"classes": ["cat", "dog", 3]},
        {"classes": "cat"},
        {"preprocessing": None},
        {"more": 1},
        {"metrics": [1]},
    ],
)
def test_an_invalid_description_is_refused(folder, other):
    redescribe(folder, **other)
    refused(folder, "model.json")


@pytest.mark.parametrize("other", [{"network": {"name": "resnet20"}}, {"classes": ["cat"]}])
def test_a_network_that_would_be_refused_is_not_written(folder, other):
    with pytest.raises(ValueError, match="network"):
        save(folder, 1, **other)
    assert seed_of(folder) == 0


@pytest.mark.parametrize(
    "weights",
    [
        b"",
        b"no safetensors",
        safetensors.torch.save({"head.bias": torch.zeros(3)}),
        safetensors.torch.save(build_model("resnet32", 3).state_dict()),
        safetensors.torch.save(build_model("resnet20", 4).state_dict()),
    ],
)
def test_weights_of_another_network_are_refused(folder, weights):
    (folder / "model.safetensors").write_bytes(weights)
    redescribe(folder)
    assert "does not hold the weights of resnet20" in refused(folder, "model.safetensors")


@pytest.mark.parametrize("metrics", [{"loss": float("nan")}, {"loss": float("inf")}])
def test_metrics_that_json_cannot_hold_are_not_written(folder, metrics):
    with pytest.raises(ValueError, match="JSON"):
        save(folder, 1, metrics=metrics)
    assert seed_of(folder) == 0


class Crash(Exception):
    pass


def save_and_crash(monkeypatch, folder, seed, before):
    """Save, but fail right before the file `before` gets its name."""

    def crash(*_):
        raise Crash

    real = saved.write_atomically
    with monkeypatch.context() as patch:
        if before == "model.json":
            patch.setattr(saved.os, "replace", crash)
            patch.setattr(saved, "write_atomically", lambda path, data: path.write_bytes(data))
        else:
            patch.setattr(
                saved,
                "write_atomically",
                lambda path, data: crash() if path.name == before else real(path, data),
            )
        with pytest.raises(Crash):
            save(folder, seed)


@pytest.mark.parametrize(
    ("before", "survivor"), [("model.json.new", 0), ("model.safetensors", 0), ("model.json", 1)]
)
def test_a_crash_while_saving_leaves_the_old_network_or_the_new_one(
    folder, monkeypatch, before, survivor
):
    save_and_crash(monkeypatch, folder, 1, before)
    assert seed_of(folder) == survivor
    save(folder, 2)
    assert seed_of(folder) == 2
    assert not (folder / "model.json.new").exists()


def test_a_second_crash_keeps_the_network_of_the_first(folder, monkeypatch):
    save_and_crash(monkeypatch, folder, 1, before="model.json")
    save_and_crash(monkeypatch, folder, 2, before="model.safetensors")
    assert seed_of(folder) == 1


def test_a_crash_in_the_very_first_save_leaves_nothing_or_the_network(tmp_path, monkeypatch):
    save_and_crash(monkeypatch, tmp_path, 1, before="model.safetensors")
    with pytest.raises(NotFoundError):
        load_model(tmp_path)
    save_and_crash(monkeypatch, tmp_path, 2, before="model.json")
    assert seed_of(tmp_path) == 2


def test_a_torn_pending_description_is_ignored(folder):
    (folder / "model.json.new").write_text('{"network": {')
    assert seed_of(folder) == 0


def test_a_network_replaced_while_it_is_read_is_read_again(folder, monkeypatch):
    real, times = saved.read_required, []

    def read_then_replace(path):
        content = real(path)
        if not times:
            times.append(1)
            save(folder, 1)
        return content

    monkeypatch.setattr(saved, "read_required", read_then_replace)
    assert seed_of(folder) == 1


def test_loading_draws_no_initial_weights(folder, monkeypatch):
    monkeypatch.setattr(torch.nn.init, "kaiming_normal_", None)  # torch takes seconds to load it
    assert load_model(folder).metrics == {"seed": 0}
