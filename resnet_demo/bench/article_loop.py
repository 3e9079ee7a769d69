"""The tutorial's own training loop, as it stands there: what the product is measured against."""

import gc
from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.data.splits import steps_per_epoch
from resnet_demo.training.batches import Batches
from resnet_demo.training.state import Training, initial_model


class Pictures(Dataset):
    """The training split as torchvision's CIFAR10 hands it out: a PIL image, transformed; a label.

    images: (N, H, W, 3) uint8 in memory.
    """

    def __init__(self, batches: Batches, transform: Callable) -> None:
        self.images = batches.train_images.cpu().numpy()
        self.labels = batches.train_labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def drop_last(pictures: Pictures, batch_size: int) -> bool:
    """Only where the product drops it too: a single image left over, which BatchNorm refuses."""
    return steps_per_epoch(len(pictures), batch_size) * batch_size < len(pictures)


def as_article(preprocessing: Preprocessing) -> transforms.Compose:
    """Image by image on the host: Resize, ToTensor, Normalize."""
    side = preprocessing.image_size
    return transforms.Compose(
        [
            transforms.Resize((side, side)),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )


class ArticleLoop:
    """The same network on the same split, in float32, its memory contiguous.

    One process prepares and trains; memory is swept after every step, as the tutorial does it.
    """

    def __init__(self, own: Training) -> None:
        config, batches = own.config, own.batches
        self.device = own.device
        self.model = initial_model(config, len(batches.classes)).to(own.device)
        pictures = Pictures(batches, as_article(batches.preprocessing))
        self.loader = DataLoader(
            pictures,
            batch_size=config.batch_size,
            shuffle=True,
            drop_last=drop_last(pictures, config.batch_size),
        )
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.01, weight_decay=0.001, momentum=0.9
        )

    def __call__(self, goes_on: Callable[[int], bool]) -> int:
        """Train until told not to go on; the images."""
        done = 0
        while True:
            for images, labels in self.loader:
                images = images.to(self.device)
                labels = labels.to(self.device)
                outputs = self.model(images)
                loss = self.criterion(outputs, labels)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                done += len(labels)
                del images, labels, outputs
                torch.cuda.empty_cache()
                gc.collect()
                if not goes_on(done):
                    return done
