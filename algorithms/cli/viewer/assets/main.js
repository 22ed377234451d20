// The page: what is looked at, and drawing it again when that changes.

import { chart } from "./chart.js";
import { details } from "./details.js";
import { choice, element, number, visible } from "./dom.js";
import { drawing } from "./drawing.js";
import { KEYS, listen, moved } from "./keyboard.js";
import { enriched, summaryMatches } from "./model.js";
import { budget, promptList } from "./prompts.js";
import { embedded } from "./source.js";

async function start(source) {
  const index = await source.index();
  index.prompts.forEach((one, place) => (one.number = place));
  const steps = [...new Set(index.prompts.map((one) => one.step))];
  const names = [...new Set(index.metrics.flatMap(Object.keys))].filter((name) => name !== "step").sort();
  const view = { metric: names.includes("success") ? "success" : names[0], step: steps[0], prompt: null, node: 0, other: null,
    by: "value", tokens: "logprob", whole: false, wanted: { outcome: "", tool: "", status: "" }, vocabulary: null };
  const parts = Object.fromEntries(["curves", "list", "budget", "tree", "details"].map((name) => [name, element("div", { id: name })]));
  document.getElementById("page").append(header(index), element("main", {},
    element("div", { class: "side" }, parts.curves, filters(), parts.list, parts.budget), element("div", { class: "stage" }, parts.tree, parts.details)));
  let tree = null;

  function prompts() {
    return index.prompts.filter((one) => one.step === view.step && summaryMatches(one, view.wanted));
  }

  function filters() {
    const all = (values) => [["", "all"], ...[...new Set(values)].sort().map((value) => [value, value.replaceAll("_", " ")])];
    const asked = { outcome: index.prompts.flatMap((one) => one.ends.map((end) => end[0])),
      tool: index.prompts.flatMap((one) => one.tools), status: index.prompts.flatMap((one) => one.ends.map((end) => end[1])) };
    return element("fieldset", { class: "bar" }, element("legend", {}, "Only leaves with"), ...Object.entries(asked).map(([name, values]) =>
      choice(name, all(values), "", (value) => { view.wanted[name] = value; showList(); showTree(); })));
  }

  function showList() {
    const found = prompts();
    if (names.length) parts.curves.replaceChildren(choice("Curve", names.map((name) => [name, name]), view.metric, (value) => {
      view.metric = value;
      showList();
    }), chart(index.metrics, view.metric, view.step, (step) => {
      const focused = document.activeElement?.classList.contains("chart");
      goTo(step);
      if (focused) parts.curves.querySelector(".chart")?.focus();
    }));
    const scrolled = parts.list.querySelector(".prompts")?.scrollTop ?? 0, inside = parts.list.contains(document.activeElement);
    parts.list.replaceChildren(element("h2", {}, `Step ${view.step}`), promptList(found, view.prompt, open));
    const shown = parts.list.querySelector(".prompts");
    if (shown) shown.scrollTop = scrolled;
    if (inside) parts.list.querySelector("[aria-current]")?.focus({ preventScroll: true });
    parts.budget.replaceChildren(element("h2", {}, `Budget of step ${view.step}`), budget(found));
  }

  function showTree() {
    if (!tree) return;
    const scrolled = parts.tree.querySelector(".scroll")?.scrollLeft ?? 0;
    const one = index.prompts[view.prompt];
    parts.tree.replaceChildren(element("h2", { class: "task" }, `Step ${one.step}, prompt ${one.prompt}`), element("p", { class: "question" }, visible(tree.nodes[0].text.trim() || tree.task).slice(0, 600)),
      element("div", { class: "bar" }, choice("Colour", [["value", "value (mean reward below)"], ["advantage", "advantage within the tree"]], view.by,
        (value) => { view.by = value; showTree(); }), legend()),
      drawing(tree, view, select), element("details", {}, element("summary", {}, "Budget of this tree"), budget([one])));
    parts.tree.querySelector(".scroll").scrollLeft = scrolled;
    parts.details.replaceChildren(details(tree, view, change));
  }

  function change(changes) {
    Object.assign(view, changes);
    showTree();
  }

  function select(node) {
    change({ node, other: null });
    const mark = parts.tree.querySelector(".node.chosen");
    mark.focus({ preventScroll: true });
    mark.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  async function open(place) {
    view.prompt = place;
    view.step = index.prompts[place].step;
    const [found, vocabulary] = await Promise.all([source.tree(place), view.vocabulary ?? source.vocabulary()]);
    if (view.prompt !== place) return;
    tree = enriched(found);
    history.replaceState(null, "", `#${place}`);
    const decided = tree.nodes.find((node) => node.decision?.granted) ?? tree.nodes.find((node) => node.decision);
    Object.assign(view, { vocabulary, node: decided?.index ?? 0, other: null });
    showList();
    showTree();
  }

  function neighbour(key) {
    const found = prompts().map((one) => one.number);
    const next = found[found.indexOf(view.prompt) + (key === "n" ? 1 : -1)];
    if (next !== undefined) open(next);
  }

  function otherStep(key) {
    const step = steps[steps.indexOf(view.step) + (key === "]" ? 1 : -1)];
    if (step === undefined) return;
    goTo(step);
  }

  function goTo(step) {
    view.step = step;
    showList();
    if (prompts().length) open(prompts()[0].number);
  }

  listen({ arrow: (key) => tree && select(moved(tree, view.node, key)), n: neighbour, p: neighbour, "]": otherStep, "[": otherStep,
    w: () => tree && change({ whole: !view.whole }) });
  showList();
  const asked = Number(location.hash.slice(1));
  if (index.prompts.length) await open(index.prompts[asked] ? asked : 0);
}

function header(index) {
  const sums = index.prompts.flatMap((one) => one.ends);
  const right = sums.filter((end) => end[0] === "right").reduce((sum, end) => sum + end[2], 0);
  const leaves = index.prompts.reduce((sum, one) => sum + one.leaves, 0);
  return element("header", {}, element("h1", {}, visible(index.title)),
    element("p", {}, `${visible(index.selection)} · ${leaves} leaves, ${number(leaves ? (100 * right) / leaves : null, 0)}% right`),
    element("p", { class: "quiet" }, KEYS));
}

function legend() {
  return element("p", { class: "legend quiet" }, "width: leaves below · ",
    element("span", { class: "low" }, "■"), " below 0 ", element("span", { class: "high" }, "■"), " above 0 · ring: a fork was considered, thicker with entropy, stronger if it forked · ● action ■ tool result");
}

start(embedded);
