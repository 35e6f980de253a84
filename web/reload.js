// Inline in each page, so that it runs even while the service cannot deliver other files.
addEventListener("error", ({ target }) => {
  if (!target.matches?.("script, link[rel=stylesheet]")) return;
  document.getElementById("incomplete")?.removeAttribute("hidden");
  setTimeout(() => location.reload(), 3000);
}, true); // these events do not bubble
