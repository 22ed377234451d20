// A curve of one metric over the steps; a click on a point, or Enter at it, leads to that step.

import { element, number, svg } from "./dom.js";

const MANY = 400;
const WIDTH = 360, HEIGHT = 150, LEFT = 48, RIGHT = 12, TOP = 10, BOTTOM = 28;

export function chart(metrics, name, chosen, choose) {
  const points = metrics.filter((one) => Number.isFinite(one[name])), drawnPoints = thinned(points, name);
  if (!points.length) return element("p", { class: "quiet" }, "This metric has no numbers.");
  const steps = points.map((one) => one.step), values = points.map((one) => one[name]);
  const across = scale(least(steps), most(steps), LEFT, WIDTH - RIGHT);
  const up = scale(least(values), most(values), HEIGHT - BOTTOM, TOP);
  const line = drawnPoints.map((one) => `${across(one.step).toFixed(1)},${up(one[name]).toFixed(1)}`).join(" ");
  const shown = Math.max(0, steps.indexOf(chosen));
  const dotted = points.length > MANY ? points.filter((one) => one.step === chosen) : points;
  const dots = dotted.map((one) => svg("circle", {
    class: one.step === chosen ? "dot chosen" : "dot", cx: across(one.step), cy: up(one[name]), r: one.step === chosen ? 6 : 3.5,
  }, svg("title", {}, `step ${one.step}: ${number(one[name], 4)}`)));
  const pick = (place) => choose(steps[Math.max(0, Math.min(steps.length - 1, place))]);
  const drawn = svg("svg", {
    class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "slider", tabindex: 0, "aria-label": `${name}, step`,
    "aria-valuemin": steps[0], "aria-valuemax": steps.at(-1), "aria-valuenow": steps[shown],
    "aria-valuetext": `step ${steps[shown]}: ${number(values[shown], 4)}`,
    click: (event) => pick(nearest(event, drawn, steps, across)),
    keydown: (event) => {
      const move = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      if (move === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      pick(shown + move);
    },
  }, ...axes(steps, values, across, up), svg("polyline", { class: "curve", points: line }), ...dots);
  return drawn;
}

function nearest(event, drawn, steps, across) {
  const box = drawn.getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * WIDTH;
  const distances = steps.map((step) => Math.abs(across(step) - x));
  return distances.indexOf(least(distances));
}

// Of many points the lowest and the highest of each piece of the curve, so that it looks the same and is drawn at once.
function thinned(points, name) {
  if (points.length <= MANY) return points;
  const size = Math.ceil((2 * points.length) / MANY), kept = [];
  for (let start = 0; start < points.length; start += size) {
    const piece = points.slice(start, start + size), values = piece.map((one) => one[name]);
    const ends = [values.indexOf(least(values)), values.indexOf(most(values))].sort((one, other) => one - other);
    kept.push(...new Set(ends.map((place) => piece[place])));
  }
  return kept;
}

function least(values) {
  return values.reduce((found, value) => Math.min(found, value), Infinity);
}

function most(values) {
  return values.reduce((found, value) => Math.max(found, value), -Infinity);
}

function axes(steps, values, across, up) {
  const low = least(values), high = most(values);
  const marks = [...new Set([low, (low + high) / 2, high])].flatMap((value) => [
    svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: up(value), y2: up(value) }),
    svg("text", { class: "axis", x: LEFT - 10, y: up(value) + 4, "text-anchor": "end" }, short(value)),
  ]);
  const ends = [...new Set([steps[0], steps.at(-1)])].map((step) =>
    svg("text", { class: "axis", x: across(step), y: HEIGHT - 8, "text-anchor": "middle" }, String(step)));
  return [...marks, ...ends, svg("text", { class: "axis", x: WIDTH / 2, y: HEIGHT - 8, "text-anchor": "middle" }, "step")];
}

function short(value) {
  return Math.abs(value) >= 1000 ? `${number(value / 1000, 1)}k` : number(value, Math.abs(value) >= 100 ? 0 : 2);
}

function scale(low, high, start, end) {
  return (value) => (high === low ? (start + end) / 2 : start + ((value - low) / (high - low)) * (end - start));
}
