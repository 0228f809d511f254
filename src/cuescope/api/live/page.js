// One question is under way at a time; of those that come meanwhile the last is asked next.
const $ = id => document.getElementById(id);
const image = $("image"), ink = image.getContext("2d"), moves = $("moves"), map = moves.getContext("2d");
const about = await (await fetch("/about")).json();
const [height, width] = about.size;
const CELLS = 12, COLORS = ["--c0", "--c1", "--c2", "--c3"];

const state = { image: 0, style: -1, dy: 0, dx: 0, square: null };
let picture = null, wantedPicture = "", falls = new Map(), places = new Map(), answers = [];

const value = id => Number($(id).value);
const look = () => [state.image, value("smoothed"), value("tiles"), value("gray") / 100, state.style, value("alpha") / 100];
const side = () => value("side");
const percent = p => p < 0.0005 ? "under .1 %" : `${(100 * p).toFixed(p > 0.0995 ? 0 : 1)} %`;

// What is shown

function draw() {
  const room = [-about.least[0], -about.least[1]];
  ink.imageSmoothingEnabled = width >= 160;
  ink.clearRect(0, 0, image.width, image.height);
  if (picture) ink.drawImage(picture, room[1] + state.dx, room[0] + state.dy, width, height, 0, 0, image.width, image.height);
  const [x, y] = [image.width / width, image.height / height];
  for (const [cell, fall] of falls) {
    const [row, column] = cell.split(" ").map(Number);
    ink.fillStyle = `rgb(255 90 0 / ${0.65 * Math.min(Math.max(fall, 0), 1)})`;
    ink.fillRect(column * image.width / CELLS, row * image.height / CELLS, image.width / CELLS, image.height / CELLS);
  }
  if (state.square) {
    const [top, left, size] = state.square;
    ink.fillStyle = "rgb(128 128 128)";
    ink.fillRect(left * x, top * y, size * x, size * y);
  }
}

function drawMoves() {
  const css = getComputedStyle(document.documentElement), probe = document.createElement("i");
  map.clearRect(0, 0, moves.width, moves.height);
  document.body.append(probe);
  for (const [place, { name, p }] of places) {
    const [dy, dx] = place.split(" ").map(Number), which = answers.indexOf(name);
    probe.style.color = `var(${which < COLORS.length ? COLORS[which] : "--muted"})`;
    map.globalAlpha = 0.35 + 0.65 * p;
    map.fillStyle = getComputedStyle(probe).color;
    map.fillRect(dx - about.least[1], dy - about.least[0], 1, 1);
  }
  probe.remove();
  map.globalAlpha = 1;
  map.fillStyle = css.color;
  map.fillRect(state.dx - about.least[1], state.dy - about.least[0], 1, 1);
  $("moved").textContent = `moved ${state.dy} down, ${state.dx} right`;
}

function tell(found, asked) {
  const [first] = found.top, own = found.own, changed = first.name !== own.name;
  $("says").textContent = `It says ${first.name}, ${percent(first.p)}.`;
  $("says").classList.toggle("changed", changed);
  $("before").textContent = `Of the unchanged image it says ${own.name}, ${percent(own.before)}` + (changed ? `; now ${percent(own.p)}.` : ".");
  $("top").replaceChildren(...found.top.map(({ name, p }) => {
    const row = document.createElement("li"), label = document.createElement("span"), number = document.createElement("span");
    const bar = document.createElement("span");
    row.className = name === own.name ? "own" : "";
    [label.className, bar.className, number.className] = ["name", "bar", "value"];
    [label.textContent, label.title, number.textContent] = [name, name, percent(p)];
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), rect = document.createElementNS(svg.namespaceURI, "rect");
    svg.setAttribute("aria-hidden", "true");
    rect.setAttribute("width", `${100 * p}%`);
    rect.setAttribute("height", "100%");
    svg.append(rect);
    bar.append(svg);
    row.append(label, bar, number);
    return row;
  }));
  $("mirrored").hidden = !found.mirrored;
  $("time").textContent = `answered in ${Math.max(1, Math.round(found.ms))} ms`;
  if (asked.square) {
    const [top, left, size] = asked.square, cell = (at, whole) => Math.floor((at + size / 2) / whole * CELLS);
    falls.set(`${cell(top, height)} ${cell(left, width)}`, (own.before - own.p) / own.before);
  } else {
    if (!answers.includes(first.name)) answers.push(first.name);
    places.set(`${asked.dy} ${asked.dx}`, first);
  }
  drawMoves();
  draw();
}

// What is asked

let busy = false, next = null;

async function ask() {
  next = { look: look(), dy: state.dy, dx: state.dx, square: state.square };
  if (busy) return;
  busy = true;
  while (next) {
    const asked = next;
    next = null;
    try {
      const reply = await fetch("/answer", { method: "POST", body: JSON.stringify(asked) });
      const found = await reply.json();
      $("error").textContent = reply.ok ? "" : found.error;
      if (reply.ok && same(asked.look, look())) {
        waiting(false);
        tell(found, asked);
      }
    } catch {
      $("error").textContent = "cuescope live has ended.";
    }
  }
  busy = false;
  document.body.dataset.answered = String(Number(document.body.dataset.answered ?? 0) + 1);
}

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
// Until the answer of other looks is there, that of the looks before is dimmed.
const waiting = is => document.body.classList.toggle("waiting", is);
const address = wanted => `/picture?look=${encodeURIComponent(JSON.stringify(wanted))}`;

