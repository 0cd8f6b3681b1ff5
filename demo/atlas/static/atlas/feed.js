// New notes on the front page, as they are saved. Without JavaScript the page shows the notes that
// there were when it was made. A lost connection is taken up again by the browser itself, which
// tells the server the last note that it got.
(() => {
  "use strict";
  const list = document.getElementById("notes");
  const live = document.getElementById("live");
  const KEEP = 6;

  const element = (name, attributes, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children); // text becomes text, never markup
    return made;
  };

  const show = (note) => {
    if (list.querySelector(`[data-note="${Number(note.id)}"]`)) return;
    list.querySelector(".empty")?.remove();
    const lines = note.text.split(/\r\n|\r|\n/);
    const text = element("p", {}, ...lines.flatMap((line, i) => (i ? [document.createElement("br"), line] : [line])));
    const city = element("a", { href: note.url }, note.city);
    const time = element("time", { datetime: note.created_at }, `${note.ago} ago`);
    const by = element("p", { class: "by" }, `${note.author} on `, city, `, ${note.country}, `, time);
    list.prepend(element("li", { class: "note new", "data-note": note.id }, text, by));
    while (list.children.length > KEEP) list.lastElementChild.remove();
  };

  const feed = new EventSource(list.dataset.feed);
  feed.addEventListener("open", () => { live.hidden = false; });
  feed.addEventListener("error", () => { live.hidden = true; });
  feed.addEventListener("note", (event) => show(JSON.parse(event.data)));
})();
