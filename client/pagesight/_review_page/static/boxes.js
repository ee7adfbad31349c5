// Boxes count in pixels of the picture; where its size was not told, the picture knows it.
"use strict";

function fit(img) {
  const marks = img.parentElement.querySelector("svg.marks");
  if (marks && !marks.hasAttribute("viewBox")) {
    marks.setAttribute("viewBox", `0 0 ${img.naturalWidth} ${img.naturalHeight}`);
  }
}

function fitAll(root) {
  for (const img of root.querySelectorAll(".frame > img")) {
    const lost = () => img.parentElement.classList.add("lost");
    if (img.complete && img.naturalWidth) fit(img);
    else if (img.complete) lost();
    else {
      img.addEventListener("load", () => fit(img), { once: true });
      img.addEventListener("error", lost, { once: true });
    }
  }
}

fitAll(document);
