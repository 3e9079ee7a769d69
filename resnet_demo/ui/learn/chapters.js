// Links to chapters: #learn-0 (contents) to #learn-8. They select the tabs of that chapter.
(() => {
  const LINK = /^#learn-(\d+)$/;

  function tabButtons(tabs) {
    return [...tabs.querySelectorAll(':scope > .tab-wrapper button')].filter(
      (button) => !button.closest('[aria-hidden=true]'),  // Gradio measures a second, hidden row
    );
  }

  function openChapter(hash) {
    const number = LINK.exec(hash)?.[1];
    if (number === undefined) return false;
    const chapters = document.getElementById('chapters');
    if (!chapters?.offsetParent) {
      const tabs = document.querySelector('.tabs');
      const learn = tabs && tabButtons(tabs).find((button) => button.textContent.trim() === 'Learn');
      if (learn) {
        learn.click();
        setTimeout(() => openChapter(hash), 100);  // the chapters are in the page now
      }
      return Boolean(learn);
    }
    const names = chapters.querySelectorAll(':scope > .tab-wrapper > [aria-hidden=true] button');
    const name = names[number]?.textContent;
    // A tab without room is in a menu, where it can be clicked too.
    tabButtons(chapters).find((button) => button.textContent === name)?.click();
    if (chapters.getBoundingClientRect().top < 0) chapters.scrollIntoView();
    return true;
  }

  document.addEventListener('click', (event) => {
    const link = event.target.closest?.('a[href^="#learn-"]');
    if (!link) return;
    event.preventDefault();
    if (location.hash !== link.hash) history.pushState(null, '', link.hash);
    openChapter(link.hash);
  });
  addEventListener('popstate', () => openChapter(location.hash));
  if (LINK.test(location.hash)) {
    // Not before the page is shown, which waits for the first tab (page.js).
    const isShown = () => !document.documentElement.classList.contains('is-building');
    const wait = setInterval(
      () => isShown() && openChapter(location.hash) && clearInterval(wait), 100,
    );
    setTimeout(() => clearInterval(wait), 30000);
  }
})();
