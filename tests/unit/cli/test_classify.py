"""`classify`: labels, maps, feature maps, similar images."""

import shutil
from pathlib import Path

import pytest

from resnet_demo.paths import REPOSITORY, Paths
from resnet_demo.runs.store import PRETRAINED, Run
from resnet_demo.tasks.status import read_status


def test_each_picture_has_a_line_and_a_broken_one_does_not_stop_the_others(
    trained, picture, tmp_path
):
    demo, _ = trained
    good, broken, gone = picture("a.png", "red"), picture("b.png", "blue"), tmp_path / "gone.jpg"
    broken.write_bytes(broken.read_bytes()[:40])
    other = picture("c.jpg", (0, 0, 200))
    files = [str(path) for path in (good, broken, gone, other)]
    answer = demo("classify", "mine", *files, "--top", 2, "--json")
    assert (answer.code, answer.err) == (1, "")
    assert [line["file"] for line in answer.objects] == files
    first, second, third, last = answer.objects
    assert second.keys() == third.keys() == {"file", "error"}
    assert "b.png" in second["error"]
    assert "there is no file" in third["error"]
    for line in (first, last):
        confidences = [label["confidence"] for label in line["labels"]]
        assert len(confidences) == 2
        assert 1 >= confidences[0] >= confidences[1] >= 0
        assert line["labels"][0].keys() == {"label", "confidence"}


def test_confidences_add_up_to_one(trained, picture):
    demo, _ = trained
    answer = demo("classify", "mine", picture("a.png", "red"), "--dataset", "colours", "--json")
    assert answer.code == 0
    confidences = [label["confidence"] for label in answer.objects[0]["labels"]]
    assert sum(confidences) == pytest.approx(1)
    top = demo("classify", "mine", picture("a.png", "red"), "--top", 1)
    assert top.code == 0
    assert top.out.count("%") == 1


def test_a_line_has_the_out_of_distribution_result_and_the_fit(trained, picture):
    demo, _ = trained
    (line,) = demo("classify", "mine", picture("a.png", "red"), "--fit", "pad", "--json").objects
    assert line.keys() == {"file", "labels", "outside", "fit"}
    assert line["fit"] == "pad"
    outside = line["outside"]
    assert outside.keys() == {"energy", "threshold", "false_alarms", "is_outside"}
    assert outside["is_outside"] == (outside["energy"] > outside["threshold"])
    (square,) = demo("classify", "mine", picture("a.png", "red"), "--json").objects
    assert square["fit"] == "crop"


def test_an_out_of_distribution_picture_has_a_warning(trained, picture, monkeypatch):
    from resnet_demo.inference.classification import OodVerdict

    for is_outside in (True, False):
        monkeypatch.setattr(OodVerdict, "is_ood", is_outside)
        answer = trained[0]("classify", "mine", picture("a.png", "red"))
        assert ("unlike the training images" in answer.out) == is_outside


def test_a_map_is_drawn_over_the_picture(trained, picture, tmp_path):
    import numpy as np
    from PIL import Image

    from resnet_demo.data.pictures import decode_picture
    from resnet_demo.inference.classifier import Classifier
    from resnet_demo.inference.heatmaps import overlay

    demo, _ = trained
    file = tmp_path / "noise.png"
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    args = ["classify", "mine", file, "--fit", "squash", "--opacity", "0.3"]
    (line,) = demo(*args, "--map", tmp_path / "map.png", "--json").objects
    assert line["map"] == str(tmp_path / "map.png")
    class_map = Classifier.load(Run(demo.runs / "mine")).class_map(
        noise, line["labels"][0]["label"], "squash"
    )
    drawn = decode_picture(tmp_path / "map.png")
    np.testing.assert_array_equal(drawn, overlay(noise, class_map.heat, 0.3))
    assert not np.array_equal(drawn, noise)


def test_the_feature_maps_of_each_stage_are_a_file(trained, tmp_path):
    import numpy as np
    from PIL import Image

    from resnet_demo.data.pictures import decode_picture
    from resnet_demo.inference.classifier import Classifier

    demo, folder, file = trained[0], tmp_path / "new" / "inside", tmp_path / "noise.png"
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    args = ["classify", "mine", file, "--fit", "pad", "--inside", folder]
    (line,) = demo(*args, "--json").objects
    stages = Classifier.load(Run(demo.runs / "mine")).feature_maps(noise, "pad")
    assert [row["stage"] for row in line["inside"]] == [name for name, _ in stages]
    assert [row["file"] for row in line["inside"]] == [
        str(folder / f"{name}.png") for name in ("stem", "stage-1", "stage-2", "stage-3")
    ]
    for row, (_, grid) in zip(line["inside"], stages, strict=True):
        np.testing.assert_array_equal(decode_picture(Path(row["file"])), grid)
    assert demo(*args).out.endswith(f"{folder}/stage-2.png, {folder}/stage-3.png\n")


def test_similar_images_are_those_that_the_page_finds(trained, tmp_path):
    from PIL import Image

    from resnet_demo.data.store import Datasets
    from resnet_demo.inference.classifier import Classifier
    from resnet_demo.tasks.image_indexes import ImageIndexes, read_index
    from resnet_demo.tasks.launcher import Launcher

    demo, file = trained[0].copy(tmp_path), tmp_path / "known.png"
    run, images = Run(demo.runs / "mine"), Datasets(demo.data).load("colours", "train")[0]
    folder = ImageIndexes(Launcher(Paths(demo.runs, demo.data))).folder(run)
    args = ["classify", "mine", file, "--fit", "squash", "--similar"]
    Image.fromarray(images[3]).save(file)
    (line,) = demo(*args, "--json").objects
    assert read_status(folder).state == "finished"  # and the page finds it there
    index = read_index(folder)
    found = Classifier.load(run).similar_images(images[3], index, "squash")
    assert [(row["place"], row["cosine"], row["label"]) for row in line["similar"]] == found
    assert len(found) == 5
    assert 3 in index.places
    assert 3 in [row["place"] for row in line["similar"] if row["cosine"] > 0.999]  # itself
    out = demo(*args).out
    assert f"; most similar training images: {found[0][2]} {found[0][1]:.3f}, " in out


def test_a_second_run_classifies_the_same_picture(trained, picture, tmp_path):
    demo = trained[0].copy(tmp_path)
    shutil.copytree(demo.runs / "mine", demo.runs / "yours")
    file = picture("a.png", "red")
    (line,) = demo("classify", "mine", file, "--against", "yours", "--top", 2, "--json").objects
    assert line["against"] == {"run": "yours", "labels": line["labels"]}
    text = demo("classify", "mine", file, "--against", "yours", "--top", 1).out
    assert "; yours: " in text
    assert text.count("%") == 2


def test_the_pretrained_network_names_photographs_and_is_listed_on_request(demo):
    file = REPOSITORY / "resnet_demo" / "ui" / "classify" / "pictures" / "cat.jpg"
    (line,) = demo("classify", PRETRAINED, file, "--top", 3, "--json").objects
    assert [row["label"] for row in line["labels"]] == ["Egyptian cat", "tiger cat", "tabby"]
    assert line["outside"] is None
    assert PRETRAINED not in demo("runs", "list").out
    listed = demo("runs", "list", "--all").out
    assert f"{PRETRAINED}: finished, efficientnet-lite0 on imagenet, trained elsewhere" in listed
    refused = demo("classify", PRETRAINED, file, "--similar")
    assert refused.code == 2
    assert "cannot be searched for similar images: it was trained elsewhere" in refused.err
    refused = demo("evaluate", PRETRAINED)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "cannot be evaluated: it was trained elsewhere" in refused.err
