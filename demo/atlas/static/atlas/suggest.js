// Suggestions for the search field, over a websocket that is opened when somebody comes to type.
// Without JavaScript, or without the websocket, the field is an ordinary one.
(() => {
  "use strict";
  const field = document.querySelector("input[name=q]");
  const list = document.getElementById(field.getAttribute("list"));
  let socket = null;

  const ask = () => {
    if (socket?.readyState === WebSocket.OPEN && field.value.trim()) socket.send(field.value);
  };
  const show = (event) => {
    list.replaceChildren(...JSON.parse(event.data).map((name) => new Option("", name)));
  };
  field.addEventListener("focus", () => {
    if (socket && socket.readyState <= WebSocket.OPEN) return;
    const { protocol, host } = window.location;
    socket = new WebSocket(`${protocol.replace("http", "ws")}//${host}${field.dataset.suggestions}`);
    socket.addEventListener("open", ask);
    socket.addEventListener("message", show);
  });
  field.addEventListener("input", ask);
})();
