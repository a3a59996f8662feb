const show = (id, text) => { document.getElementById(id).textContent = text; };
const click = (id, action) => document.getElementById(id).addEventListener("click", action);
const otherHost = location.hostname === "localhost" ? "127.0.0.1" : "localhost";
const otherOrigin = `${location.protocol}//${otherHost}:${location.port}`;

async function fetchJson(url, options) {
  const response = await fetch(url, options);
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  return response.json();
}

// Calls an action, and again one second after it has ended, for ever. A failure is shown.
function everySecond(id, action) {
  const step = () => action().catch((error) => show(id, error.message)).then(() => setTimeout(step, 1000));
  step();
}

// Django
click("slow", async () => {
  const began = performance.now();
  await Promise.all(Array.from({ length: 8 }, (_, number) => fetch(`/slow?${number}`)));
  show("slow-result", `${((performance.now() - began) / 1000).toFixed(1)} s`);
});

// FastAPI
everySecond("api", async () => {
  const hello = await fetchJson("/api/hello?name=you");
  show("api", `${hello.message}. Process ${hello.pid}, on ${hello.loop}.`);
});
for (const fault of ["crash", "hang"]) {
  click(fault, async () => {
    show("fault", "…");
    const response = await fetch(`/api/${fault}`, { method: "POST" });
    show("fault", `The request got ${response.status}. The next ones go to a new process.`);
  });
}

// Trio
function connect() {
  const socket = new WebSocket(`${location.origin.replace("http", "ws")}/live`);
  socket.onmessage = (event) => {
    const told = JSON.parse(event.data);
    if ("said" in told) show("said", `“${told.said}”`);
    else show("live", `Second ${told.second}, process ${told.pid}, clients: ${told.clients}.`);
  };
  socket.onclose = () => {
    show("live", "The socket is closed. It is opened again.");
    setTimeout(connect, 1000);
  };
  document.getElementById("say").onsubmit = (event) => {
    event.preventDefault();
    socket.send(new FormData(event.target).get("text"));
    event.target.reset();
  };
}
connect();

// Static files
const script = await fetch("/static/demo.js");
show("static", ["etag", "cache-control", "content-type"].map((name) => `${name}: ${script.headers.get(name)}`).join("\n"));

// CORS
const put = {
  method: "PUT",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ text: "from another origin" }),
};
fetchJson(`${otherOrigin}/api/note`, put).then(
  (note) => show("allowed", `saved “${note.text}”; preflights that the app has seen: ${note.preflights}`),
  (error) => show("allowed", error.message),
);
fetch(`${otherOrigin}/status`).then(
  () => show("refused", "the browser let it read the response"),
  () => show("refused", "the browser keeps the response back"),
);

// Status
everySecond("totals", async () => {
  const report = await fetchJson("/status");
  const reactors = Object.fromEntries(report.reactors.map((reactor) => [reactor.name, reactor]));
  const rows = report.apps.flatMap((app) => app.reactors.map((name) => {
    const { pid, state, age, served, in_flight: inFlight } = reactors[name];
    const cells = [app.name, app.generation, name, pid, state, `${age} s`, served, inFlight, app.queue.waiting];
    const row = document.createElement("tr");
    row.append(...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    return row;
  }));
  document.getElementById("status").replaceChildren(...rows);
  show("totals", `reactors that died: ${report.counters.reactor_deaths}, responses: ${JSON.stringify(report.counters.answers)}`);
});
