// One clock a sample: its tracks go on where another one stopped, and every picture shows the place.
let playing = null;

for (const sample of document.querySelectorAll(".sample")) {
  const players = [...sample.querySelectorAll("audio")];
  const plots = [...sample.querySelectorAll(".plot")];
  const seconds = Number(sample.dataset.seconds);
  let clock = 0;

  const show = () => {
    for (const plot of plots) {
      plot.querySelector("i").style.left = `${100 * Math.min(clock / seconds, 1)}%`;
      const view = plot.closest(".scroll");
      const place = plot.clientWidth * clock / seconds;
      if (playing && sample.contains(playing) && (place < view.scrollLeft || place > view.scrollLeft + view.clientWidth))
        view.scrollLeft = place - 20;
    }
  };
  const follow = () => {
    const active = players.find((player) => player === playing);
    if (!active) return;
    clock = active.currentTime;
    show();
    if (!active.paused) requestAnimationFrame(follow);
  };
  const seek = (time) => {
    clock = time;
    for (const player of players) player.currentTime = time;
    show();
  };

  for (const player of players) {
    player.addEventListener("play", () => {
      if (playing && playing !== player) playing.pause();
      if (clock >= Math.min(seconds, player.duration || seconds) - 0.05) clock = 0;
      if (Math.abs(player.currentTime - clock) > 0.05) player.currentTime = clock;
      playing = player;
      requestAnimationFrame(follow);
    });
    player.addEventListener("seeked", () => {
      if (playing === player || !players.includes(playing) || playing.paused) { clock = player.currentTime; show(); }
    });
  }
  for (const plot of plots)
    plot.addEventListener("click", (event) => {
      const box = plot.getBoundingClientRect();
      seek(seconds * Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1));
    });
  sample.querySelector(".zoom")?.addEventListener("click", () => { sample.classList.toggle("zoomed"); show(); });
}
