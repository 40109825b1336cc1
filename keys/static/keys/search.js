// Whoever found a key in the open searches for all of it: only its hint is sent, as addresses end up in logs.
"use strict";
const hintOf = (text) => text.trim().replace(/^(llm_gw_[0-9A-Za-z]{4})[0-9A-Za-z]{32}([0-9A-Za-z]{4})$/, "$1...$2");
document.addEventListener("htmx:configRequest", (event) => {
  const sent = event.detail.parameters;
  if (sent.s) sent.s = hintOf(sent.s);
});
document.addEventListener("submit", (event) => {
  const box = event.target.querySelector("input[name=q]");
  if (box) box.value = hintOf(box.value);
});
