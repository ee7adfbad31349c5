// The queue: the first card of the deck is looked at, the next ones are loaded behind it.
//
//   key ──> the button with that key ──> act: the card goes, the next is there already
//                                          └─ outbox: sent in order, again until it arrives
//
// A key presses the button that names it, so that keyboard, mouse and touch do the same. Nothing
// is kept but in this page's memory.
"use strict";

const DECK = 6;
const RETRY_MS = 1000;
const WAIT_MS = 300;
const PAST = 50;
// The same key again sooner than this is a finger that bounced: nobody has seen the next card.
const BOUNCE_MS = 150;

const deck = document.getElementById("deck");
const end = document.getElementById("end");
const endText = document.getElementById("end-text");
const goOn = document.getElementById("go-on");
const labels = document.getElementById("labels");
const labelInput = document.getElementById("label-input");
const labelList = document.getElementById("label-list");
const help = document.getElementById("help");
const csrf = document.querySelector('meta[name="csrf"]').content;

const outbox = [];
const past = [];
let sending = false;
let filling = false;
let shownAt = 0;
let shownKey = "";
let pressed = { key: "", at: -Infinity };

const current = () => deck.firstElementChild;
const keysOf = () => [...deck.children].map((card) => card.dataset.key);

async function post(path, fields) {
  return fetch(path, { method: "POST", headers: { "X-CSRF-Token": csrf }, body: new URLSearchParams(fields) });
}

function send(path, fields, done) {
  outbox.push({ path, fields, done });
  flush();
}

async function flush() {
  if (sending) return;
  sending = true;
  while (outbox.length) {
    const { path, fields, done } = outbox[0];
    try {
      const answer = await post(path, fields);
      const text = await answer.text();
      outbox.shift();
      if (!answer.ok) toast(text.slice(0, 300));
      if (done) done(answer.ok, text);
    } catch {
      toast(`${AWAY} ${outbox.length} decisions are kept here and sent when it is back.`);
      await new Promise((later) => setTimeout(later, RETRY_MS));
    }
  }
  sending = false;
  fill();
}

function cardsOf(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return [...template.content.querySelectorAll("article")];
}

async function fill() {
  // Not while decisions are under way: the server would deal what is decided already.
  if (filling || sending || deck.children.length >= DECK) return;
  filling = true;
  let again = false;
  try {
    const have = keysOf();
    const answer = await fetch("/more?" + new URLSearchParams({ have: have.join(",") }));
    const html = await answer.text();
    if (!answer.ok) throw new Error(html);
    if (!outbox.length) {
      const gone = (answer.headers.get("X-Gone") || "").split(",");
      for (const card of [...deck.children].slice(1)) {
        if (gone.includes(card.dataset.key)) card.remove();
      }
      const known = new Set(keysOf());
      for (const card of cardsOf(html)) {
        if (known.has(card.dataset.key) || deck.children.length >= DECK + 2) continue;
        deck.append(card);
        fitAll(card);
      }
    }
    again = answer.headers.get("X-Coming") === "1" && deck.children.length < DECK;
    const rest = Number(answer.headers.get("X-Rest"));
    endText.textContent = again
      ? "Looking for what is most useful…"
      : rest ? "All that is most useful is decided." : "Nothing is left to decide.";
    goOn.hidden = again || !rest;
    goOn.textContent = `Go on with the other ${rest.toLocaleString("en")}`;
  } catch {
    endText.textContent = AWAY;
    again = true;
  }
  filling = false;
  show();
  if (again || outbox.length) setTimeout(fill, deck.children.length ? RETRY_MS : WAIT_MS);
}

function show() {
  const card = current();
  end.hidden = Boolean(card);
  if (!card || card.dataset.key === shownKey) return;
  shownKey = card.dataset.key;
  shownAt = performance.now();
  card.querySelector(".side").scrollTop = 0;
  scrollTo(0, 0);
  if (!labels.open && !help.open) card.focus({ preventScroll: true });
}

function decide(card, label) {
  const teach = card.querySelector('[data-act="teach"]')?.getAttribute("aria-pressed") === "true";
  const seconds = (performance.now() - shownAt) / 1000;
  next(card);
  send("/decide", { key: card.dataset.key, label, teach: teach ? "1" : "", seconds: seconds.toFixed(2) });
}

function next(card) {
  card.remove();
  past.push(card);
  if (past.length > PAST) past.shift();
  show();
}

function undo() {
  const card = past.pop();
  if (card?.hasAttribute("data-question")) {
    deck.prepend(card);
    send("/question/reopen", { key: card.dataset.key }, (ok) => {
      if (!ok) card.remove();
      show();
    });
  } else {
    if (card) deck.prepend(card);
    send("/undo", { key: card ? card.dataset.key : "" }, (ok, html) => {
      if (!ok) card?.remove();
      else if (!card) {
        const back = cardsOf(html)[0];
        if (back) {
          deck.querySelector(`[data-key="${back.dataset.key}"]`)?.remove();
          deck.prepend(back);
          fitAll(back);
        }
      }
      show();
    });
  }
  show();
}

function toggle(button, on) {
  const pressed = on ?? button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(pressed));
  return pressed;
}

