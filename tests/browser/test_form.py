"""The form on the Train tab in a real browser: what is in sight, and fields in error."""

import pytest
from playwright.sync_api import expect

from resnet_demo.config import GROUPS, make_config

pytestmark = pytest.mark.browser

FIELDS_IN_SIGHT = (
    "() => [...document.querySelectorAll('.main-form input:not([type=radio])')].length"
)

# Keeps what an error message says, also of a page that is being left.
SEE_TOASTS = """() => new MutationObserver(() => {
  const toast = document.querySelector('[data-testid=toast-text]');
  if (toast) sessionStorage.setItem('toasts', toast.innerText);
}).observe(document.body, {subtree: true, childList: true})"""


@pytest.fixture(scope="module")
def page(visiting, untrained):
    """Yield one page for all tests; each leaves a form without errors."""
    with visiting() as visit:
        yield visit(untrained.url)


def number(page, label):
    return page.get_by_role("spinbutton", name=label, exact=True)


def press(page, *folds):
    """Open or close parts of the form."""
    for fold in folds:
        page.locator(f"#{fold} > button").click()


def choose_dataset(page, name):
    page.get_by_label("Dataset", exact=True).locator("visible=true").click()
    page.get_by_role("option", name=name).click()


def help_of(page, field):
    return page.locator(f"#{field} .info-text")


def quiet(page, requests, ms=1500):
    """Wait until no request has come for some time; return whether that ever was so."""
    for _ in range(20):
        before = len(requests)
        page.wait_for_timeout(ms)
        if len(requests) == before:
            return True
    return False


def test_few_controls_are_in_sight_and_the_rest_is_in_groups(page):
    assert page.evaluate(FIELDS_IN_SIGHT) == 4  # beside the recipes
    expect(number(page, "Batch size (images)")).to_have_count(0)
    press(page, "advanced")
    for group in GROUPS:
        expect(page.locator(f"#group-{group}")).to_be_visible(visible=group != "main")
    press(page, "group-optimizer")
    expect(number(page, "Batch size (images)")).to_be_visible()
    expect(help_of(page, "schedule")).to_have_text("how the learning rate changes")
    expect(page.get_by_label("Schedule", exact=True)).to_have_value("linear: falls to 0")
    press(page, "group-optimizer", "advanced")


def test_a_dataset_that_is_chosen_brings_its_recipe_and_its_changes_are_in_the_form(page):
    quick, transfer = (
        page.get_by_role("radio", name=name, exact=True) for name in ("quick", "transfer")
    )
    note = page.locator("#dataset-note")
    choose_dataset(page, "colours")
    expect(transfer).to_be_checked()
    expect(note).to_contain_text("Recipe transfer. 50 pictures a class")
    expect(page.locator("#model input")).to_have_value(make_config({"recipe": "transfer"}).model)
    quick.click()
    expect(note).to_contain_text("Suggested recipe: transfer.")
    press(page, "advanced", "group-optimizer")
    expect(page.locator("#batch_size .info-text")).to_have_text("32 for this dataset")
    # One epoch is what the recipe has: only typing it says that it is wanted.
    expect(page.locator("#facts")).to_contain_text("epochs 36 instead of 1")
    number(page, "Epochs").fill("1")
    number(page, "Epochs").blur()  # else its help may cover the button below
    expect(page.locator("#facts")).not_to_contain_text("instead of 1 ")
    expect(page.locator("#facts")).to_contain_text("batch size 32 instead of 250")
    page.locator("#use-recipe").click()
    expect(transfer).to_be_checked()
    choose_dataset(page, "shapes10, synthetic")
    expect(quick).to_be_checked()
    expect(note).to_contain_text("shapes10 is synthetic")
    number(page, "Epochs").fill("2")
    choose_dataset(page, "colours")
    expect(note).to_contain_text("Suggested recipe: transfer.")
    expect(quick).to_be_checked()  # a person has set something
    # The other tests are about a form for shapes10.
    choose_dataset(page, "shapes10, synthetic")
    press(page, "group-optimizer", "advanced")


def test_a_help_in_sight_is_a_tooltip(page):
    expect(help_of(page, "epochs")).to_be_hidden()
    number(page, "Epochs").focus()
    expect(help_of(page, "epochs")).to_have_text("times the network sees every training image")
    expect(help_of(page, "epochs")).to_be_visible()


