// What all views share: short messages, and what htmx cannot reach.
"use strict";

const toastBox = document.getElementById("toast");
let toastTimer = 0;

function toast(text) {
  toastBox.textContent = text;
  toastBox.classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => toastBox.classList.remove("shown"), 6000);
}

const AWAY = "pagesight review does not answer: was it stopped?";

document.body.addEventListener("htmx:sendError", () => toast(AWAY));
document.body.addEventListener("htmx:responseError", (event) => toast(event.detail.xhr.responseText.slice(0, 300)));
document.body.addEventListener("htmx:afterSwap", (event) => fitAll(event.detail.target));