function nextPicture(card) {
  const pages = [...card.querySelectorAll("figure.page")];
  const at = pages.findIndex((page) => !page.hidden);
  const to = (at + 1) % pages.length;
  pages.forEach((page, index) => { page.hidden = index !== to; });
  for (const block of card.querySelectorAll("[data-for]")) {
    block.hidden = block.dataset.for !== pages[to].dataset.rank;
  }
  for (const choice of card.querySelectorAll(".choices button")) {
    choice.classList.toggle("beside", choice.dataset.keys === pages[to].dataset.rank);
  }
}

function answerQuestion(card, path, fields = {}) {
  next(card);
  send(path, { key: card.dataset.key, ...fields }, (ok) => {
    if (ok) return;
    past.splice(past.indexOf(card), 1);
    deck.prepend(card);
    show();
  });
}

const acts = {
  label: (card, button) => decide(card, button.dataset.label),
  pick: () => {
    labelInput.value = "";
    labels.showModal();
    labelInput.dispatchEvent(new Event("open"));
  },
  undo,
  next: nextPicture,
  boxes: (card, button) => card.classList.toggle("bare", !toggle(button)),
  zoom: (card, button) => card.classList.toggle("zoom", toggle(button)),
  teach: (card, button) => toggle(button),
  reveal: (card) => send("/reveal", { key: card.dataset.key, question: card.hasAttribute("data-question") ? "1" : "" }, (ok, html) => {
    const shown = ok && cardsOf(html)[0];
    if (!shown || !card.isConnected) return;
    const beside = card.querySelector("figure.page:not([hidden])")?.dataset.rank;
    card.replaceWith(shown);
    fitAll(shown);
    for (const name of ["zoom", "bare"]) {
      if (card.classList.contains(name)) shown.querySelector(`[data-act="${name === "bare" ? "boxes" : name}"]`).click();
    }
    while (beside && shown.querySelector("figure.page:not([hidden])").dataset.rank !== beside) nextPicture(shown);
    if (current() === shown) shown.focus({ preventScroll: true });
  }),
  settle: (card) => answerQuestion(card, "/question/settle"),
  relabel: (card, button) => answerQuestion(card, "/question/relabel", { label: button.dataset.label }),
  later: (card) => answerQuestion(card, "/question/later"),
};

function act(button) {
  const card = button.closest("article") || current();
  if (!button.disabled) acts[button.dataset.act](card, button);
}

deck.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (button) act(button);
});

document.addEventListener("keydown", (event) => {
  // A key that chose a label has closed that dialog before it comes here.
  if (event.defaultPrevented || labels.open || help.open) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "?") {
    help.showModal();
    return;
  }
  // Enter on a button that has the focus, or on a link, presses that.
  if (event.key === "Enter" && event.target.closest("button, a")) return;
  const card = current();
  if (!card) {
    if (event.key === "u" || event.key === "Backspace") undo();
    else if (event.key === "Enter" && !goOn.hidden) goOn.click();
    return;
  }
  const button = [...card.querySelectorAll("button[data-keys]")].find((each) =>
    each.dataset.keys.split(" ").includes(event.key));
  if (!button) return;
  event.preventDefault();
  if (event.repeat) return;
  const bounced = event.key === pressed.key && event.timeStamp - pressed.at < BOUNCE_MS;
  pressed = { key: event.key, at: event.timeStamp };
  if (!bounced) act(button);
});

// --- another label ---

const options = () => [...labelList.querySelectorAll('[role="option"]')];
const chosen = () => labelList.querySelector('[aria-selected="true"]');

function choose(option) {
  for (const each of options()) each.setAttribute("aria-selected", String(each === option));
  labelInput.setAttribute("aria-activedescendant", option.id);
  option.scrollIntoView({ block: "nearest" });
}

function take(option) {
  labels.close();
  const card = current();
  if (!card) return;
  if (card.hasAttribute("data-question")) {
    answerQuestion(card, "/question/relabel", { label: option.dataset.label });
  } else decide(card, option.dataset.label);
}

// What was typed when Enter was pressed, while its list has not come yet.
let typedAndTaken = null;

labelInput.addEventListener("keydown", (event) => {
  const all = options();
  const at = all.indexOf(chosen());
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    if (all.length) choose(all[(at + (event.key === "ArrowDown" ? 1 : all.length - 1)) % all.length]);
  } else if (event.key === "Enter") {
    event.preventDefault();
    if (labelList.dataset.typed !== labelInput.value) typedAndTaken = labelInput.value;
    else if (chosen()) take(chosen());
  }
});

labelList.addEventListener("click", (event) => {
  const option = event.target.closest('[role="option"]');
  if (option) take(option);
});

labelList.addEventListener("htmx:afterSwap", (event) => {
  labelList.dataset.typed = event.detail.requestConfig.formData.get("q") ?? "";
  if (typedAndTaken !== labelList.dataset.typed) return;
  typedAndTaken = null;
  if (chosen()) take(chosen());
});

labelInput.addEventListener("input", () => { typedAndTaken = null; });

labels.addEventListener("close", () => {
  typedAndTaken = null;
  delete labelList.dataset.typed;
  current()?.focus({ preventScroll: true });
});
document.getElementById("show-help").addEventListener("click", () => help.showModal());
help.addEventListener("close", () => current()?.focus({ preventScroll: true }));

goOn.addEventListener("click", () => send("/rest", {}));

addEventListener("beforeunload", (event) => {
  if (outbox.length) event.preventDefault();
});

// What others decide leaves the deck, and new work comes, though nobody presses a key.
setInterval(fill, 5000);
fill();
