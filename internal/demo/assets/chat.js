"use strict";
// A chat: what is written goes over a WebSocket, and when that is gone, over a new one.

const lines = document.getElementById("lines");
const state = document.getElementById("state");
let socket = null;
let server = "";
let wait = 100;

function add(text, kind) {
  const line = document.createElement("li");
  line.textContent = text;
  line.className = kind;
  lines.append(line);
  while (lines.children.length > 200) lines.firstChild.remove();
  lines.scrollTop = lines.scrollHeight;
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss://" : "ws://";
  socket = new WebSocket(scheme + location.host + "/chat/socket");
  socket.onmessage = (message) => {
    const said = JSON.parse(message.data);
    if (server !== "" && said.from !== server) add("The chat has moved from " + server + " to " + said.from + ".", "event");
    server = said.from;
    wait = 100;
    state.textContent = "The chat runs at " + server + ".";
    add(said.text, "agent");
  };
  socket.onclose = () => {
    state.textContent = "The chat was cut; connecting again.";
    setTimeout(connect, wait);
    wait = Math.min(wait * 2, 5000);
  };
}

document.getElementById("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = document.getElementById("text");
  if (socket === null || socket.readyState !== WebSocket.OPEN) {
    add("Not sent: the chat is being connected again.", "event");
    return;
  }
  socket.send(field.value);
  add(field.value, "own");
  field.value = "";
  field.focus();
});

connect();