def test_a_field_in_error_is_marked_and_train_is_dimmed_with_the_reason(page, untrained):
    runs = sorted(path.name for path in untrained.runs.iterdir())
    train, facts = page.locator("button#train"), page.locator("#facts")
    for typed, rule in (
        ("0", "nter 1 to 1000"),
        ("", "nter 1 to 1000"),
        ("2.5", "nter a whole number from 1 to 1000"),
    ):
        number(page, "Epochs").fill(typed)
        expect(train).to_be_disabled()
        expect(facts).to_have_text(f"⚠ Epochs: e{rule}")
        expect(help_of(page, "epochs")).to_have_text(f"E{rule}")
        expect(help_of(page, "epochs")).to_be_visible()
        field, shown = (
            page.locator("#epochs").bounding_box(),
            help_of(page, "epochs").bounding_box(),
        )
        assert shown["x"] + shown["width"] <= field["x"] + field["width"]  # not cut off
        expect(number(page, "Epochs")).to_have_attribute("aria-invalid", "true")
    number(page, "Epochs").fill("2")
    expect(train).to_be_enabled()
    expect(facts).to_contain_text("72 steps")
    expect(number(page, "Epochs")).to_have_attribute("aria-invalid", "false")
    expect(help_of(page, "epochs")).to_have_text("times the network sees every training image")
    assert sorted(path.name for path in untrained.runs.iterdir()) == runs


def test_an_error_in_a_folded_group_opens_it(page):
    press(page, "advanced", "group-optimizer")
    number(page, "Warm-up (epochs)").fill("1")
    press(page, "group-optimizer", "advanced")  # folds them
    expect(number(page, "Warm-up (epochs)")).to_be_hidden()
    number(page, "Epochs").fill("2")
    expect(page.locator("button#train")).to_be_enabled()
    press(page, "advanced", "group-optimizer")
    number(page, "Warm-up (epochs)").fill("2")
    press(page, "group-optimizer", "advanced")
    number(page, "Epochs").fill("1")
    expect(help_of(page, "warmup_epochs")).to_have_text("Enter at most epochs (1)")
    expect(help_of(page, "warmup_epochs")).to_be_visible()
    number(page, "Epochs").fill("2")
    expect(page.locator("button#train")).to_be_enabled()
    press(page, "group-optimizer", "advanced")


def test_an_error_message_goes_with_the_next_input(page):
    page.get_by_role("tab", name="Data", exact=True).click()
    page.get_by_role("button", name="Scan folder").click()
    toast = page.get_by_test_id("toast-text")
    expect(toast).to_contain_text("folder must be the whole path")
    page.get_by_label("or a folder on this machine").fill("/")
    expect(toast).to_have_count(0, timeout=3_000)
    page.get_by_role("tab", name="Train", exact=True).click()


def test_a_recipe_fills_the_form(page):
    page.get_by_role("radio", name="article", exact=True).click()
    expect(page.get_by_label("Model", exact=True)).to_have_value("resnet34-article")
    expect(page.locator("#facts")).to_contain_text("21.3 million parameters")
    press(page, "advanced", "group-optimizer", "group-augmentation")
    expect(number(page, "Batch size (images)")).to_have_value("64")
    expect(number(page, "Image size (pixels)")).to_have_value("224")
    page.get_by_role("radio", name="quick", exact=True).click()
    expect(page.get_by_label("Model", exact=True)).to_have_value("resnet9")
    expect(number(page, "Image size (pixels)")).to_have_value("32")
    press(page, "group-augmentation", "group-optimizer", "advanced")


def test_the_form_survives_a_reload(page):
    page.get_by_role("radio", name="paper", exact=True).click()
    expect(page.get_by_label("Model", exact=True)).to_have_value("resnet20")
    press(page, "advanced", "group-optimizer")
    number(page, "Batch size (images)").fill("100")
    number(page, "Epochs").fill("0")
    expect(page.locator("button#train")).to_be_disabled()
    page.evaluate(SEE_TOASTS)
    page.reload()  # while events of the fields run
    started = []
    page.on("request", lambda request: "/queue/join" in request.url and started.append(request))
    assert page.evaluate("sessionStorage.getItem('toasts')") is None
    expect(number(page, "Epochs")).to_have_value("0")
    expect(page.locator("button#train")).to_be_disabled()
    number(page, "Epochs").fill("2")
    expect(page.locator("#facts")).to_contain_text("180 steps")  # 9,000 images
    expect(page.get_by_role("radio", name="paper", exact=True)).to_be_checked()
    # Filling the form changes many fields at once; their events end, and start no others.
    assert quiet(page, started)


def test_another_browser_has_its_own_form_and_on_a_phone_train_within_two_screens(
    page, visit, untrained
):
    expect(number(page, "Epochs")).to_have_value("2")
    page = visit(untrained.url, width=390, height=844)
    expect(number(page, "Epochs")).to_have_value("1")
    expect(page.locator("#facts")).to_contain_text("steps")
    box = page.locator("button#train").bounding_box()
    assert box["y"] + box["height"] <= 2 * 844
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    # The first line of each step stays one line, the longest one as the next step too.
    page.evaluate(
        """() => {
          document.documentElement.classList.add('is-photo-tried');
          for (const step of document.querySelectorAll('button.step'))
            step.classList.toggle('done', step.id != 'step-own');
        }"""
    )
    steps = page.locator("button.step").all()
    assert len({round(step.bounding_box()["height"]) for step in steps}) == 1
