// The map: a point for each clip on a canvas, with the mouse, by touch and by keys.
"use strict";

// Draws on `canvas`. hooks: color(clip) or null where a filter hides it, over(clip or -1, x, y), choose(clip).
function makeMap(canvas, count, hooks) {
  const context = canvas.getContext("2d");
  let points = new Uint16Array(2 * count);
  let view = { x: 0.5, y: 0.5, zoom: 1 };
  let chosen = -1;
  let walked = -1;
  let marked = [];
  let drag = null;
  let asked = false;

  const margin = 14;
  const scale = () => (Math.min(canvas.clientWidth, canvas.clientHeight) - 2 * margin) * view.zoom;
  const place = (clip) => [
    canvas.clientWidth / 2 + (points[2 * clip] / 65535 - view.x) * scale(),
    canvas.clientHeight / 2 + (points[2 * clip + 1] / 65535 - view.y) * scale(),
  ];

  function draw() {
    asked = false;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = canvas.clientHeight * ratio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const size = Math.max(1.5, Math.min(6, 90 / Math.sqrt(count))) * Math.sqrt(view.zoom);
    for (let clip = 0; clip < count; clip++) {
      const color = hooks.color(clip);
      const [x, y] = place(clip);
      if (x < -9 || y < -9 || x > canvas.clientWidth + 9 || y > canvas.clientHeight + 9) continue;
      context.fillStyle = color || "#d9d9d4";
      context.fillRect(x - size / 2, y - size / 2, size, size);
    }
    for (const clip of marked) ring(clip, 5, "#1b1b1b", 1.2);
    if (chosen >= 0) ring(chosen, 8, "#c2410c", 3);
    if (walked >= 0) ring(walked, 10, "#0b5e8a", 2);
  }

  function ring(clip, radius, color, width) {
    context.strokeStyle = color;
    context.lineWidth = width;
    context.beginPath();
    context.arc(...place(clip), radius, 0, 7);
    context.stroke();
  }

  function redraw() {
    if (!asked) requestAnimationFrame(draw);
    asked = true;
  }

  // The nearest clip within some pixels that fits.
  function nearest(x, y, reach, fits = () => true) {
    let found = -1;
    let least = reach * reach;
    for (let clip = 0; clip < count; clip++) {
      const [px, py] = place(clip);
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least && hooks.color(clip) && fits(px, py)) [found, least] = [clip, distance];
    }
    return found;
  }

  function zoomBy(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
    const before = scale();
    view.zoom = Math.min(200, Math.max(1, view.zoom * factor));
    const change = 1 / before - 1 / scale();
    view.x += (x - canvas.clientWidth / 2) * change;
    view.y += (y - canvas.clientHeight / 2) * change;
    if (view.zoom === 1) view = { x: 0.5, y: 0.5, zoom: 1 };
    redraw();
  }

  function walk(dx, dy) {
    const start = walked >= 0 ? walked : chosen;
    const [x, y] = start >= 0 ? place(start) : [canvas.clientWidth / 2, canvas.clientHeight / 2];
    const next = start < 0 ? nearest(x, y, 1e6) : nearest(x, y, 1e6, (px, py) => {
      const along = (px - x) * dx + (py - y) * dy;
      return along > 0.5 && along >= Math.abs((px - x) * dy + (py - y) * dx);
    });
    if (next < 0) return;
    walked = next;
    const [px, py] = place(walked);
    if (px < 0 || py < 0 || px > canvas.clientWidth || py > canvas.clientHeight) {
      [view.x, view.y] = [points[2 * walked] / 65535, points[2 * walked + 1] / 65535];
    }
    hooks.over(walked, ...place(walked));
    redraw();
  }

  canvas.addEventListener("pointermove", (event) => {
    if (drag && event.buttons && view.zoom > 1) {
      view.x -= (event.offsetX - drag.x) / scale();
      view.y -= (event.offsetY - drag.y) / scale();
      drag = { x: event.offsetX, y: event.offsetY, moved: true };
      return redraw();
    }
    hooks.over(nearest(event.offsetX, event.offsetY, 14), event.offsetX, event.offsetY);
  });
  canvas.addEventListener("pointerdown", (event) => { drag = { x: event.offsetX, y: event.offsetY, moved: false }; });
  canvas.addEventListener("pointerup", (event) => {
    const clip = drag && !drag.moved ? nearest(event.offsetX, event.offsetY, 20) : -1;
    drag = null;
    if (clip >= 0) hooks.choose(clip);
  });
  canvas.addEventListener("pointerleave", () => { drag = null; hooks.over(-1, 0, 0); });
  canvas.addEventListener("blur", () => { walked = -1; hooks.over(-1, 0, 0); redraw(); });
  canvas.addEventListener("wheel", (event) => {
    if (view.zoom === 1 && event.deltaY > 0) return; // nothing to zoom out of: the page scrolls
    event.preventDefault();
    zoomBy(event.deltaY < 0 ? 1.25 : 0.8, event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in steps) walk(...steps[event.key]);
    else if (event.key === "Enter" && walked >= 0) hooks.choose(walked);
    else if (event.key === "+" || event.key === "=") zoomBy(1.5);
    else if (event.key === "-") zoomBy(1 / 1.5);
    else return;
    event.preventDefault();
  });
  new ResizeObserver(redraw).observe(canvas);

  return {
    redraw,
    zoomBy,
    show(coordinates) { points = coordinates; redraw(); },
    mark(clip, clips) { chosen = clip; marked = clips; redraw(); },
  };
}
