// Runs in the head, before the page is drawn: shows the page when its parts have their sizes.
(() => {
  const SETTLED_MS = 200, PATIENCE_MS = 6000;
  const root = document.documentElement;

  // Gradio loads the parts of a page one by one, and each pushes down what is below it.
  root.classList.add('is-building');
  const began = performance.now();
  let before = '', since = began;
  const look = () => {
    const main = document.querySelector('.gradio-container main');
    const ready = main && main.querySelector('button#train') && main.querySelector('#curves svg');
    const size = ready ? `${main.offsetHeight} ${main.querySelectorAll('*').length}` : '';
    const now = performance.now();
    if (size !== before) since = now;
    before = size;
    if ((ready && now - since > SETTLED_MS) || now - began > PATIENCE_MS)
      root.classList.remove('is-building');
    else setTimeout(look, 30);
  };
  look();

  // Choices of this browser: a class on the page, there before anything is drawn.
  const CHOICES = ['is-folded', 'is-photo-tried'];
  const key = (name) => `resnet-demo-${name}`;
  window.rememberChoice = (name, on) => {
    root.classList.toggle(name, on);
    try {
      if (on) localStorage.setItem(key(name), '1');
      else localStorage.removeItem(key(name));
    } catch (error) {
      console.debug('storage', error);  // it may be blocked
    }
  };
  try {
    for (const name of CHOICES) root.classList.toggle(name, Boolean(localStorage.getItem(key(name))));
  } catch (error) {
    console.debug('storage', error);
  }

  // The page is sent with the run that a new page shows; another one comes with the first answer.
  if (new URLSearchParams(window.location.search).has('run')) root.classList.add('is-opening');
})();
