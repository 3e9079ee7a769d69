// Corrects markup of Gradio 6.31: what assistive technology misreads, links inside the app, and a
// way to write percentages.
// Runs once, when the page opens.
// tests/browser/test_accessibility.py and test_classify.py fail where a rule is missing.
() => {
  const rules = {
    // A gallery names its buttons "Thumbnail 3 of 20", whatever they show. Without that label the
    // caption, or the text for the image, is the name.
    'button.thumbnail-item[aria-label^="Thumbnail "]': (button) => {
      if (button.innerText.trim() || button.querySelector('img[alt]:not([alt=""])')) {
        button.removeAttribute('aria-label');
      }
    },
    // The same for an upload area, which says more than its label.
    'button.upload-container[aria-label]': (button) => {
      if (button.innerText.trim()) button.removeAttribute('aria-label');
    },
    // A label needs a role.
    '[aria-label="Empty value"]:not([role])': (empty) => empty.setAttribute('role', 'img'),
    // Markdown opens each link in a new tab, also one to a place in the app. In the frame of a
    // Space it has to: cookies of the app do not reach a frame.
    '.prose a[target="_blank"]': (link) => {
      if (link.origin === location.origin && window.self === window.top) {
        link.removeAttribute('target');
      }
    },
    // A label writes "94%", and everything else in the app "94 %".
    '.confidence-set dd.confidence': ({firstChild: text}) => {
      if (/\d%$/.test(text?.data)) text.data = text.data.replace('%', ' %');
    },
    // Code that is wider than its place is scrolled by arrow keys.
    '.prose pre:not([tabindex])': (code) => code.setAttribute('tabindex', '0'),
  };
  const correct = () => {
    for (const [selector, rule] of Object.entries(rules)) {
      document.querySelectorAll(selector).forEach(rule);
    }
  };
  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      correct();
    });
  }).observe(document.body, {
    subtree: true, childList: true, attributeFilter: ['aria-label', 'aria-valuenow'],
  });
  correct();
}
