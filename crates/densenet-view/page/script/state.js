// What is selected, hovered, open and shown; whoever draws listens for changes.

export const state = {
  selected: "network",
  hovered: null,
  /** Indices of the open stages. */
  open: new Set(),
  view: "network",
  theme: null,
};

const listeners = [];

/** Calls `listener(changed)` with the names of what changed. */
export function listen(listener) {
  listeners.push(listener);
}

/** Changes the state and tells everyone. */
export function change(patch) {
  const changed = Object.keys(patch).filter((key) => state[key] !== patch[key]);
  if (!changed.length) return;
  Object.assign(state, patch);
  for (const listener of listeners) listener(new Set(changed));
}

/** Opens or closes a dense block, and changes what else is given in the same step. */
export function toggle(stage, open = !state.open.has(stage), others = {}) {
  if (open === state.open.has(stage)) {
    change(others);
    return;
  }
  const next = new Set(state.open);
  if (open) next.add(stage);
  else next.delete(stage);
  change({ ...others, open: next });
}
