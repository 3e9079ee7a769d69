"""The package is written in plain technical English: what a test can check of that."""

import ast
import re

import pytest

from tests.conftest import REPOSITORY

SOURCES = sorted((REPOSITORY / "resnet_demo").rglob("*.py"))
PAGES = [
    REPOSITORY / "README.md",
    *sorted(REPOSITORY.glob("docs/*.md")),
    *sorted(REPOSITORY.glob("resnet_demo/**/*.md")),
]
NO_VERBS = re.compile(
    r"a|all|an|and|any|anything|as|at|both|by|each|every|everything|false|"
    r"for|from|has|how|if|in|is|it|its|many|more|most|much|no|nobody|none|"
    r"not|nothing|of|on|one|or|ready|same|so|some|something|somebody|such|"
    r"that|the|their|them|there|these|they|this|those|to|true|two|under|what|"
    r"whatever|when|where|whether|which|who|whoever|whose|why|with|without|yes|"
    r"you"
)
# -s, -ing and -ed mark other forms of a verb; these imperatives end so by themselves.
IMPERATIVES = {"access", "bring", "compress", "embed", "feed", "pass", "press", "process", "seed"}
PRIVATE = re.compile(
    r"\b(tells?|told|telling|anew|hush|deaf|bears? (?:it|how)|stretch|"
    r"at rest|by heart|in one's place)\b",
    re.IGNORECASE,
)
README_WORDS = 1300


def docstrings(path):
    """Yield (name, docstring) of each function of a file that has one."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node.name, text


def opens_with_an_imperative(text):
    word = re.split(r"\W+", text, maxsplit=1)[0].lower()
    inflected = word.endswith(("s", "ing", "ed")) and word not in IMPERATIVES
    return bool(word) and not NO_VERBS.fullmatch(word) and not inflected


@pytest.mark.parametrize("text", ["Return the run.", "Pass it on.", "Bring it to the device."])
def test_an_imperative_is_recognized(text):
    assert opens_with_an_imperative(text)


@pytest.mark.parametrize("text", ["The run.", "Whether it runs.", "Returns a run.", "Loading."])
def test_another_opening_is_recognized(text):
    assert not opens_with_an_imperative(text)


def test_every_module_has_a_docstring():
    paths = [path for path in SOURCES if path.read_text("utf-8").strip()]
    assert [p for p in paths if not ast.get_docstring(ast.parse(p.read_text("utf-8")))] == []


def test_docstrings_of_modules_and_classes_open_with_no_question_word():
    wrong = [
        f"{path.relative_to(REPOSITORY)}: {text.splitlines()[0]}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Module | ast.ClassDef)
        and (text := ast.get_docstring(node))
        and re.match(r"(What|Whether|How|Where|Who|Whose|When|Why|Which)\b", text)
    ]
    assert wrong == []


def test_docstrings_of_functions_open_with_an_imperative():
    wrong = [
        f"{path.relative_to(REPOSITORY)}: {name}: {text.splitlines()[0]}"
        for path in SOURCES
        for name, text in docstrings(path)
        if not opens_with_an_imperative(text)
    ]
    assert wrong == []


def test_there_are_no_private_words():
    wrong = [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}"
        for path in (*SOURCES, *PAGES)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if PRIVATE.search(line)
    ]
    assert wrong == []


def test_the_formatter_decides_the_layout():
    paths = [*SOURCES, *sorted((REPOSITORY / "tests").rglob("*.py"))]
    mark = "# fmt: " + "skip"
    assert [path for path in paths if mark in path.read_text("utf-8")] == []


def test_the_readme_is_short():
    assert len((REPOSITORY / "README.md").read_text("utf-8").split()) <= README_WORDS
