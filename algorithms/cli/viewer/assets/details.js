// What is known of one node: why it forked or did not, its tool call and result, its tokens, its sibling.

import { choice, element, leavesOf, number, visible } from "./dom.js";
import { path } from "./model.js";
import { siblings } from "./siblings.js";
import { COLOURINGS, tokens } from "./tokens.js";

export function details(tree, view, change) {
  const node = tree.nodes[view.node];
  const all = view.whole ? path(tree, node.index) : [node];
  return element("section", { class: "details", "aria-label": "Details" },
    element("h2", {}, heading(node)), facts(node), why(node), call(tree, node),
    element("div", { class: "bar" },
      choice("Colour tokens by", COLOURINGS, view.tokens, (value) => change({ tokens: value })),
      element("button", { type: "button", "aria-pressed": String(view.whole), click: () => change({ whole: !view.whole }) },
        "Whole path")),
    ...all.map((one) => element("article", { class: "turn" },
      element("h3", {}, one.kind === "observation" ? "tool result" : one.kind), tokens(one, view.vocabulary, view.tokens),
      view.vocabulary ? null : element("pre", {}, visible(one.text)))),
    siblings(tree, node, view, (other) => change({ other })));
}

function heading(node) {
  const name = { prompt: "Question", action: "Action", observation: "Tool result" }[node.kind];
  return node.outcome ? `${name} · leaf ${node.ordinal}` : name;
}

function facts(node) {
  const list = [`${leavesOf(node)} below`, `success ${number(node.success)}`, `value ${number(node.value)}`,
    `group-relative reward ${number(node.relative)}`];
  if (node.outcome) list.push(`${node.outcome}: ${node.status}`, `reward ${number(node.total)}`);
  if (node.fault) list.push(visible(node.fault));
  if (node.origin) list.push(`path begins: ${node.origin}`);
  return element("p", { class: "facts" }, ...list.map((one) => element("span", {}, one)));
}

function why(node) {
  const decision = node.decision;
  if (!decision) return null;
  const said = decision.granted ? `Forked: ${decision.granted} of ${decision.asked} siblings asked for were granted.`
    : decision.asked ? `No fork: ${decision.asked} asked for, but the budget was spent.` : "No fork: none was asked for.";
  const rows = [["entropy before", number(decision.before, 3)], ["entropy after", number(decision.after, 3)],
    ["change", decision.before === null || decision.after === null ? "–" : number(decision.after - decision.before, 3)],
    ["probability of a fork", number(decision.probability)], ["asked", decision.asked], ["granted", decision.granted]];
  return element("section", { class: "why" }, element("h3", {}, "Why here?"), element("p", {}, said),
    element("dl", { class: "budget" }, ...rows.map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, String(value))))));
}

function call(tree, node) {
  if (!node.tool && !node.toolStatus) return null;
  const result = node.children.map((child) => tree.nodes[child]).find((child) => child.kind === "observation");
  return element("section", { class: "call" }, element("h3", {}, `Tool call: ${visible(node.tool || "none ran")} · ${visible(node.toolStatus || "–")}`),
    element("pre", { tabindex: 0, "aria-label": "What the model wrote" }, visible(node.text)),
    result ? element("pre", { tabindex: 0, class: "result", "aria-label": "Result" }, visible(result.text)) : null);
}
