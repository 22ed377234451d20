// The page: what is looked at, and drawing it again when that changes or more of the run has come.

import { chart } from "./chart.js";
import { details } from "./details.js";
import { choice, element, number, visible } from "./dom.js";
import { choose, drawing } from "./drawing.js";
import { KEYS, listen, moved } from "./keyboard.js";
import { enriched, summaryMatches } from "./model.js";
import { budget, promptList } from "./prompts.js";
import { emptyRun, metricNames, offered, share, stepsOf, take } from "./run.js";

const LONG = 600;
const COLOURS = [["value", "value (mean reward below)"], ["relative", "group-relative reward"]];

export async function start(source) {
  const run = emptyRun();
  const view = { metric: null, step: null, line: null, node: 0, other: null, by: "value", tokens: "logprob", whole: false,
    wanted: { outcome: "", tool: "", status: "" }, vocabulary: null };
  const parts = Object.fromEntries(["curves", "filters", "list", "budget", "tree", "details"].map((name) => [name, element("div", { id: name })]));
  const head = element("header"), curve = element("div"), shown = {};
  let tree = null;
  document.getElementById("page").append(head, element("main", {},
    element("div", { class: "side" }, parts.curves, parts.filters, parts.list, parts.budget), element("div", { class: "stage" }, parts.tree, parts.details)));

  // Draws a part again only if what it offers is new, so that an open list of choices stays open.
  function renew(part, offers, draw) {
    const written = JSON.stringify(offers);
    if (shown[part] === written) return;
    shown[part] = written;
    const label = document.activeElement?.closest?.(`#${part} label`)?.textContent;
    parts[part].replaceChildren(...draw());
    if (label) [...parts[part].querySelectorAll("label")].find((one) => one.textContent === label)?.querySelector("select").focus();
  }

  function prompts() {
    return run.prompts.filter((one) => one.step === view.step && summaryMatches(one, view.wanted));
  }

  function showRun(fault = "") {
    const { leaves, right } = share(run), names = metricNames(run);
    head.replaceChildren(element("h1", {}, visible(run.title)),
      element("p", {}, `${visible(run.selection)} · ${leaves} leaves, ${number(leaves ? (100 * right) / leaves : null, 0)}% right`),
      fault ? element("p", { class: "fault", role: "alert" }, visible(fault)) : "", element("p", { class: "quiet" }, KEYS));
    view.metric ??= names.includes("success") ? "success" : names[0];
    if (names.length) renew("curves", names, () => [choice("Curve", names.map((name) => [name, name]), view.metric, (value) => {
      view.metric = value;
      showCurve();
    }), curve]);
    const offers = offered(run);
    renew("filters", offers, () => [element("fieldset", { class: "bar" }, element("legend", {}, "Only leaves with"),
      ...Object.entries(offers).map(([name, values]) => choice(name, values, view.wanted[name], (value) => {
        view.wanted[name] = value;
        showList();
        showTree();
      })))]);
  }

  function showCurve() {
    const focused = curve.contains(document.activeElement);
    curve.replaceChildren(view.metric ? chart(run.metrics, view.metric, view.step, goTo) : "");
    if (focused) curve.querySelector(".chart")?.focus();
  }

  function showList() {
    const found = prompts(), focused = document.activeElement?.closest?.(".prompt")?.dataset.number;
    const scrolled = parts.list.querySelector(".prompts")?.scrollTop ?? 0;
    if (view.step === null) parts.list.replaceChildren(element("p", { class: "quiet" }, "Trees appear here when they come."));
    else parts.list.replaceChildren(element("h2", {}, `Step ${view.step}`), promptList(found, view.line?.number, open));
    const list = parts.list.querySelector(".prompts");
    if (list) list.scrollTop = scrolled;
    if (focused !== undefined) {
      (parts.list.querySelector(`[data-number="${focused}"]`) ?? parts.list.querySelector("[aria-current]"))?.focus({ preventScroll: true });
    }
    parts.budget.replaceChildren(...(found.length ? [element("h2", {}, `Budget of step ${view.step}`), budget(found)] : []));
  }

  function showTree() {
    if (!tree) return;
    const scrolled = parts.tree.querySelector(".scroll")?.scrollLeft ?? 0;
    const heading = `Step ${view.line.step}, prompt ${view.line.prompt}`;
    parts.tree.replaceChildren(element("h2", { class: "task" }, heading), ...question(visible(tree.nodes[0].text.trim() || tree.task)),
      element("div", { class: "bar" }, choice("Colour", COLOURS, view.by, (value) => {
        view.by = value;
        showTree();
      }), legend()),
      drawing(tree, view, select), element("details", {}, element("summary", {}, "Budget of this tree"), budget([view.line])));
    if (scrolled) parts.tree.querySelector(".scroll").scrollLeft = scrolled;
    showDetails();
  }

  function showDetails() {
    parts.details.replaceChildren(details(tree, view, change));
  }

  function change(changes) {
    Object.assign(view, changes);
    showDetails();
  }

  // A large tree takes its time to be drawn, so that a step within it changes two marks only.
  function select(node) {
    change({ node, other: null });
    const mark = choose(parts.tree, node);
    mark.focus({ preventScroll: true });
    mark.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  async function open(wanted) {
    const line = run.prompts.find((one) => one.number === wanted);
    Object.assign(view, { line, step: line.step });
    try {
      const found = await source.tree(wanted);
      const vocabulary = found.vocabulary ?? view.vocabulary ?? await source.vocabulary();
      if (view.line !== line) return;
      tree = enriched(found);
      history.replaceState(null, "", `#${wanted}`);
      const decided = tree.nodes.find((node) => node.decision?.granted) ?? tree.nodes.find((node) => node.decision);
      Object.assign(view, { vocabulary, node: decided?.index ?? 0, other: null });
    } catch (error) {
      if (view.line !== line) return;
      tree = null;
      parts.tree.replaceChildren(element("p", { class: "fault", role: "alert" }, visible(`This tree cannot be shown: ${error.message}`)));
      parts.details.replaceChildren();
    }
    showCurve();
    showList();
    showTree();
  }

  function neighbour(key) {
    const found = prompts().map((one) => one.number);
    const next = found[found.indexOf(view.line?.number) + (key === "n" ? 1 : -1)];
    if (next !== undefined) open(next);
  }

  function otherStep(key) {
    const steps = stepsOf(run), step = steps[steps.indexOf(view.step) + (key === "]" ? 1 : -1)];
    if (step !== undefined) goTo(step);
  }

  async function goTo(step) {
    view.step = step;
    showCurve();
    showList();
    if (run.unread) {
      take(run, await source.step(step).catch(() => ({ prompts: [] })));
      if (view.step !== step) return;
      showList();
    }
    if (prompts().length) await open(prompts()[0].number);
  }

  async function absorb(found) {
    take(run, found);
    view.step ??= stepsOf(run)[0] ?? null;
    if (view.line && found.whole) view.line = run.prompts.find((one) => one.step === view.line.step && one.prompt === view.line.prompt) ?? view.line;
    showRun();
    if (found.metrics.length || found.whole) showCurve();
    if (found.whole || found.prompts.some((one) => one.step === view.step)) showList();
    if (!view.line && run.prompts.length) {
      const asked = Number(location.hash.slice(1));
      await open(run.prompts.some((one) => one.number === asked) ? asked : run.prompts[0].number);
    }
  }

  async function follow() {
    for (;;) {
      try {
        const found = await source.changes();
        if (found || head.querySelector(".fault")) await absorb(found ?? { prompts: [], metrics: [] });
      } catch {
        showRun("The server does not answer. What is shown stays; start arpo view again to see more.");
      }
    }
  }

  listen({ arrow: (key) => tree && select(moved(tree, view.node, key)), n: neighbour, p: neighbour, "]": otherStep, "[": otherStep,
    w: () => tree && change({ whole: !view.whole }) });
  await absorb({ whole: true, ...await source.index() });
  if (source.changes) follow();
}

function question(text) {
  if (text.length <= LONG) return [element("p", { class: "question" }, text)];
  return [element("p", { class: "question" }, `${text.slice(0, LONG)} …`), element("details", {},
    element("summary", {}, `The whole question (${text.length} characters)`), element("p", { class: "question", tabindex: 0 }, text))];
}

function legend() {
  return element("p", { class: "legend quiet" }, "width: leaves below · ",
    element("span", { class: "low" }, "■"), " below 0 ", element("span", { class: "high" }, "■"), " above 0 · ring: a fork was considered, thicker with entropy, stronger if it forked · ●\u00a0action ■\u00a0tool\u00a0result");
}
