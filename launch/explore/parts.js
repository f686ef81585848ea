// Elements of the page, and its one player of sounds.
"use strict";

const parts = (() => {
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  // cell(kind, clip, description, tight): a clip's part of a sheet, "frames" or "spectrograms", as a picture that may
  // have any width. All cells have one shape, in which a frame may leave margins; a tight one has the frame's own.
  function cellsOf(about) {
    const sizes = explorer.bytes(about.sizes);
    return (kind, clip, description, tight = false) => {
      const file = Math.floor(clip / about.perFile);
      const slot = clip % about.perFile;
      const rows = Math.ceil(Math.min(about.perFile, about.names.length - file * about.perFile) / about.columns);
      const cells = [about.columns, rows];
      const place = [slot % about.columns, Math.floor(slot / about.columns)];
      const whole = kind === "frames" ? about.cell : about.spectrogram;
      const part = tight && kind === "frames" ? [sizes[2 * clip], sizes[2 * clip + 1]] : whole;
      const percent = (axis) => {
        const sheet = cells[axis] * whole[axis];
        const start = place[axis] * whole[axis] + Math.floor((whole[axis] - part[axis]) / 2);
        return [(100 * sheet) / part[axis], sheet > part[axis] ? (100 * start) / (sheet - part[axis]) : 0];
      };
      const [[width, left], [height, top]] = [percent(0), percent(1)];
      const picture = make("span", { class: `cell ${kind}`, role: "img", "aria-label": description });
      if (!description) picture.setAttribute("aria-hidden", "true");
      picture.style.aspectRatio = part.join("/");
      picture.style.backgroundImage = `url("data/${kind}-${file}.webp")`;
      picture.style.backgroundSize = `${width}% ${height}%`;
      picture.style.backgroundPosition = `${left}% ${top}%`;
      return picture;
    };
  }

  // The sound of a clip is a second of a file that holds many; silence follows it, in which the player stops.
  function playerOf(about, say) {
    const audio = new Audio();
    let ends = Infinity;
    audio.addEventListener("timeupdate", () => { if (audio.currentTime >= ends) audio.pause(); });
    for (const event of ["pause", "ended", "error"]) audio.addEventListener(event, () => show(""));

    function show(key) {
      document.querySelectorAll(".playing").forEach((button) => button.classList.remove("playing"));
      document.querySelectorAll(`[data-sound="${key}"]`).forEach((button) => button.classList.add("playing"));
    }

    function play(clip) {
      const address = `data/sounds-${Math.floor(clip / about.perFile)}.webm`;
      const start = (clip % about.perFile) * about.slotSeconds;
      audio.pause();
      if (audio.getAttribute("src") !== address) audio.src = address;
      audio.currentTime = start;
      ends = start + 1;
      audio.play().then(() => show(clip), () => {}); // a browser may refuse to sound before the first click
    }

    function playAddress(address) {
      audio.src = address;
      ends = Infinity;
      audio.play().then(() => show("own"), () => say("This browser cannot play that sound."));
    }

    function button(clip, words) {
      const label = `Play ${words}`;
      const attributes = { class: "play", "data-sound": clip, "aria-label": label, title: label };
      return make("button", { ...attributes, onclick: () => play(clip) });
    }

    return { audio, play, playAddress, button };
  }

  return { make, cellsOf, playerOf };
})();
