// The rollout tree: width = leaves below, colour = value or group-relative reward, a ring = entropy where a fork was considered.

import { element, leavesOf, number, svg, visible } from "./dom.js";
import { colour, matches, scores } from "./model.js";

const COLUMN = 62, ROW = 30, MARGIN = 24, LABEL = 150;

export function drawing(tree, view, select) {
  const places = layout(tree), score = scores(tree, view.by);
  const most = Math.max(1, tree.leaves.length);
  const kept = new Set();
  for (const leaf of tree.leaves) if (matches(tree, leaf, view.wanted)) {
    for (let at = leaf; at >= 0; at = tree.nodes[at].parent) kept.add(at);
  }
  const width = Math.max(...places.map((place) => place.x)) + MARGIN + LABEL;
  const height = tree.leaves.length * ROW + 2 * MARGIN;
  const links = tree.nodes.filter((node) => node.parent >= 0).map((node) =>
    link(node, places, { score, most, kept: kept.has(node.index) }));
  const marks = tree.nodes.map((node) =>
    mark(node, places[node.index], { score, kept: kept.has(node.index), chosen: view.node === node.index, select, tree }));
  const drawn = svg("svg", { class: "tree", width, height, viewBox: `0 0 ${width} ${height}`, role: "group",
    "aria-label": `Rollout tree with ${tree.leaves.length} leaves; the arrow keys move` }, ...links, ...marks);
  return element("div", { class: "scroll" }, drawn);
}

function layout(tree) {
  const places = tree.nodes.map(() => ({ x: 0, y: 0 }));
  tree.nodes.forEach((node) => {
    places[node.index].x = node.parent < 0 ? MARGIN : places[node.parent].x + COLUMN;
  });
  for (const node of [...tree.nodes].reverse()) {
    const below = node.below.map((leaf) => tree.nodes[leaf].ordinal);
    const middle = below.length ? (Math.min(...below) + Math.max(...below)) / 2 : 1;
    places[node.index].y = MARGIN + (middle - 0.5) * ROW;
  }
  return places;
}

function link(node, places, look) {
  const from = places[node.parent], to = places[node.index], half = (from.x + to.x) / 2;
  const made = svg("path", { class: `link ${node.origin ?? ""}`, d: `M${from.x} ${from.y}C${half} ${from.y} ${half} ${to.y} ${to.x} ${to.y}`,
    "stroke-width": 2 + (12 * node.below.length) / look.most });
  made.style.stroke = colour(look.score[node.index]);
  made.style.opacity = look.kept ? 1 : 0.15;
  return made;
}

function mark(node, place, look) {
  const group = svg("g", { ...pressed(look.chosen), role: "button", "data-node": node.index, "aria-label": described(node),
    transform: `translate(${place.x} ${place.y})`, click: () => look.select(node.index) }, svg("title", {}, described(node)));
  group.style.opacity = look.kept ? 1 : 0.3;
  group.append(svg("rect", { class: "hit", x: -15, y: -14, width: 30, height: 28 }));
  if (node.decision) group.append(ring(node.decision));
  const shape = node.kind === "observation"
    ? svg("rect", { class: "shape", x: -5, y: -5, width: 10, height: 10 })
    : svg("circle", { class: "shape", r: node.kind === "prompt" ? 8 : 6 });
  shape.style.fill = colour(look.score[node.index]);
  group.append(shape);
  if (node.outcome) {
    group.append(svg("text", { class: "reward", x: 14, y: 4 }, end(node)));
  }
  return group;
}

function pressed(isChosen) {
  return { class: isChosen ? "node chosen" : "node", tabindex: isChosen ? 0 : -1, "aria-pressed": String(isChosen) };
}

// Marks another node of a drawn tree, and returns its mark.
export function choose(drawn, node) {
  const mark = drawn.querySelector(`[data-node="${node}"]`);
  for (const one of [...drawn.querySelectorAll(".node.chosen"), mark]) {
    for (const [name, value] of Object.entries(pressed(one === mark))) one.setAttribute(name, value);
  }
  return mark;
}

function ring(decision) {
  const known = decision.after !== null;
  return svg("circle", { class: decision.granted ? "ring forked" : "ring", r: 9,
    "stroke-width": known ? 1.5 + 2.5 * Math.min(1, decision.after / 2) : 1.5, "stroke-dasharray": known ? false : "2 2" });
}

function end(node) {
  const sign = { right: "✓", wrong: "✗", failed: "!" }[node.outcome];
  return `${node.ordinal} ${sign} ${number(node.total)} ${node.status.replaceAll("_", " ")}`;
}

function described(node) {
  const name = { prompt: "question", action: "action", observation: "tool result" }[node.kind];
  const parts = [name, `${leavesOf(node)} below`, `value ${number(node.value)}`];
  if (node.decision) parts.push(node.decision.granted ? "forked here" : "a fork was considered here");
  if (node.outcome) parts.unshift(end(node));
  if (node.tool) parts.push(visible(node.tool));
  return parts.join(", ");
}
