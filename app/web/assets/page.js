// The page renews itself: the server says when something changed, and the same page is asked for
// again. What a person has opened, focused or typed stays.
"use strict";

const live = document.getElementById("live");
const form = document.querySelector("form");
let asking = null;

function say(text, isLost) {
  live.textContent = text;
  live.classList.toggle("lost", isLost);
}

async function renew() {
  if (asking) asking.abort();
  asking = new AbortController();
  try {
    const answer = await fetch(location.href, { signal: asking.signal });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    take(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch (error) {
    if (error.name !== "AbortError") say(`not live: ${error.message}`, true);
  }
}

function take(next) {
  const main = document.getElementById("main");
  const opened = [...main.querySelectorAll("details[open]")].map((each) => each.id);
  const focused = document.activeElement?.closest("details")?.id;
  document.title = next.title;
  main.replaceChildren(...next.getElementById("main").childNodes);
  for (const id of opened) {
    const found = document.getElementById(id);
    if (found) found.open = true;
  }
  if (focused) document.getElementById(focused)?.querySelector("summary").focus();
  prepare();
}

function prepare() {
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.onclick = () => copy(button);
  }
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

let typing = 0;
form.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(search, 150);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});

const events = new EventSource("events");
events.onopen = () => say("live", false);
events.onerror = () => say("not live: the server does not answer; trying again", true);
events.addEventListener("change", renew);
events.addEventListener("still", () => {
  say("live", false);
  renew();
});
prepare();
