"""Labels from a table beside the pictures."""

import json

import pytest

from resnet_demo.data.importer.label_tables import LabelledFiles, is_table, read_labels
from resnet_demo.data.importer.read_pictures import SourceFiles, plan_dataset
from resnet_demo.errors import DemoError

FLAT = ["img/1.png", "img/2.png", "img/3.png", "img/4.png"]
LABELS = {"img/1.png": "oak", "img/2.png": "elm", "img/3.png": "oak", "img/4.png": "elm"}


def read(tables: dict[str, str | bytes], pictures: list[str]) -> LabelledFiles | None:
    contents = {
        tuple(name.split("/")): text if isinstance(text, bytes) else text.encode()
        for name, text in tables.items()
    }
    return read_labels(
        {parts: data for parts, data in contents.items() if is_table(parts[-1], data)},
        [tuple(picture.split("/")) for picture in pictures],
    )


def classes(found: LabelledFiles) -> dict[str, str]:
    return {"/".join(path): at.label for path, at in found.locations.items()}


def rows(names: list[str], separator: str = ",") -> str:
    labels = list(LABELS.values())
    return "".join(f"{name}{separator}{labels[n]}\n" for n, name in enumerate(names))


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("labels.csv", "file_name,label\n" + rows(FLAT)),
        ("img/metadata.csv", "file_name,label\n" + rows(["1.png", "2.png", "3.png", "4.png"])),
        ("labels.csv", "id,breed\n" + rows(["1", "2", "3", "4"])),
        ("labels.csv", rows(FLAT)),  # without a header
        ("list.tsv", "path\tclass\n" + rows(FLAT, "\t")),
        ("x.csv", "\ufeffimage_id;category\r\n" + rows(FLAT, ";").replace("\n", "\r\n")),
        ("a.csv", "file,label\n" + rows([name.replace("/", "\\") for name in FLAT])),
        ("labels.csv", ("file_name,label\n" + rows(FLAT)).encode("utf-16")),
        (
            "labels.csv",
            "n,Image File Name,Type,w\n" + rows(FLAT).replace("img", "7,img").replace("\n", ",5\n"),
        ),
        ("labels.csv", "path,label\n" + rows([f"/home/me/set/{name}" for name in FLAT])),
        ("labels.csv", "path,label\n" + rows([f"C:\\set\\{name}" for name in FLAT])),
        ("labels.csv", "path,label\n" + rows([f"./{name.upper()}" for name in FLAT])),
        ("tables/a.csv", "path,label\n" + rows([f"../{name}" for name in FLAT])),
        ("tables/a.csv", "path,label\n" + rows(["1", "2", "3", "4"])),
        ("labels.csv", "path,label\n" + rows([name.replace("png", "JPG") for name in FLAT])),
        ("a.csv", "# trees\n\npath|label\n" + rows(FLAT, "|")),
        ("a.csv", "sep=;\npath;label\n" + rows(FLAT, ";")),
        ("a.csv", 'path, label\n"' + rows(FLAT, '", "').replace("\n", '"\n"').removesuffix('"')),
        ("a.csv", "what,tree\n" + "".join(f"{c},{f}\n" for f, c in LABELS.items())),
        ("a.csv", "label,labelName,x\n" + "".join(f"7,{c},{f}\n" for f, c in LABELS.items())),
        (
            "metadata.jsonl",
            "\n".join(json.dumps({"file_name": f, "label": c}) for f, c in LABELS.items()),
        ),
        (
            "img/_classes.csv",
            "filename, elm, oak\n1.png, 0, 1\n2.png, 1, 0\n3.png, 0, 1\n4.png, 1, 0\n",
        ),
    ],
)
def test_tables_of_many_forms_name_the_classes(table: str, text: str | bytes):
    found = read({table: text}, FLAT)
    assert classes(found) == LABELS
    assert {at.split for at in found.locations.values()} == {""}
    assert found.notes == (f"the classes are read from {table!r}",)


def test_splits_come_from_a_column_from_folders_or_from_the_tables_names():
    text = "file,label,split\n1.png,a,train\n2.png,b,train\n3.png,a,val\n"
    found = read({"t/labels.csv": text}, ["t/1.png", "t/2.png", "t/3.png"])
    assert [at.split for at in found.locations.values()] == ["train", "train", "test"]
    text = "file,label\n1.png,{}\n"
    tables = {"Train/metadata.csv": text.format("a"), "Test/metadata.csv": text.format("b")}
    found = read(tables, ["Train/1.png", "Test/1.png"])
    assert {path[0]: at.split for path, at in found.locations.items()} == {
        "Train": "train",
        "Test": "test",
    }
    tables = {"train.csv": "id,label\n1,a\n2,b", "valid.csv": "id,label\n3,a", "test.csv": "id\n4"}
    found = read(tables, FLAT)
    assert [at.split for at in found.locations.values()] == ["train", "train", "test"]
    assert found.notes[1] == (
        "one picture is left out, having no class in a table or no split, such as 'img/4.png'"
    )


