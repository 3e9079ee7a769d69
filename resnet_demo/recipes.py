"""The recipes: named sets of values for the fields of `TrainConfig`, and what each is for.

A field that a recipe does not name has its default in `config.py`. No torch here.
"""

from typing import Any

ARTICLE: dict[str, Any] = {
    # Every value is the tutorial's, or what its code amounts to.
    "model": "resnet34-article",
    "epochs": 10,
    "batch_size": 64,
    "image_size": 224,
    "stem": "imagenet",
    "grow_from": 1.0,
    "optimizer": "sgd",
    "peak_lr": 0.01,
    "schedule": "constant",
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 0.001,
    "decay_all": True,
    "label_smoothing": 0.0,
    "flip": False,
    "crop": 0,
    "precision": "auto",
    "validate_in_training_mode": True,
    "per_image_std": True,
    "val_share": 0.1,
    "stratify": False,
    "seed": 42,
}

# The network that comes with the app: no download is needed.
PRETRAINED_NETWORK: dict[str, Any] = {
    "model": "efficientnet-lite0",
    "weights": "imagenet",
    "image_size": 224,
    "grow_from": 1.0,
    "label_smoothing": 0.0,
    "keep": "last",
    "crop": 0,
    "flip": False,
}

RECIPES: dict[str, dict[str, Any]] = {
    "quick": {},  # the defaults
    "good": {
        "epochs": 18,
        "batch_size": 500,  # 1,000 and 2,000 are less accurate (docs/experiments.md)
        "peak_lr": 0.1,  # 0.05, 0.15 and 0.2 are less accurate (docs/experiments.md)
        "ema_decay": 0.99,  # +0.09 points over 25 runs (docs/performance.md)
        "keep": "last",  # few validation images would choose an early epoch by chance
        "val_share": 0.02,
    },
    "standard": {
        "model": "resnet18",
        "epochs": 30,
        "batch_size": 128,
        "optimizer": "sgd",
        "peak_lr": 0.1,
        "schedule": "one-cycle",
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "label_smoothing": 0.0,
        "crop": 4,
        "flip": True,
        "grow_from": 1.0,
    },
    # He et al. 2015, section 4.2: its momentum, weight decay, batch size, flip and crop.
    "paper": {
        "model": "resnet20",
        "epochs": 20,
        "batch_size": 128,
        "optimizer": "sgd",
        "peak_lr": 0.1,
        "schedule": "cosine",
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 1e-4,
        "label_smoothing": 0.0,
        "crop": 4,
        "flip": True,
        "grow_from": 1.0,
    },
    # weight_decay 0: found by validation.
    "transfer": {**PRETRAINED_NETWORK, "train_layers": "head", "epochs": 30, "weight_decay": 0.0},
    "finetune": {
        **PRETRAINED_NETWORK,
        "train_layers": "head-then-all",
        # With few pictures fine-tuning may cost accuracy (docs/experiments.md).
        "keep": "last-or-head",
        "epochs": 6,
        "batch_size": 32,
        "optimizer": "adamw",
        "peak_lr": 3e-4,
        "momentum": 0.9,
        "schedule": "cosine",
        "warmup_epochs": 0.5,
        "weight_decay": 0.01,
        # The layers have learned already; the head has to catch up.
        "backbone_lr": 0.3,
        # Statistics of 32 pictures would be poorer than ImageNet's.
        "freeze_batch_norm": True,
        "flip": True,
        "crop_area": 0.6,
    },
    "article": ARTICLE,
    "article-fixed": {
        **ARTICLE,
        "decay_all": False,
        "validate_in_training_mode": False,
        "per_image_std": False,
    },
}

EXACT_RECIPES = ("article",)  # reproduce numbers, so their values never adapt to a dataset

RECIPE_HELP = {
    "quick": "a small network, one epoch: minutes on a CPU",
    "good": "the same network, 18 epochs, 2 % held out: ten minutes to two hours on a CPU",
    "standard": "ResNet-18 with flip and crop: 93 % and more, for a GPU",
    "paper": "He et al. 2015, section 4.2, with 20 epochs instead of 164 and a cosine schedule",
    "transfer": "ImageNet's features, only the last layer trained: seconds for your own pictures",
    "finetune": "transfer, then all layers at a low rate, kept if clearly better: minutes on a CPU",
    "article": "the tutorial exactly, with its faults: hours on a CPU",
    "article-fixed": "the tutorial without the faults that change its result",
}
