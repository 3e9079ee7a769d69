from dataclasses import replace

import numpy as np

from resnet_demo.ui.evaluate.evaluation_status import Selection
from resnet_demo.ui.evaluate.images import (
    HINT,
    NO_IMAGES,
    PAGE,
    View,
    caption,
    load_page,
    view_positions,
    view_updates,
    viewer_updates,
)
from tests.ui.fake_evaluations import CLASSES, N, save_evaluation

MINE = Selection("mine")
PAIR = Selection("mine", other="yours")


def confidences(logits):
    return np.exp(logits).max(1) / np.exp(logits).sum(1)


def test_cell_worst_and_unsure_are_ordered_by_confidence(statuses):
    evaluated = save_evaluation(statuses, MINE)
    logits, labels = evaluated.logits.double().numpy(), evaluated.labels.numpy()
    predicted, order = logits.argmax(1), np.argsort(-confidences(logits))

    def positions(kind, **cell):
        return view_positions(View("", None, kind, **cell), evaluated, None)

    for i, j in np.ndindex(3, 3):
        cell = [image for image in order if (labels[image], predicted[image]) == (i, j)]
        assert positions("cell", truth=i, predicted=j) == cell
    assert positions("worst") == [image for image in order if predicted[image] != labels[image]]
    two = np.sort(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))[:, -2:]
    assert positions("unsure") == np.argsort(two[:, 1] - two[:, 0]).tolist()


def test_images_that_only_one_run_gets_right_show_the_other_runs_prediction(statuses):
    mine = save_evaluation(statuses, MINE)
    yours = save_evaluation(statuses, PAIR, other=True, seed=1)
    folders = [str(statuses.folder(PAIR, other)) for other in (False, True)]
    logits = [evaluated.logits.double().numpy() for evaluated in (mine, yours)]
    labels = mine.labels.numpy()
    right = [each.argmax(1) == labels for each in logits]
    for kind, (good, bad) in {"first": (0, 1), "second": (1, 0)}.items():
        view = View(*folders, kind)
        only = np.flatnonzero(right[good] & ~right[bad])
        order = only[np.argsort(-confidences(logits[bad])[only])]
        assert view_positions(view, mine, yours) == order.tolist()
        text, shown, _ = load_page(statuses.services, view)
        assert text.startswith(f"**{len(only)} images that only {('mine', 'yours')[good]} gets")
        predicted = logits[bad].argmax(1)[order][:PAGE].tolist()
        assert [CLASSES.index(image.predicted) for image in shown] == predicted


def test_images_come_in_pages_with_label_prediction_and_map(statuses):
    evaluated = save_evaluation(statuses, MINE)
    view = View(str(statuses.folder(MINE)), None, "unsure")
    order = view_positions(view, evaluated, None)
    seen = []
    for page in range(3):
        updates = view_updates(statuses.services, replace(view, page=page))
        start = PAGE * page
        shown = order[start : start + PAGE]
        assert f"{start + 1} to {start + len(shown)} of 30" in updates["images_message"]
        assert (updates["back"]["interactive"], updates["more"]["interactive"]) == (
            page > 0,
            page < 2,
        )
        pictures = updates["pictures"]["value"]
        for (picture, text), position in zip(pictures, shown, strict=True):
            truth = CLASSES[evaluated.labels[position]]
            predicted = CLASSES[evaluated.logits[position].argmax()]
            names = f"{truth} ✓" if truth == predicted else f"{truth} → {predicted}"
            assert text.startswith(f"{names} · ")
            height, width, channels = picture.shape
            assert (channels, picture.dtype) == (4, np.uint8)
            assert width > 2 * height
        seen += shown
    assert sorted(seen) == [*range(N)]
    assert view.turned(-1).page == 0


def test_a_caption_has_label_prediction_and_confidence(statuses):
    save_evaluation(statuses, MINE)
    view = View(str(statuses.folder(MINE)), None, "worst")
    _, [image, *_], _ = load_page(statuses.services, view)
    assert caption(image) == f"{image.truth} → {image.predicted} · {100 * image.confidence:.1f} %"


def test_without_the_images_the_message_says_how_to_get_them(statuses, without_images):
    save_evaluation(statuses, MINE)
    view = View(str(statuses.folder(MINE)), None, "worst")
    updates = view_updates(without_images, view)
    message = updates["images_message"]
    assert message.startswith("⚠ The images of colours are not on this machine")
    assert not updates["pictures"]["visible"]


def test_images_stay_until_another_result_is_shown(statuses):
    first, second = (str(statuses.folder(PAIR, other)) for other in (False, True))
    alone = {"first": first, "second": None, "runs": ["mine", None], "stored": False}
    pair = {"first": first, "second": second, "runs": ["mine", "yours"], "stored": False}
    kinds = [name for name, _ in viewer_updates(pair, None)["which"]["choices"]]
    assert kinds[2:] == ["only mine right", "only yours right"]
    kept = viewer_updates(pair, View(first, None, "worst"))
    assert kept.keys() == {"which"}
    assert "value" not in kept["which"]
    assert viewer_updates(alone, View(first, second, "first"))["view"] is None
    gone = viewer_updates({**alone, "first": None}, View(first, None, "worst"))
    assert gone["images_message"] == HINT
    assert gone["which"]["value"] is None
    without = viewer_updates({**alone, "stored": True}, None)
    assert (without["images_message"], without["which"]["visible"]) == (NO_IMAGES, False)
