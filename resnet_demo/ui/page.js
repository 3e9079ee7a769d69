// Runs in the head, before the page is drawn: shows the page when its parts have their sizes.
(() => {
  const SETTLED_MS = 200, PATIENCE_MS = 12000;
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

  // The title of the document, and a notification, for runs that this page has seen live.
  const HIDDEN_POLL_MS = 5000, STARTS = '#train, #step-shapes, #resume';
  const watched = new Set(), notified = new Set();
  let isLive = false;
  window.showProgress = ({run, live, word, percent, result}) => {
    const name = 'ResNet Demo';
    isLive = live;
    if (live) {
      watched.add(run);
      notified.clear();  // a resumed run ends again
    }
    const head = live ? (word === 'Training' ? `${percent} %` : word) : word;
    document.title = watched.has(run) ? `${head} · ${name}` : name;
    if (live || !watched.has(run) || notified.has(run)) return;
    notified.add(run);
    if (document.hidden && window.Notification?.permission === 'granted')
      new Notification(name, {body: `${run}: ${word}${result}`, tag: run});
  };
  // A hidden page is not polled by its timer, and its title is what a person sees of it.
  setInterval(async () => {
    const {query} = window.polling ?? {};
    if (!document.hidden || !isLive || !query) return;
    try {
      const response = await fetch(`${window.gradio_config.root}/poll?${query}`);
      const {parts} = await response.json();
      if (parts.progress) window.showProgress(parts.progress[1]);
    } catch (error) {
      console.debug('progress', error);
    }
  }, HIDDEN_POLL_MS);
  // Asked after a click that starts a run, never before.
  document.addEventListener('click', (event) => {
    if (event.target.closest?.(STARTS) && window.Notification?.permission === 'default')
      window.Notification.requestPermission();
  });
})();