def test_training_pictures_are_found_beside_more_pictures_to_predict_of_the_same_names():
    train = [f"train/{n}.jpg" for n in range(4)]
    test = [f"test/{n}.jpg" for n in range(9)]
    table = "id,breed\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(4))
    for name in ("labels.csv", "train.csv"):
        found = read({name: table}, [*train, *test])
        assert sorted(classes(found)) == train
        assert {"/".join(picture) for picture in found.left_out} == {*test}


def test_pictures_without_a_split_are_left_out_beside_a_training_split():
    tables = {"Meta.csv": "path,class\nMeta/1.png,a\n"}
    for split in ("Train", "Test"):
        tables[f"{split}.csv"] = f"path,class\n{split}/1.png,a\n{split}/2.png,b\n"
    pictures = [f"{split}/{n}.png" for split in ("Train", "Test") for n in (1, 2)]
    found = read(tables, [*pictures, "Meta/1.png"])
    assert sorted(classes(found)) == sorted(pictures)
    assert found.left_out == {("Meta", "1.png")}


def test_numbers_are_replaced_by_the_names_of_their_folders():
    pictures = ["oak/1.png", "elm/2.png", "oak/3.png"]
    found = read({"labels.csv": "id,label\n1,0\n2,1\n3,0\n"}, pictures)
    assert classes(found) == {"oak/1.png": "oak", "elm/2.png": "elm", "oak/3.png": "oak"}


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("labels.csv", "file,label\n1.png,a\n"),  # less than half of the pictures
        ("sizes.csv", "file,width,height\n1.png,3,4\n2.png,3,4\n3.png,3,4\n"),
        ("tags.csv", "file,red,blue\n1.png,1,1\n2.png,0,1\n3.png,1,0\n"),  # several classes
        ("metadata.jsonl", "[" * 10_000),
        ("metadata.jsonl", "3"),
        ("labels.csv", b"\xff\0\x80,\0"),
        ("labels.csv", '"' + "x" * 200_000),
        ("labels.csv", ""),
        ("labels.csv", "," * 20_000 + "\n" + rows(FLAT)),
        ("Sample_Submission.csv", "file_name,label\n" + rows(FLAT)),
    ],
)
def test_a_table_that_names_no_classes_is_passed_over(table: str, text: str | bytes):
    assert read({table: text}, FLAT) is None


def test_what_a_table_lacks_and_contradicts_is_named():
    table = "file,label\n" + rows(FLAT) + "img/1.png,elm\nimg/9.png,oak\n"
    found = read({"labels.csv": table}, FLAT)
    assert classes(found) == {name: LABELS[name] for name in FLAT[1:]}
    assert found.notes[1:] == (
        "one picture is left out, having labels in a table that contradict each other, such as "
        "'img/1.png' ('elm' and 'oak')",
        "one row of a table names no picture that is here, or several, such as 'img/9.png'",
    )
    found = read({"t.csv": "id,label\n1,oak\n2,elm\n3,nan\n"}, FLAT)
    assert {path[-1] for path in found.left_out} == {"3.png", "4.png"}


def test_a_table_counts_before_folders_of_other_classes_and_says_so():
    pictures = ["oak/1.png", "elm/2.png", "elm/3.png"]
    found = read({"labels.csv": "id,label\n1,oak\n2,oak\n3,elm\n"}, pictures)
    assert classes(found)["elm/2.png"] == "oak"
    assert found.notes[1:] == (
        "one picture is in the folder of another class than the table names, such as 'elm/2.png' "
        "('oak'): the table counts",
    )


def test_a_column_that_is_no_label_leaves_the_classes_to_the_folders():
    pictures = [tuple(f"{c}/{n}.png".split("/")) for c in ("oak", "elm") for n in range(4)]
    names = ["/".join(parts) for parts in pictures]
    for header, value in (("file,width", lambda n: n % 3), ("file,label", str), ("a,kind", "no")):
        values = [value if isinstance(value, str) else value(n) for n in range(8)]
        table = f"{header}\n" + "".join(f"{f},{v}\n" for f, v in zip(names, values, strict=True))
        files = SourceFiles(pictures, [True] * 8, {("t.csv",): table.encode()})
        assert plan_dataset(files).assignment.classes == ("elm", "oak")


def test_a_table_that_names_too_few_pictures_is_named_where_there_are_no_classes():
    pictures = [("img", f"{n}.png") for n in range(1, 5)]
    files = SourceFiles(pictures, [True] * 4, {("few.csv",): b"file,label\n1.png,oak\n"})
    with pytest.raises(
        DemoError, match=r"in 'few.csv' 1 of 4 pictures have a class: at least half"
    ):
        plan_dataset(files)


def test_a_name_that_fits_two_pictures_names_neither():
    found = read({"labels.csv": "id,label\n1,a\n2,b\n"}, ["x/1.png", "y/1.png", "x/2.png"])
    assert found is None
