// The page renews itself: the server says when something changed, the same page is asked for again,
// and what differs is put in place. What a person has opened, focused, marked or typed stays.
"use strict";

const live = document.getElementById("live");
const form = document.querySelector("form");
let events = null;
let asking = false;
let again = false;

function say(text, isLost) {
  live.textContent = text;
  live.classList.toggle("lost", isLost);
}

// Changes that come while one is asked for are one more question, after the answer.
async function renew() {
  again = true;
  if (asking) return;
  asking = true;
  while (again) {
    again = false;
    try {
      const answer = await fetch(location.href);
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      const next = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (again) continue;
      document.title = next.title;
      put(form, next.querySelector("form"));
      put(document.getElementById("main"), next.getElementById("main"));
    } catch (error) {
      say(`not live: ${error.message}`, true);
    }
  }
  asking = false;
}

// Makes the one element like the other. Whether details are open is the reader's own.
function put(old, next) {
  if (old.isEqualNode(next)) return;
  for (const { name } of [...old.attributes])
    if (name !== "open" && !next.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of next.attributes)
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const wanted = new Set([...next.children].map((each) => each.id));
  const kept = new Map();
  for (const each of [...old.children]) {
    if (each.id && !wanted.has(each.id)) each.remove();
    else if (each.id) kept.set(each.id, each);
  }
  let at = old.firstChild;
  for (const want of [...next.childNodes]) {
    const same = kept.get(want.id);
    while (same && at !== same && !at.id) at = drop(at);
    if (same ? same !== at : !at || at.id || at.nodeName !== want.nodeName) {
      old.insertBefore(same ?? want, at);
      if (same) put(same, want);
      continue;
    }
    if (at.nodeType === Node.ELEMENT_NODE) put(at, want);
    else if (at.data !== want.data) at.data = want.data;
    at = at.nextSibling;
  }
  while (at) at = drop(at);
}

function drop(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  getSelection().selectAllChildren(source);
  // Browsers have a clipboard for https and localhost alone; the older way works everywhere.
  if (navigator.clipboard) await navigator.clipboard.writeText(source.textContent);
  else document.execCommand("copy");
  say("copied", false);
}

function search() {
  const wanted = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
  history.replaceState(null, "", wanted.size ? `?${wanted}` : location.pathname);
  renew();
}

// One stream, and none for a page that nobody sees: a browser has few connections to a server.
function listen() {
  events?.close();
  if (document.hidden) return;
  events = new EventSource("events");
  events.onerror = () => {
    say("not live: the server does not answer; trying again", true);
    // After an answer that is none the browser itself would not try again.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
  };
  for (const kind of ["change", "still"])
    events.addEventListener(kind, () => {
      say("live", false);
      renew();
    });
}

let typing = 0;
form.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(search, 150);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
});
document.addEventListener("visibilitychange", listen);
listen();
