// The page: what is chosen, what is found, and how it sounds. Names and labels are text and never markup.
"use strict";

explorer.part("about").then((about) => {
  const count = about.names.length;
  const SHOWN = innerWidth < 900 ? 6 : about.runs.length > 1 ? 9 : 12; // of what is found; more for the asking
  const $ = (id) => document.getElementById(id);
  const { make } = parts;
  const cell = parts.cellsOf(about);
  const player = parts.playerOf(about, say);
  const token = document.body.dataset.token;
  const heatColors = explorer.bytes(about.heatColors);
  const folded = about.names.map((name) => name.toLowerCase());
  // As far apart as eight colors are for most eyes (after Okabe and Ito); more labels than that share one.
  const COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#6b4c9a", "#444444"];
  const colored = about.classes.length <= COLORS.length;
  let query = null; // {kind: "image" or "audio", clip: number or -1, vectors: of each run, picture, sound: addresses}
  let turn = 0; // of the search: a slow one must not overwrite a later one

  const labelsOf = (clip) => about.labels[clip].map((label) => about.classes[label]);
  const titleOf = (clip) => `${about.names[clip]} at ${about.seconds[clip].toFixed(1)} s`;

  // Filters

  let filters = { name: "", label: -1 };

  function readFilters() {
    filters = { name: $("name").value.toLowerCase(), label: $("label").value === "" ? -1 : Number($("label").value) };
  }

  function allowed(clip) {
    return (!filters.name || folded[clip].includes(filters.name))
      && (filters.label < 0 || about.labels[clip].includes(filters.label));
  }

  // Cards

  function card(clip, kind, score = null) {
    const asked = query && query.clip >= 0 ? about.labels[query.clip] : [];
    const known = asked.length > 0 && about.labels[clip].length > 0;
    const same = known && about.labels[clip].some((label) => asked.includes(label));
    const sound = kind === "audio";
    const words = [titleOf(clip), ...labelsOf(clip)].join(", ");
    const look = make(
      "button",
      {
        class: "look",
        "aria-label": `Search with this ${sound ? "sound" : "frame"}: ${words}`,
        onclick: () => { if (sound) player.play(clip); choose(clip, kind); },
      },
      cell(sound ? "spectrograms" : "frames", clip, words),
      sound ? cell("frames", clip, "", true) : null,
    );
    return make(
      "li",
      { class: `card ${kind} ${known ? (same ? "same" : "different") : ""}` },
      make("div", { class: "picture" }, look, player.button(clip, `the sound of ${titleOf(clip)}`)),
      make(
        "p",
        {},
        make("span", { class: "name", title: titleOf(clip) }, about.names[clip]),
        make("span", { class: "labels" }, (same ? "✓ " : "") + labelsOf(clip).join(", ")),
        score === null ? null : make("span", { class: "score", title: "cosine" }, score.toFixed(2)),
      ),
    );
  }

  // A list of cards with a button for more; `clips(n)` gives the first n.
  function cards(clips, kind, scores = null) {
    const list = make("ol", { class: "cards" });
    const more = make("button", { class: "small", onclick: () => grow() }, "more");
    const step = scores ? SHOWN : 2 * SHOWN;
    function grow() {
      const before = list.children.length;
      const found = clips(before + step);
      list.append(...found.slice(before).map((clip) => card(clip, kind, scores && scores[clip])));
      more.hidden = found.length < before + step;
    }
    grow();
    return make("div", {}, list.children.length ? list : make("p", { class: "note" }, "No clip passes the filters."), more);
  }

  // What is asked with

  function showMoment() {
    const place = $("moment");
    place.hidden = !query;
    if (!query) return;
    if (query.clip < 0) {
      place.replaceChildren(
        make("h2", {}, query.kind === "image" ? "Your picture" : "Your sound"),
        query.picture ? make("img", { class: "own", src: query.picture, alt: "Your picture" }) : "",
        query.sound
          ? make("button", { class: "play wide", "data-sound": "own", onclick: () => player.playAddress(query.sound) }, "Play your sound")
          : "",
        back(),
      );
      return;
    }
    const clip = query.clip;
    const frame = cell("frames", clip, titleOf(clip), true);
    frame.style.maxWidth = `calc(18rem * ${frame.style.aspectRatio})`; // a tall one leaves room for the map
    const kinds = [["image", "frame"], ["audio", "sound"]].map(([kind, word]) =>
      make("button", { "aria-pressed": query.kind === kind, onclick: () => choose(clip, kind) }, `its ${word}`));
    place.replaceChildren(
      make("h2", {}, `Nearest to this ${query.kind === "image" ? "frame" : "sound"}`),
      make("div", { class: "picture large" }, frame, player.button(clip, "its sound")),
      make("p", { class: "name" }, titleOf(clip)),
      make("p", { class: "labels" }, labelsOf(clip).join(", ")),
      make("div", { class: "segmented", role: "group", "aria-label": "Ask with" }, make("span", {}, "ask with "), ...kinds),
      ...about.runs.flatMap((run, number) => (run.heat ? [heat(number, clip)] : [])),
      back(),
    );
  }

  const back = () => make("button", { class: "small", onclick: () => choose(-1, "image") }, "← all clips");

  // AVOL-Net's map over the frame, under three sounds.
  function heat(number, clip) {
    const run = about.runs[number];
    const other = run.others[clip];
    const sounds = [["its own sound", clip], [`the sound of ${about.names[other]}`, other], ["no sound", -1]];
    const row = make("div", { class: "heats" });
    const file = Math.floor(clip / about.perFile);
    explorer.part(`heat-${number}-${file}`).then((maps) => {
      const { size: [width, height], most, maps: packed } = maps[clip % about.perFile];
      const values = explorer.bytes(packed);
      row.append(...sounds.map(([words, sound], map) => {
        const image = new ImageData(width, height);
        for (let i = 0; i < width * height; i++) {
          const value = values[map * width * height + i];
          image.data.set([...heatColors.subarray(3 * value, 3 * value + 3), 0.7 * value], 4 * i);
        }
        const canvas = make("canvas", { width, height, role: "img", "aria-label": `Heat under ${words}, at most ${most[map]}` });
        canvas.getContext("2d").putImageData(image, 0, 0);
        return make(
          "figure",
          {},
          make("div", { class: "picture" }, cell("frames", clip, "", true), canvas, sound < 0 ? null : player.button(sound, words)),
          make("figcaption", {}, words, make("b", {}, ` ${most[map].toFixed(2)}`)),
        );
      }));
    });
    return make(
      "div",
      {},
      make("h3", {}, `Where ${run.title} hears it`),
      row,
      make("p", { class: "note" }, "The number is the map's maximum: how likely any place makes the sound, 0 to 1."),
    );
  }

  // What is found

  async function search() {
    const mine = ++turn;
    const asked = query;
    const began = performance.now();
    if (!asked) {
      const clips = Array.from({ length: count }, (_, clip) => clip).filter(allowed);
      // Evenly spread over the map, along which the clips are ordered.
      const steps = Math.max(1, Math.floor(clips.length / (2 * SHOWN)));
      const spread = [];
      for (let k = 0; k < steps; k++) for (let i = k; i < clips.length; i += steps) spread.push(clips[i]);
      $("found").replaceChildren(
        make("h2", {}, `${clips.length.toLocaleString("en")} of ${count.toLocaleString("en")} clips`),
        make("p", { class: "note" }, "Choose a frame to find the sounds nearest to it, or ▶ to hear its own."),
        cards((n) => spread.slice(0, n), "image"),
      );
      map.mark(-1, []);
      return;
    }
    const shown = $("run").value === "" ? about.runs.keys() : [Number($("run").value)];
    const columns = [];
    const marked = [];
    let among = 0; // clips that pass the filters
    for (let clip = 0; clip < count; clip++) among += allowed(clip);
    for (const number of shown) {
      const run = about.runs[number];
      const vector = asked.clip < 0 ? asked.vectors[number] : await explorer.vector(about, number, asked.kind, asked.clip);
      const sections = [];
      for (const [kind, word] of [["audio", "Sounds"], ["image", "Frames"]]) {
        if (!vector.length || !run[kind].mean.length) continue; // a network that only sees, or only hears
        const scores = await explorer.cosines(about, number, kind, vector);
        const passes = (clip) => allowed(clip) && !(kind === asked.kind && clip === asked.clip);
        const own = asked.clip >= 0 && kind !== asked.kind && allowed(asked.clip);
        const place = own ? `its own comes at place ${explorer.rank(scores, asked.clip, allowed)} of ${among}` : "";
        sections.push(
          make("h3", {}, word, " ", make("small", {}, place)),
          cards((n) => explorer.best(scores, n, passes), kind, scores),
        );
        if (kind !== asked.kind) marked.push(...explorer.best(scores, SHOWN, passes));
      }
      const head = make("h2", {}, run.title, " ", make("small", {}, run.run));
      columns.push(make("section", { class: "run" }, head, run.about ? make("p", { class: "note" }, run.about) : null, ...sections));
    }
    if (mine !== turn) return;
    $("found").replaceChildren(...columns);
    $("found").dataset.milliseconds = Math.round(performance.now() - began);
    map.mark(asked.clip, marked);
  }

  function refresh() {
    showMoment();
    search().catch((error) => say(error.message));
  }

  // Of the address: the page can be linked to, and the browser's back button works.
  function choose(clip, kind) {
    const address = clip < 0 ? "#" : `#${kind}=${clip}`;
    if (location.hash === address || (location.hash === "" && address === "#")) readAddress();
    else location.hash = address;
  }

  function readAddress() {
    const [, kind, clip] = location.hash.match(/^#(image|audio)=(\d+)$/) || [];
    query = kind && Number(clip) < count ? { kind, clip: Number(clip) } : null;
    refresh();
    if (query && innerWidth < 900) $("moment").scrollIntoView();
  }

  function filter() {
    readFilters();
    search().catch((error) => say(error.message));
    map.redraw();
  }

  function say(words) { $("message").textContent = words; }

  // The map

  const map = makeMap($("map"), count, {
    color: (clip) => (allowed(clip) ? COLORS[(colored && about.labels[clip][0]) || 0] : null),
    choose(clip) { player.play(clip); choose(clip, "image"); },
    over: hovered,
  });
  let hover = -1;

  function hovered(clip, x, y) {
    const tip = $("tip");
    tip.hidden = clip < 0;
    if (clip >= 0) {
      tip.style.left = `${Math.min(x + 12, $("map").clientWidth - 150)}px`;
      tip.style.top = `${y + 12}px`;
      if (clip !== hover) {
        tip.replaceChildren(cell("frames", clip, "", true), titleOf(clip), make("br"), make("b", {}, labelsOf(clip).join(", ")));
        if ($("hover").checked) player.play(clip);
      }
    }
    hover = clip;
  }

  function showMap() {
    map.show(new Uint16Array(explorer.bytes(about.runs[Number($("run").value) || 0].map).buffer));
  }

  // The controls

  $("about").textContent = about.about;
  about.classes.forEach((name, number) => $("label").append(make("option", { value: number }, name)));
  if (colored) about.classes.forEach((name, number) => {
    const dot = make("span", { class: "dot" });
    dot.style.background = COLORS[number];
    $("legend").append(make("li", {}, dot, name));
  });
  $("labels").hidden = !about.classes.length;
  $("runs").hidden = about.runs.length < 2;
  $("run").append(
    make("option", { value: "" }, "both, side by side"),
    ...about.runs.map((run, number) => make("option", { value: number }, `${run.title} (${run.run})`)),
  );
  let typed = 0;
  $("name").addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(filter, 150);
  });
  $("label").addEventListener("change", filter);
  $("run").addEventListener("change", () => { showMap(); filter(); });
  $("in").addEventListener("click", () => map.zoomBy(1.5));
  $("out").addEventListener("click", () => map.zoomBy(1 / 1.5));
  $("larger").addEventListener("click", () => {
    const large = document.body.classList.toggle("large-map");
    $("larger").setAttribute("aria-pressed", large);
    $("larger").textContent = large ? "smaller" : "larger";
  });
  addEventListener("hashchange", readAddress);
  addEventListener("keydown", (event) => { if (event.key === "Escape") choose(-1, "image"); });
  if (token) startUploads({ token, say, ask(asked) { query = asked; history.replaceState(null, "", "#"); refresh(); } });
  readFilters(); // a browser that goes back may have filled them in
  showMap();
  readAddress();
  // What searches need is loaded before the first one asks for it.
  setTimeout(() => about.runs.forEach((_, run) => ["image", "audio"].forEach((kind) => explorer.vector(about, run, kind, 0))), 200);
  document.body.dataset.ready = Math.round(performance.now());
}).catch((error) => { document.getElementById("message").textContent = error.message; });
