// The page's side of polling.py: requests the parts that have changed. Runs once a second, more
// often while a run starts, and when an input changes. Returns a value for each part; undefined
// leaves the part as it is.
async (...inputs) => {
  const names = NAMES, keys = QUERY_KEYS, path = POLL_PATH;
  // The page was sent with some parts.
  const sent = () => ({known: {...window.gradio_config.polled}, answeredAt: performance.now()});
  const page = (window.polling ??= sent());
  if (document.hidden) {
    page.answeredAt = performance.now();
    return [];
  }
  const pending = JSON.stringify(inputs);
  if (page.pending === pending) return [];  // the same request is on its way
  page.pending = pending;
  const query = new URLSearchParams(keys.map((key, i) => [key, inputs[i] ?? '']));
  page.query = query;
  query.set('known', Object.entries(page.known).map((pair) => pair.join(':')).join(','));
  const sign = new URLSearchParams(window.location.search).get('__sign');
  if (sign) query.set('__sign', sign);  // a private Space in a frame requires it
  let answer = null;
  try {
    const response = await fetch(`${window.gradio_config.root}${path}?${query}`, {
      signal: AbortSignal.timeout(20000),
    });
    if (response.ok) answer = await response.json();
  } catch (error) {
    console.debug('polling', error);
  }
  if (page.pending !== pending) return [];  // an input has changed meanwhile
  page.pending = null;
  if (!answer) {
    if (performance.now() - page.answeredAt < 4500) return [];
    delete page.known.status;
    const message = '**Connection lost; retrying.** The data shown may be old.';
    return names.map((name) => (name === 'status' ? message : undefined));
  }
  page.answeredAt = performance.now();
  page.app ??= answer.app;
  if (page.app !== answer.app) window.location.reload();
  if ('progress' in answer.parts) {
    const [version, value] = answer.parts.progress;
    page.known.progress = version;
    window.showProgress(value);
  }
  // A field in which a person types keeps their text; the saved one is sent again when they leave.
  const isSameRun = page.run === inputs[0];
  page.run = inputs[0];
  const isTyped = (name) =>
    isSameRun && document.activeElement?.matches(`#run-${name} :is(input, textarea)`);
  return names.map((name) => {
    if (!(name in answer.parts) || isTyped(name)) return undefined;
    const [version, value] = answer.parts[name];
    page.known[name] = version;
    return value;
  });
}
