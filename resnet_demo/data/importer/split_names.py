"""The names of folders that hold a split: Train, val, testing, seg_test, valid_data, trainset."""

import re
from collections.abc import Iterable
from functools import lru_cache
from unicodedata import normalize

WORDS = {  # English, then other languages, without accents: see `words_of`
    "train": (
        *("train", "training", "trn", "trainings", "entrenamiento", "entrainement"),
        *("apprentissage", "treinamento", "treino", "addestramento", "allenamento", "trening"),
        *("egitim", "latih", "pelatihan", "обучение", "обучающая", "тренировка"),
        *("тренировочная", "训练", "訓練", "学習", "훈련", "학습"),
    ),
    "val": (
        *("val", "valid", "validate", "validation", "dev", "eval", "evaluation", "evaluacion"),
        *("validacion", "validacao", "avaliacao", "validazione", "convalida", "validierung"),
        *("validatie", "walidacja", "dogrulama", "validasi", "валидация", "валидационная"),
        *("проверка", "验证", "驗證", "検証", "검증"),
    ),
    "test": (
        *(
            "test",
            "testing",
            "tst",
            "prueba",
            "pruebas",
            "teste",
            "testes",
            "essai",
            "essais",
            "prova",
        ),
        *("testowy", "uji", "pengujian", "тест", "тестовая", "тестирование", "测试", "測試"),
        *("テスト", "테스트"),
    ),
    "unlabelled": (*("pred", "predict", "prediction", "predictions", "unlabelled", "unlabeled"),),
}
SPLIT_WORDS = {word: split for split, words in WORDS.items() for word in words}
# Words beside the split's own that say nothing. The longest first: they are cut off glued ends.
FILLERS = (
    *("dataset", "pictures", "データセット", "picture", "images", "photos", "bilder"),
    *("photo", "image", "split", "datos", "dados", "daten", "data", "imgs", "データ"),
    *("img", "set", "seg", "数据", "集"),
)
NO_LABEL = {*FILLERS, "unknown", "all", "none", "classes", "class", "unclassified", "folder"}


def split_of(name: str) -> tuple[str, str] | None:
    """Return the split that a folder's name means, and the rest of the name; None for no split.

    ("Train", "seg_train", "train_images", "trainset", "test1") have the rest "";
    "letters_train" has the rest "letters".
    """
    words = [_unglue(word) for word in words_of(name)]
    splits = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    if len(splits) != 1:
        return None
    rest = [word for word in words if word not in SPLIT_WORDS and word not in FILLERS]
    return splits.pop(), " ".join(rest)


def named_splits(names: Iterable[str]) -> dict[str, str]:
    """Return name -> split of those folders, side by side, whose names mean one.

    A name with a rest counts only beside another split of the same rest, so that `bullet_train` and
    `test tube` stay classes.
    """
    found = {name: split for name in names if (split := split_of(name))}
    by_rest: dict[str, set[str]] = {}
    for split, rest in found.values():
        by_rest.setdefault(rest, set()).add(split)
    return {
        name: split for name, (split, rest) in found.items() if not rest or len(by_rest[rest]) > 1
    }


@lru_cache(maxsize=1024)  # asked about the folders of each picture
def strict_split(name: str) -> str:
    """Return the split of a name that means nothing else, "" for any other name."""
    split, rest = split_of(name) or ("", "")
    return "" if rest else split


def is_generic_name(name: str) -> bool:
    """Return True for the name of a folder that is no class: images, data, unknown."""
    words = words_of(name)
    return bool(words) and all(word in NO_LABEL for word in words)


def words_of(name: str) -> list[str]:
    """Return the words of a name in small letters, without digits and accents: MyTrain is two."""
    parted = re.sub("([a-z])([A-Z])", "\\1 \\2", name)
    plain = re.sub("[\u0300-\u036f]", "", normalize("NFKD", parted.lower()))
    return re.findall("[^\\W\\d_]+", normalize("NFC", plain))


def _unglue(word: str) -> str:
    """Return a word without the fillers that are glued to it: `train` of `trainset`."""
    short = word
    while short not in SPLIT_WORDS:
        filler = next((filler for filler in FILLERS if short.endswith(filler)), "")
        if not filler:
            return word
        short = short.removesuffix(filler)
    return short