function show() {
  const wanted = address(look());
  if (wanted === wantedPicture) return;
  wantedPicture = wanted;
  const loaded = new Image();
  loaded.onload = () => {
    if (wanted !== wantedPicture) return;
    picture = loaded;
    draw();
  };
  loaded.src = wanted;
}

// Other looks: what was traced is no longer true.
function changed() {
  [falls, places, answers] = [new Map(), new Map(), []];
  for (const row of document.querySelectorAll(".row")) {
    const input = row.querySelector("input");
    row.querySelector("output").textContent = {
      side: v => `${v} px`, smoothed: v => v ? `step ${v} of ${about.smoothings}` : "none", tiles: v => v > 1 ? `${v} × ${v} tiles` : "whole",
      gray: v => v ? `${v} %` : "none", alpha: v => v ? `${v} %` : "none",
    }[input.id](Number(input.value));
  }
  for (const strip of ["images", "styles"]) {
    const chosen = strip === "images" ? state.image : state.style;
    [...$(strip).children].forEach((button, number) => button.setAttribute("aria-pressed", String(number === chosen)));
  }
  $("styles").hidden = value("alpha") === 0;
  waiting(true);
  drawMoves();
  show();
  ask();
}

function move(dy, dx) {
  const clamp = (v, k) => Math.min(Math.max(v, about.least[k]), about.most[k]);
  [state.dy, state.dx] = [clamp(state.dy + dy, 0), clamp(state.dx + dx, 1)];
  falls = new Map();
  draw();
  drawMoves();
  ask();
}

function hide(event) {
  const box = image.getBoundingClientRect(), size = side();
  const [x, y] = [(event.clientX - box.left) / box.width * width, (event.clientY - box.top) / box.height * height];
  state.square = [Math.round(y - size / 2), Math.round(x - size / 2), size];
  draw();
  ask();
}

// How it is set up

image.width = image.height = 0;
const scale = Math.max(1, Math.round(1088 / Math.max(height, width)));
[image.width, image.height] = [width * scale, height * scale];
[moves.width, moves.height] = [about.most[1] - about.least[1] + 1, about.most[0] - about.least[0] + 1];
$("side").min = String(Math.max(1, Math.round(Math.min(height, width) / 16)));
$("side").max = String(Math.round(Math.min(height, width) * 0.6));
$("side").value = String(Math.round(Math.min(height, width) / 4));
$("smoothed").max = String(about.smoothings);
$("tiles").max = String(about.tiles);
$("model").textContent = about.model;
document.title = `${about.model} - cuescope live`;
$("assumed").replaceChildren(...about.assumed.map(text => Object.assign(document.createElement("li"), { textContent: text })));

function strip(id, choose) {
  $(id).replaceChildren(...about.images.map((name, number) => {
    const button = document.createElement("button"), thumbnail = new Image();
    [thumbnail.alt, thumbnail.loading, thumbnail.src] = [name, "lazy", `/thumbnail?image=${number}`];
    button.title = name;
    button.append(thumbnail);
    button.onclick = () => choose(number);
    return button;
  }));
}
strip("images", number => {
  [state.image, state.square, state.dy, state.dx] = [number, null, 0, 0];
  changed();
});
strip("styles", number => {
  state.style = number;
  changed();
});

for (const id of ["smoothed", "tiles", "gray"]) $(id).oninput = changed;
$("alpha").oninput = () => {
  if (state.style < 0) state.style = (state.image + 1) % about.images.length;
  changed();
};
$("side").oninput = () => {
  if (state.square) {
    const [top, left, size] = state.square, more = (size - side()) / 2;
    state.square = [Math.round(top + more), Math.round(left + more), side()];
  }
  falls = new Map();
  changed();
};
image.onpointerdown = event => {
  image.setPointerCapture(event.pointerId);
  hide(event);
};
image.onpointermove = event => event.buttons && hide(event);
document.onkeydown = event => {
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (event.key === "Escape" && state.square) {
    state.square = null;
    draw();
    ask();
  } else if (step && event.target.type !== "range") {
    event.preventDefault();
    move(...step);
  }
};
for (const button of document.querySelectorAll("[data-move]")) button.onclick = () => move(...button.dataset.move.split(" ").map(Number));
$("reset").onclick = () => {
  for (const [id, to] of [["smoothed", 0], ["tiles", 1], ["gray", 0], ["alpha", 0]]) $(id).value = String(to);
  [state.style, state.square, state.dy, state.dx] = [-1, null, 0, 0];
  changed();
};
matchMedia("(prefers-color-scheme: dark)").onchange = drawMoves;
changed();
