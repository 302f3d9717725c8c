// One clock a sample. Its tracks run together and all but one are mute, so that switching between them takes no time and
// keeps the place; every picture shows it. Where there are many tracks, only those run that have been listened to.
const MOST_TOGETHER = 4, APART = 0.04, ALIGN_MS = 500, STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200];
const match = document.getElementById("match");
const samples = [...document.querySelectorAll(".sample")].map(makeSample);
let current = null;

function makeSample(box) {
  const players = [...box.querySelectorAll("audio")], picks = [...box.querySelectorAll(".pick")];
  const plots = [...box.querySelectorAll(".plot")], views = plots.map((plot) => plot.closest(".scroll"));
  const [play, clockText] = [box.querySelector(".play"), box.querySelector(".clock")];
  const seconds = Number(box.dataset.seconds);
  const widest = Math.max(8, Math.ceil(4 * Number(box.dataset.columns || 0) / (views[0]?.clientWidth || 1)));
  let clock = 0, chosen = Math.min(1, players.length - 1), running = false, zoom = 1, aligned = 0;
  if (plots.length !== players.length) chosen = 0;  // a search's first player is its input

  const text = (time) => `${Math.floor(time / 60)}:${(time % 60).toFixed(1).padStart(4, "0")}`;
  const show = () => {
    clockText.textContent = `${text(clock)} / ${text(seconds)}`;
    play.textContent = running ? "\u275a\u275a" : "\u25b6";
    picks.forEach((pick, number) => pick.classList.toggle("on", number === chosen));
    plots.forEach((plot, number) => {
      plot.querySelector("i").style.left = `${100 * Math.min(clock / seconds, 1)}%`;
      plot.closest(".track")?.classList.toggle("on", number === chosen);
      const view = views[number], place = plot.clientWidth * clock / seconds;
      if (running && (place < view.scrollLeft || place > view.scrollLeft + view.clientWidth)) view.scrollLeft = place - 20;
    });
  };
  const listen = () => players.forEach((player, number) => {
    const gain = !match || match.checked ? Number(player.dataset.gain) : 1;
    player.volume = number === chosen ? gain : 0;
  });
  const run = (player) => {
    if (Math.abs(player.currentTime - clock) > APART) player.currentTime = clock;
    if (player.paused) player.play().catch(() => { if (player === players[chosen]) stop(); });
  };
  const follow = () => {
    if (!running) return;
    const player = players[chosen];
    if (!player.seeking) clock = player.currentTime;
    if (player.ended || clock >= seconds) { clock = seconds; stop(); return; }
    if (performance.now() > aligned + ALIGN_MS) {  // the mute ones, which nobody hears move
      aligned = performance.now();
      for (const other of players) if (other !== player && !other.paused && !other.seeking) run(other);
    }
    show();
    requestAnimationFrame(follow);
  };
  const stop = () => {
    running = false;
    players.forEach((player) => player.pause());
    show();
  };
  const start = () => {
    samples.forEach((other) => { if (other !== sample) other.stop(); });
    if (clock >= seconds - 0.05) clock = 0;
    current = sample;
    running = true;
    listen();
    (players.length <= MOST_TOGETHER ? players : [players[chosen]]).forEach(run);
    requestAnimationFrame(follow);
  };
  const seek = (time) => {
    clock = Math.min(Math.max(time, 0), seconds);
    players.forEach((player) => { if (!player.paused || players.length <= MOST_TOGETHER) player.currentTime = clock; });
    show();
  };
  const choose = (number) => {
    if (number >= players.length) return;
    if (running && !players[chosen].seeking) clock = players[chosen].currentTime;
    chosen = number;
    if (running) run(players[chosen]);
    listen();
    show();
  };
  const magnify = (factor) => {
    zoom = Math.min(Math.max(zoom * factor, 1), widest);
    box.style.setProperty("--zoom", zoom);
    const step = STEPS.find((one) => seconds / zoom / one <= 10) || STEPS.at(-1);
    const labels = [];
    for (let time = 0; time < seconds - step / 4; time += step) {
      const label = document.createElement("span");
      label.style.left = `${100 * time / seconds}%`;
      label.textContent = seconds > 60 ? `${Math.floor(time / 60)}:${String(Math.floor(time % 60)).padStart(2, "0")}`
        : `${Number(time.toFixed(1))} s`;
      labels.push(label);
    }
    for (const times of box.querySelectorAll(".times")) times.replaceChildren(...labels.map((one) => one.cloneNode(true)));
    for (const view of views) view.scrollLeft = clock / seconds * view.scrollWidth - view.clientWidth / 2;
    show();
  };

  const sample = {box, start, stop, choose, magnify, listen, toggle: () => (running ? stop() : start()),
    move: (by) => seek(clock + by), step: seconds > 60 ? 5 : 1};
  players.forEach((player) => { player.controls = false; });
  play.addEventListener("click", () => sample.toggle());
  picks.forEach((pick, number) => pick.addEventListener("click", () => {
    choose(number);
    if (!running) start();
  }));
  plots.forEach((plot, number) => plot.addEventListener("click", (event) => {
    const area = plot.getBoundingClientRect();
    seek(seconds * (event.clientX - area.left) / area.width);
    if (plots.length === players.length) choose(number);
  }));
  views.forEach((view) => view.addEventListener("scroll", () => {
    for (const other of views) if (other.scrollLeft !== view.scrollLeft) other.scrollLeft = view.scrollLeft;
  }));
  box.querySelector(".out").addEventListener("click", () => magnify(0.5));
  box.querySelector(".in").addEventListener("click", () => magnify(2));
  box.addEventListener("click", () => select(sample));
  show();
  return sample;
}

function select(sample) {
  current = sample;
  for (const other of samples) other.box.classList.toggle("current", other === sample);
}

function beside(sample, by) {
  const other = samples[samples.indexOf(sample) + by];
  if (!other) return;
  sample.stop();
  select(other);
  other.box.scrollIntoView({block: "start"});
}

const keys = {
  " ": (sample) => sample.toggle(),
  ArrowLeft: (sample) => sample.move(-sample.step),
  ArrowRight: (sample) => sample.move(sample.step),
  ArrowUp: (sample) => beside(sample, -1),
  ArrowDown: (sample) => beside(sample, 1),
  "+": (sample) => sample.magnify(2),
  "-": (sample) => sample.magnify(0.5),
};
for (let number = 1; number <= 9; number++) keys[number] = (sample) => sample.choose(number - 1);

document.addEventListener("keydown", (event) => {
  const focused = event.target.closest?.("a, summary, select, textarea, input, button");
  if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key] || (focused && event.key === " ")) return;
  const seen = samples.find((one) => one.box.getBoundingClientRect().bottom > innerHeight / 3);
  const sample = current || seen || samples[0];
  if (!sample) return;
  if (sample !== current) select(sample);
  event.preventDefault();
  keys[event.key](sample);
});
// a button that was clicked keeps no focus, or the space bar would click it again
document.addEventListener("click", (event) => { if (event.detail) event.target.closest("button, #match")?.blur(); });
match?.addEventListener("change", () => samples.forEach((sample) => sample.listen()));
// a cell explains itself as its column does, or its row
for (const cell of document.querySelectorAll("td:not([title])")) {
  const column = cell.closest("table").rows[0].cells[cell.cellIndex], first = cell.parentElement.cells[0];
  const title = column?.title || first.title;
  if (title && !cell.classList.contains("cell")) cell.title = title;
}
document.body.classList.add("scripted");
