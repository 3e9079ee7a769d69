// The page's side of pulse.py: asks, and shows what has changed. Runs once a second, or at once when
// something else is chosen. Gives a value for each of the parts; undefined leaves one as it is.
async (...asked) => {
  const names = NAMES, keys = ASKED;
  const page = (window.pulse ??= {known: {}, heard: performance.now()});
  if (document.hidden) {
    page.heard = performance.now();
    return [];
  }
  const question = JSON.stringify(asked);
  if (page.question === question) return [];  // the answer is on its way
  page.question = question;
  const query = new URLSearchParams(keys.map((key, i) => [key, asked[i] ?? '']));
  query.set('known', Object.entries(page.known).map((pair) => pair.join(':')).join(','));
  const sign = new URLSearchParams(window.location.search).get('__sign');
  if (sign) query.set('__sign', sign);  // a private Space in a frame asks for it
  let told = null;
  try {
    const answer = await fetch(`${window.gradio_config.root}/look?${query}`, {
      signal: AbortSignal.timeout(20000),
    });
    if (answer.ok) told = await answer.json();
  } catch (error) {
    console.debug('pulse', error);
  }
  if (page.question !== question) return [];  // something else was chosen meanwhile
  page.question = null;
  if (!told) {
    if (performance.now() - page.heard < 4500) return [];
    delete page.known.words;
    const words = '**The app does not answer.** What stands here is old, until it does again.';
    return names.map((name) => (name === 'words' ? words : undefined));
  }
  page.heard = performance.now();
  page.app ??= told.app;
  if (page.app !== told.app) window.location.reload();
  return names.map((name) => {
    if (!(name in told.parts)) return undefined;
    const [mark, value] = told.parts[name];
    page.known[name] = mark;
    return value;
  });
}
