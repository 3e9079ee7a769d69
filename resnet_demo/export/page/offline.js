"use strict";

// Keeps all files of the page in the browser, so that it works without a connection.
const SCOPE = ` of ${self.registration.scope}`; // other pages may have the same host
const CACHE = $cache + SCOPE;
const FILES = $files; // [address, digest or ""]

self.addEventListener("install", (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open(CACHE);
    await Promise.all(FILES.map(async ([url, integrity]) => {
      const options = integrity ? {integrity, mode: "cors", credentials: "omit"} : {cache: "no-cache"};
      const answer = await fetch(url, options);
      if (!answer.ok) throw new Error(url);
      await cache.put(url, answer);
    }));
    await self.skipWaiting();
  })());
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) {
      if (name.endsWith(SCOPE) && name !== CACHE) await caches.delete(name);
    }
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (event) => {
  if (event.request.method !== "GET") return;
  event.respondWith((async () => {
    const cache = await caches.open(CACHE);
    return await cache.match(event.request, {ignoreSearch: true}) ?? fetch(event.request);
  })());
});
