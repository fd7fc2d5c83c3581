// Zoom and pan: the drawing's group is moved and scaled inside its svg.

const FARTHEST = 0.05;
const NEAREST = 8;
/** Smaller than this the drawing's text is hard to read. */
const READABLE = 0.85;

/** Lets `group` be moved inside `svg`; `extent()` is the drawing's box. */
export function camera(svg, group, extent) {
  let view = { x: 0, y: 0, zoom: 1 };
  const pointers = new Map();
  let moved = 0;
  const listeners = [];

  const apply = () => {
    group.setAttribute("transform", `translate(${view.x.toFixed(2)} ${view.y.toFixed(2)}) scale(${view.zoom.toFixed(4)})`);
    for (const listener of listeners) listener(view);
  };

  // Remembered, because asking would make the browser lay out the page in the middle of drawing it.
  let known = null;
  const size = () => {
    known ??= [svg.clientWidth, svg.clientHeight];
    return known[0] && known[1] ? known : [800, 500];
  };
  new ResizeObserver(([{ contentRect }]) => {
    known = [contentRect.width, contentRect.height];
  }).observe(svg);

  /** Scales by `factor` around a point of the svg. */
  const zoomAt = (factor, x, y) => {
    const zoom = Math.min(Math.max(view.zoom * factor, FARTHEST), NEAREST);
    const change = zoom / view.zoom;
    view = { x: x - (x - view.x) * change, y: y - (y - view.y) * change, zoom };
    apply();
  };

  const zoomBy = (factor) => {
    const [width, height] = size();
    zoomAt(factor, width / 2, height / 2);
  };

  /** Shows the whole drawing; a column is shown from its top at a readable size. */
  const fit = (readable = false) => {
    const [width, height] = size();
    const box = extent();
    const across = width / box.width;
    const whole = Math.min(across, height / box.height, 1.6);
    const zoom = readable ? Math.min(across, 1.25) : whole;
    const x = (width - box.width * zoom) / 2 - box.x * zoom;
    const tall = box.height * zoom > height;
    const y = readable && tall ? -box.y * zoom : (height - box.height * zoom) / 2 - box.y * zoom;
    view = { x, y, zoom };
    apply();
  };

  /** Brings [x, y, width, height] of the drawing into sight, changing the zoom only where it must. */
  const show = ([x, y, boxWidth, boxHeight]) => {
    const [width, height] = size();
    const margin = 30;
    // What is larger than the window is shown from its start, no smaller than it can be read.
    const whole = Math.max(Math.min((width - margin) / boxWidth, (height - margin) / boxHeight), READABLE);
    const zoom = Math.min(Math.max(view.zoom, READABLE), whole);
    const along = (start, length, room, now) => {
      if (length * zoom > room - margin) return margin - start * zoom;
      const [from, to] = [start * zoom + now, (start + length) * zoom + now];
      if (from < margin) return now + margin - from;
      return to > room - margin ? now - (to - room + margin) : now;
    };
    // Around the middle of the window first, so that a change of zoom does not throw the drawing away.
    const change = zoom / view.zoom;
    const nowX = width / 2 - (width / 2 - view.x) * change;
    const nowY = height / 2 - (height / 2 - view.y) * change;
    view = { x: along(x, boxWidth, width, nowX), y: along(y, boxHeight, height, nowY), zoom };
    apply();
  };

  const point = (event) => {
    const box = svg.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const step = event.deltaMode === 1 ? 16 : 1;
    if (event.ctrlKey || event.metaKey) {
      zoomAt(Math.exp(-event.deltaY * step * 0.008), ...point(event));
    } else if (event.shiftKey) {
      view = { ...view, x: view.x - event.deltaY * step };
      apply();
    } else {
      view = { ...view, x: view.x - event.deltaX * step, y: view.y - event.deltaY * step };
      apply();
    }
  }, { passive: false });

  svg.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, point(event));
    moved = 0;
  });
  svg.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    const before = [...pointers.values()];
    const [x, y] = point(event);
    const [oldX, oldY] = pointers.get(event.pointerId);
    moved += Math.abs(x - oldX) + Math.abs(y - oldY);
    pointers.set(event.pointerId, [x, y]);
    if (moved < 4) return;
    // Only now: a captured pointer's click would go to the svg and not to what is under it.
    if (!svg.hasPointerCapture(event.pointerId)) svg.setPointerCapture(event.pointerId);
    svg.classList.add("dragging");
    if (pointers.size === 2) {
      const after = [...pointers.values()];
      const spread = ([a, b]) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
      zoomAt(spread(after) / spread(before), (after[0][0] + after[1][0]) / 2, (after[0][1] + after[1][1]) / 2);
    }
    view = { ...view, x: view.x + (x - oldX) / pointers.size, y: view.y + (y - oldY) / pointers.size };
    apply();
  });
  const release = (event) => {
    pointers.delete(event.pointerId);
    svg.classList.remove("dragging");
  };
  svg.addEventListener("pointerup", release);
  svg.addEventListener("pointercancel", release);
  // The click at the end of a drag selects nothing.
  svg.addEventListener("click", (event) => {
    if (moved >= 4) event.stopPropagation();
    moved = 0;
  }, true);

  return { fit, show, zoomBy, onMove: (listener) => listeners.push(listener), view: () => view, size };
}
