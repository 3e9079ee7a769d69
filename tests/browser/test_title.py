"""The title of the document and the notification follow a run that the page has seen live."""

import pytest

from resnet_demo.ui.app import SCRIPT

pytestmark = pytest.mark.browser

SHOW = "(value) => window.showProgress(value)"
NOTIFICATIONS = """() => {
  window.sent = []; window.asked = 0;
  window.Notification = class {
    static permission = 'default';
    static requestPermission() { window.asked += 1; this.permission = 'granted'; }
    constructor(title, {body}) { window.sent.push(body); }
  };
  Object.defineProperty(document, 'hidden', {value: true, configurable: true});
}"""


def progress(word, percent=0, live=False, result="", run="my-run"):
    return {"run": run, "live": live, "word": word, "percent": percent, "result": result}


def test_the_title_follows_a_live_run_and_a_notification_needs_a_click_before(browser):
    page = browser.new_page()
    page.set_content(f"<button id='train'>Train</button><script>{SCRIPT.read_text()}</script>")
    page.evaluate(NOTIFICATIONS)

    def title(*args, **more):
        page.evaluate(SHOW, progress(*args, **more))
        return page.title()

    assert title("Finished") == "ResNet Demo"  # it ended before the page was opened
    assert title("Queued", live=True) == "Queued · ResNet Demo"
    assert title("Training", 42, live=True) == "42 % · ResNet Demo"
    assert title("Failed", 42) == "Failed · ResNet Demo"
    assert page.evaluate("[window.asked, window.sent.length]") == [0, 0]
    page.locator("#train").click()
    assert page.evaluate("window.asked") == 1
    assert title("Training", 99, live=True) == "99 % · ResNet Demo"
    for _ in range(2):  # notified once
        words = ", validation accuracy 94.3 %"
        assert title("Finished", 100, result=words) == "Finished · ResNet Demo"
    assert page.evaluate("window.sent") == ["my-run: Finished, validation accuracy 94.3 %"]
    assert title("Finished", 100, run="other") == "ResNet Demo"
    page.close()
